"""Pooling: evidence for the very cell (model, recipe, task) with the prediction, by inverse variance.

A row of evidence carries two errors: that of its test items (`loss_se`) and that of its source (harness, prompt, calibration
data), which rows of one source share. So the rows of a source are averaged first, then the sources are weighted by
1 / (item variance + source variance), and the result is weighted against the prediction, whose variance is that of its
interval. The prediction has seen the same rows when it was fitted; its interval comes from folds that left the whole
family out, so its variance is that of a prediction without them.

A recipe that quantizes weights and KV cache is seldom measured as such, its two parts often are. What evidence says of a
part beyond its prediction is carried over, on the assumption that the two losses add up.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Z90 = 1.6448536269514722
"""Half-width of a central 90 % interval of the standard normal."""

UNKNOWN_ITEM_SE = 0.03
"""Standard error of a loss whose source does not state the number of items: that of a test of some 500 items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """All evidence for one recipe of the requested model on one task."""

    key: tuple[object, ...]
    mean: float
    variance: float
    rows: tuple[int, ...]
    """Positions in the evidence columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """Losses of all candidates on one task; arrays of one length."""

    point: Floats
    lower: Floats
    upper: Floats
    evidence_weight: Floats
    """Share of the estimate that is evidence for the very cell."""
    cells: tuple[Cell | None, ...]
    """The very cell's evidence, where there is any."""
    parts: tuple[tuple[Cell, ...], ...]
    """Evidence for the weight part and the KV part of a recipe that was not measured as a whole."""


def source_deviation(loss: float, *, floor: float, share: float) -> float:
    """Standard deviation between sources that measured one cell: `floor + share * |loss|`.

    The two constants are estimated from cells that two sources measured (`advisor.noise`).
    """
    return floor + share * abs(loss)


def make_cells(columns: Mapping[str, npt.NDArray[np.generic]], *, floor: float, share: float) -> dict[tuple[object, ...], Cell]:
    """Group evidence rows of one model and task into cells by their recipe key.

    Args:
        columns: `recipe_key`, `source`, `loss`, `loss_se` of each row.
        floor: see `source_deviation`.
        share: see `source_deviation`.
    """
    by_cell: dict[tuple[object, ...], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (key, source) in enumerate(zip(columns["recipe_key"], columns["source"], strict=True)):
        by_cell[key][str(source)].append(index)  # type: ignore[index]
    loss = columns["loss"].astype(float)
    error = np.where(np.isnan(columns["loss_se"].astype(float)), UNKNOWN_ITEM_SE, columns["loss_se"].astype(float))
    cells = {}
    for key, sources in by_cell.items():
        means, precisions = [], []
        for rows in sources.values():
            mean = float(np.mean(loss[rows]))
            item_variance = float(np.mean(error[rows] ** 2)) / len(rows)
            means.append(mean)
            precisions.append(1.0 / (item_variance + source_deviation(mean, floor=floor, share=share) ** 2))
        weights = np.array(precisions)
        cells[key] = Cell(
            key=key,
            mean=float(np.average(means, weights=weights)),
            variance=float(1.0 / weights.sum()),
            rows=tuple(sorted(row for rows in sources.values() for row in rows)),
        )
    return cells


def pool(
    point: Floats,
    lower: Floats,
    upper: Floats,
    *,
    whole: Sequence[Cell | None],
    siblings: Sequence[tuple[int, ...]],
) -> Pooled:
    """Pool predictions with evidence.

    Args:
        point: predicted loss of each candidate.
        lower: lower bound of its 90 % interval.
        upper: upper bound.
        whole: evidence for the very recipe of each candidate, or None.
        siblings: for a candidate with quantized weights and a quantized cache, the positions of the two candidates
            that quantize one of them alone (where both are candidates); otherwise empty.
    """
    sd = np.maximum((upper - lower) / (2 * Z90), 1e-9)
    pooled_point, variance = point.copy(), sd**2
    weight = np.zeros(len(point))
    low, high = lower.copy(), upper.copy()
    for index, cell in enumerate(whole):
        if cell is None:
            continue
        weight[index] = variance[index] / (variance[index] + cell.variance)
        pooled_point[index] = weight[index] * cell.mean + (1 - weight[index]) * point[index]
        half = Z90 * float(np.sqrt(variance[index] * cell.variance / (variance[index] + cell.variance)))
        low[index], high[index] = pooled_point[index] - half, pooled_point[index] + half
    parts: list[tuple[Cell, ...]] = [()] * len(point)
    for index, pair in enumerate(siblings):
        found = tuple(cell for sibling in pair if (cell := whole[sibling]) is not None)
        if whole[index] is not None or not found:
            continue
        # What evidence adds to the parts' predictions; their remaining variance shrinks the interval alike.
        shift = sum(pooled_point[sibling] - point[sibling] for sibling in pair)
        before = sum(variance[sibling] for sibling in pair)
        after = sum(variance[sibling] * (1 - weight[sibling]) for sibling in pair)
        scale = float(np.sqrt(after / before)) if before > 0 else 1.0
        pooled_point[index] = point[index] + shift
        low[index] = pooled_point[index] - scale * (point[index] - lower[index])
        high[index] = pooled_point[index] + scale * (upper[index] - point[index])
        parts[index] = found
    return Pooled(point=pooled_point, lower=low, upper=high, evidence_weight=weight, cells=tuple(whole), parts=tuple(parts))
