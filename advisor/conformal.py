"""Split-conformal correction of interval bounds, by kind of tensor and band of bits, that keeps bounds monotone.

Bounds from quantile forests hold on average at best. Conformalized quantile regression (Romano et al. 2019,
arXiv 1905.03222) moves each by the quantile of how far left-out figures lay outside. Here the quantile is taken by cell
(Mondrian: which of weights, activations and KV cache are quantized, and how coarsely), with the finite-sample correction
(n + 1) / n, and the shift is on the scale of `advisor.scale.stretch`: units of the task's noise for small losses, a factor
for large ones. Before, every type of task is corrected alike. A cell with few
figures or few models takes the wider of its own correction and that of all cells of its kind, for the upper bound; for the
lower one, which would widen all smaller cells too, it borrows from its neighbours.

Cells are ordered: fewer bits of any tensor kind is a larger cell. Corrections of the upper bound are the largest over all
smaller cells, those of the lower bound the largest over all larger ones: both only widen, and a bound never improves
with fewer bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.features import Features, Floats
from knowledge.values import value

Ints = NDArray[np.intp]

W_BANDS = (16.0, 7.0, 4.5, 3.5, 2.5)
A_BANDS = (16.0, 7.0)
KV_BANDS = (16.0, 7.0, 3.5, 2.5)
"""Lower ends of the bands: 16 bits, 8, 5 to 6, 4, 3, and below for weights."""
SHAPE = (len(W_BANDS) + 1, len(A_BANDS) + 1, len(KV_BANDS) + 1)
N_CELLS = int(np.prod(SHAPE))

MIN_ROWS, MIN_CLUSTERS = 100, 6
"""A cell with less figures, or from less models, borrows the wider of its kind's correction and its own."""

_KIND_NAMES = ("weights", "activations", "KV cache")


def bands(features: Features) -> NDArray[np.intp]:
    """Band of weights, activations and KV cache of each row, 0 where left at 16 bits (n x 3)."""
    columns = (("w_bits", W_BANDS), ("a_bits", A_BANDS), ("kv_bits", KV_BANDS))
    return np.column_stack([np.sum(features.numbers[name][:, None] < np.array(ends), axis=1) for name, ends in columns])


def cells(features: Features) -> Ints:
    """Number of each row's cell."""
    return np.asarray(np.ravel_multi_index(tuple(bands(features).T), SHAPE), dtype=np.intp)


def cell_name(cell: int) -> str:
    """What a cell holds: `weights <4.5 bits, KV cache <7 bits`."""
    places = np.unravel_index(cell, SHAPE)
    ends = (W_BANDS, A_BANDS, KV_BANDS)
    parts = [f"{name} <{e[int(i) - 1]:g} bits" for name, i, e in zip(_KIND_NAMES, places, ends, strict=True) if i]
    return ", ".join(parts) or "not quantized"


@dataclass(frozen=True, kw_only=True)
class Correction:
    """How far bounds are moved outwards in each cell, on the scale of `advisor.scale.stretch`."""

    lower: Floats
    upper: Floats
    count: Ints
    """Calibration figures of the cell itself."""
    group_lower: Floats
    group_upper: Floats
    """The same for each group of tasks, made first; the last place is for groups without figures."""


@value
class Places:
    """Where rows belong: their cell, and the group (type) of their task."""

    cell: Ints
    group: Ints
    n_groups: int
    """Known groups; unknown ones have this number."""

    def take(self, rows: Ints | NDArray[np.bool_]) -> "Places":
        """The places of some rows."""
        return Places(cell=self.cell[rows], group=self.group[rows], n_groups=self.n_groups)


def widen(lower: Floats, upper: Floats, places: Places, correction: Correction) -> tuple[Floats, Floats]:
    """Bounds after the correction of their cell and group, on the scale of `advisor.scale.stretch`."""
    low = lower - correction.lower[places.cell] - correction.group_lower[places.group]
    return low, upper + correction.upper[places.cell] + correction.group_upper[places.group]


