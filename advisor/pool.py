"""Pooling: evidence for the very cell (model, recipe, task) with the prediction, by inverse variance.

A row of evidence carries two errors: that of its test items (`loss_se`) and that of its source (harness, prompt, calibration
data), which rows of one source share. So the rows of a source are averaged first, then the sources are weighted by
1 / (item variance + source variance), and the result is weighted against the prediction, whose variance is that of its
interval. What is wanted is the loss under the user's conditions. The user's own figures were measured under them and have no
source variance; so for equal items they weigh more than any published figure. Several runs are averaged by inverse variance,
but leave the error of one, because runs of one test answer the same items.

The prediction has seen the same rows when it was fitted; its interval comes from folds that left the whole family out, so
its variance is that of a prediction without them.

A recipe that quantizes weights and KV cache is seldom measured as such, its two parts often are. What evidence says of a
part beyond its prediction is carried over, on the assumption that the two losses add up.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from knowledge.evidence import UNKNOWN_ITEM_SE
from knowledge.values import value

Floats = npt.NDArray[np.float64]

Z90 = 1.6448536269514722
"""Half-width of a central 90 % interval of the standard normal."""


LEAST_OWN_SE = 0.003
"""Standard error that the user's own figures have at least: what batching and rounding alone make of a score."""


def expected_loss(point: Floats, lower: Floats, upper: Floats) -> Floats:
    """Mean of the loss, for an estimate that is likelier to be far too low than far too high.

    The three figures are taken as median and 90 % bounds of two half-normals that meet at the point, half of the weight
    each; the mean then lies `(sd_above - sd_below) / sqrt(2 pi)` off the point. Ranking by the mean keeps recipes from
    winning because nobody knows how badly they fare. A wider lower side is the noise of tests, not a gain that quantization
    may bring, so it does not pull the mean below the point.
    """
    skew = np.maximum((upper - point) - (point - lower), 0.0)
    return np.asarray(point + skew / Z90 / np.sqrt(2 * np.pi))


@value
class Cell:
    """All evidence for one recipe of the requested model on one task."""

    mean: float
    variance: float
    rows: tuple[int, ...]
    """Positions in the evidence columns."""
    n: int
    """Scores behind it: a position may stand for several."""


@value
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

    The two constants are estimated from cells that two sources measured (`advisor.source_noise`).
    """
    return floor + share * abs(loss)


def make_cell(columns: Mapping[str, npt.NDArray[np.generic]], rows: tuple[int, ...], *, floor: float, share: float) -> Cell:
    """The evidence of one recipe, model and task as one estimate.

    Args:
        columns: `source`, `loss`, `loss_se` and `own` (measured by the user, under the conditions asked for) of each score.
        rows: where their rows stand in the evidence.
        floor: see `source_deviation`.
        share: see `source_deviation`.
    """
    by_source: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for index, (source, own) in enumerate(zip(columns["source"], columns["own"], strict=True)):
        by_source["" if own else str(source), bool(own)].append(index)
    loss, error = columns["loss"].astype(float), columns["loss_se"].astype(float)
    error = np.where(np.isnan(error), UNKNOWN_ITEM_SE, error)
    means, precisions = [], []
    for (_, own), members in by_source.items():
        if own:
            mean, variance = _own_estimate(loss[members], error[members])
        else:
            mean = float(np.mean(loss[members]))
            item_variance = float(np.mean(error[members] ** 2)) / len(members)
            variance = item_variance + source_deviation(mean, floor=floor, share=share) ** 2
        means.append(mean)
        precisions.append(1.0 / variance)
    total = sum(precisions)
    mean = sum(value * precision for value, precision in zip(means, precisions, strict=True)) / total
    return Cell(mean=mean, variance=1.0 / total, rows=rows, n=len(loss))


def _own_estimate(loss: Floats, error: Floats) -> tuple[float, float]:
    """Mean and variance of the user's figures of one cell: the surer count more, and their errors go together."""
    error = np.maximum(error, LEAST_OWN_SE)
    total = float(np.sum(error**-2.0))
    return float(np.sum(loss / error**2)) / total, (float(np.sum(1 / error)) / total) ** 2


def pool(
    point: Floats,
    lower: Floats,
    upper: Floats,
    *,
    whole: Sequence[Cell | None],
    siblings: npt.ArrayLike = (),
) -> Pooled:
    """Pool predictions with evidence.

    Args:
        point: predicted loss of each candidate.
        lower: lower bound of its 90 % interval.
        upper: upper bound.
        whole: evidence for the very recipe of each candidate, or None.
        siblings: a row of three positions for each candidate with quantized weights and a quantized cache: its own, and
            those of the two candidates that quantize one of them alone (where both are candidates).
    """
    triples = np.asarray(siblings, dtype=np.int64).reshape(-1, 3)
    measured = np.array([cell is not None for cell in whole], dtype=bool)
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
    informed = ~measured[triples[:, 0]] & measured[triples[:, 1:]].any(axis=1)
    for index, *pair in triples[informed].tolist():
        found = tuple(cell for sibling in pair if (cell := whole[sibling]) is not None)
        # What evidence adds to the parts' predictions; their remaining variance shrinks the interval alike.
        shift = sum(pooled_point[sibling] - point[sibling] for sibling in pair)
        before = sum(variance[sibling] for sibling in pair)
        after = sum(variance[sibling] * (1 - weight[sibling]) for sibling in pair)
        scale = float(np.sqrt(after / before)) if before > 0 else 1.0
        # Quantizing both is no better than quantizing one, whatever the sum of two corrections says.
        pooled_point[index] = max(point[index] + shift, *(pooled_point[sibling] for sibling in pair))
        low[index] = pooled_point[index] - scale * (point[index] - lower[index])
        high[index] = pooled_point[index] + scale * (upper[index] - point[index])
        parts[index] = found
    return Pooled(point=pooled_point, lower=low, upper=high, evidence_weight=weight, cells=tuple(whole), parts=tuple(parts))