def conformalize(
    loss: Floats, lower: Floats, upper: Floats, places: Places, weights: Floats, clusters: NDArray[np.object_], level: float
) -> Correction:
    """The correction under which a share `level` of figures lies within its bounds, group by group, then cell by cell.

    Args:
        loss: the figures, none of which the bounds were fitted on, on the scale of `advisor.scale.stretch`.
        lower: bounds to correct, on that scale.
        upper: bounds to correct, on that scale.
        places: cell and group of each row.
        weights: weight of each row.
        clusters: rows of one cluster (a model) are not independent.
        level: share that must lie within; half of the rest on either side.
    """
    share, cell = 0.5 + level / 2, places.cell
    group_lower = _by_group(lower - loss, places, weights, clusters, share)
    group_upper = _by_group(loss - upper, places, weights, clusters, share)
    lows, small = _by_cell(lower - group_lower[places.group] - loss, cell, weights, clusters, share)
    highs, _ = _by_cell(loss - upper - group_upper[places.group], cell, weights, clusters, share)
    lows[small] = -np.inf
    return Correction(
        lower=_hull(lows, upwards=False),
        upper=_hull(highs, upwards=True),
        count=np.bincount(cell, minlength=N_CELLS),
        group_lower=group_lower,
        group_upper=group_upper,
    )


def _by_group(scores: Floats, places: Places, weights: Floats, clusters: NDArray[np.object_], share: float) -> Floats:
    """The correction of each group of tasks; it does not depend on the recipe, so no order is disturbed."""
    out = np.zeros(places.n_groups + 1)
    for group in range(places.n_groups):
        rows = places.group == group
        if rows.sum() >= MIN_ROWS and len(np.unique(clusters[rows])) >= MIN_CLUSTERS:
            out[group] = quantile(scores[rows], weights[rows], share)
    return out


def quantile(scores: Floats, weights: Floats, share: float) -> float:
    """Weighted quantile with the finite-sample correction (n + 1) / n; the largest score where n is too small for it."""
    n = len(scores)
    order = np.argsort(scores, kind="stable")
    total = np.cumsum(weights[order])
    place = int(np.searchsorted(total, min(share * (n + 1) / n, 1.0) * total[-1] * (1 - 1e-12)))
    return float(scores[order][min(place, n - 1)])


def _by_cell(
    scores: Floats, cell: Ints, weights: Floats, clusters: NDArray[np.object_], share: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Correction of each cell, -inf without figures; and which cells are too small for one of their own."""
    overall = quantile(scores, weights, share)
    kinds = np.array([_kind_of(c) for c in range(N_CELLS)])
    by_kind: dict[int, float] = {}
    for kind in np.unique(kinds):
        rows = kinds[cell] == kind
        enough = rows.sum() >= MIN_ROWS and len(np.unique(clusters[rows])) >= MIN_CLUSTERS
        by_kind[int(kind)] = quantile(scores[rows], weights[rows], share) if enough else overall
    out, small = np.empty(N_CELLS), np.zeros(N_CELLS, dtype=bool)
    for c in range(N_CELLS):
        rows = cell == c
        parent = by_kind[int(kinds[c])]
        n = int(rows.sum())
        if n == 0:
            out[c] = -np.inf
            continue
        own = quantile(scores[rows], weights[rows], share)
        small[c] = n < MIN_ROWS or len(np.unique(clusters[rows])) < MIN_CLUSTERS
        out[c] = max(own, parent) if small[c] else own
    return out, small


def _kind_of(cell: int) -> int:
    """Which of the three tensor kinds are quantized, as bits."""
    return sum(1 << i for i, place in enumerate(np.unravel_index(cell, SHAPE)) if place)


def _hull(correction: Floats, *, upwards: bool) -> Floats:
    """The largest correction over all smaller cells (`upwards`) or all larger ones; else the least of the others."""
    if np.isinf(correction).all():
        return np.zeros(N_CELLS)
    grid = correction.reshape(SHAPE)
    if not upwards:
        grid = np.flip(grid)
    for axis in range(3):
        grid = np.maximum.accumulate(grid, axis=axis)
    filled = np.flip(np.where(np.isinf(grid), np.inf, grid))
    for axis in range(3):
        filled = np.minimum.accumulate(filled, axis=axis)
    grid = np.where(np.isinf(grid), np.flip(filled), grid)
    return (grid if upwards else np.flip(grid)).reshape(-1)


def as_arrays(prefix: str, correction: Correction) -> dict[str, NDArray[np.generic]]:
    """A correction as named arrays, for a file."""
    return {f"{prefix}.{field.name}": getattr(correction, field.name) for field in fields(correction)}


def from_arrays(prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> Correction:
    """The correction that `as_arrays` wrote."""
    found: dict[str, Any] = {field.name: arrays[f"{prefix}.{field.name}"] for field in fields(Correction)}
    return Correction(**found)
