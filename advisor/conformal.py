"""Split-conformal correction of interval bounds, by kind of tensor and band of bits, that keeps bounds monotone.

Bounds from quantile forests hold on average at best. Conformalized quantile regression (Romano et al. 2019,
arXiv 1905.03222) moves each by the quantile of how far left-out figures lay outside. Here the quantile is taken by cell
(Mondrian: which of weights, activations and KV cache are quantized, and how coarsely), with the finite-sample correction
(n + 1) / n, and the shift is on the scale of `advisor.scale.stretch`: units of the task's noise for small losses, a factor
for large ones. Three corrections follow each other, each of what the ones before left:

1. by the height of the raw bound, a rising curve: small bounds are wrong in another way than large ones;
2. by type of task;
3. by cell, drawn towards none where few models stand behind it. A cell with few figures or models takes the wider of its own
   correction and that of all cells of its kind, for the upper bound; for the lower one, which would widen all smaller cells
   too, it borrows from its neighbours.

Cells are ordered: fewer bits of any tensor kind is a larger cell. Corrections of the upper bound are the largest over all
smaller cells, those of the lower bound the largest over all larger ones: both only widen, and a bound never improves
with fewer bits. The first correction leaves them little to do, so that 8-bit bounds need not be as wide as those of 2 bits.
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

LEVELS = 12
"""Heights of raw bounds that are told apart."""
_ROWS_PER_LEVEL = 100
_PULL_MODELS = 5
"""The correction of a cell counts as if so many models more had needed none."""

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

    lower_levels: Floats
    upper_levels: Floats
    """Raw bounds, rising, and what they become (2 x levels): linear in between, shifted alike beyond the ends."""
    lower: Floats
    upper: Floats
    count: Ints
    """Calibration figures of the cell itself."""
    group_lower: Floats
    group_upper: Floats
    """The same for each group of tasks; the last place is for groups without figures."""


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
    """Bounds after the corrections, on the scale of `advisor.scale.stretch`."""
    low, high = _relevel(lower, correction.lower_levels), _relevel(upper, correction.upper_levels)
    low = low - correction.lower[places.cell] - correction.group_lower[places.group]
    return low, high + correction.upper[places.cell] + correction.group_upper[places.group]


def conformalize(
    loss: Floats, lower: Floats, upper: Floats, places: Places, weights: Floats, clusters: NDArray[np.object_], level: float
) -> Correction:
    """The correction under which a share `level` of figures lies within its bounds, by height, by group, by cell.

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
    lower_levels = _by_level(lower, loss, weights, share, outwards=-1)
    upper_levels = _by_level(upper, loss, weights, share, outwards=1)
    lower, upper = _relevel(lower, lower_levels), _relevel(upper, upper_levels)
    group_lower = _by_group(lower - loss, places, weights, clusters, share)
    group_upper = _by_group(loss - upper, places, weights, clusters, share)
    lows, small = _by_cell(lower - group_lower[places.group] - loss, cell, weights, clusters, share)
    highs, _ = _by_cell(loss - upper - group_upper[places.group], cell, weights, clusters, share)
    lows[small] = -np.inf
    return Correction(
        lower_levels=lower_levels,
        upper_levels=upper_levels,
        lower=_hull(lows, upwards=False),
        upper=_hull(highs, upwards=True),
        count=np.bincount(cell, minlength=N_CELLS),
        group_lower=group_lower,
        group_upper=group_upper,
    )


def none(n_groups: int) -> Correction:
    """The correction that changes nothing, for `n_groups` types of task."""
    straight, cells, groups = np.zeros((2, 1)), np.zeros(N_CELLS), np.zeros(n_groups + 1)
    return Correction(
        lower_levels=straight, upper_levels=straight, lower=cells, upper=cells, count=np.zeros(N_CELLS, dtype=np.intp),
        group_lower=groups, group_upper=groups,
    )  # fmt: skip


def _by_level(raw: Floats, loss: Floats, weights: Floats, share: float, *, outwards: int) -> Floats:
    """What raw bounds become, by their height: knots of a curve that never falls, so that no order is disturbed.

    Args:
        raw: one side's bounds.
        loss: the figures.
        weights: weight of each.
        share: of figures that must lie on the inner side.
        outwards: 1 for the upper side, -1 for the lower one.
    """
    order = np.argsort(raw, kind="stable")
    levels = max(1, min(LEVELS, len(raw) // _ROWS_PER_LEVEL))
    place = np.searchsorted(np.cumsum(weights[order]), np.arange(1, levels) / levels * weights.sum())
    level = np.searchsorted(np.unique(raw[order][place]), raw, side="right")  # equal bounds share a level
    found = [np.flatnonzero(level == i) for i in np.unique(level)]
    knots = np.array([np.median(raw[rows]) for rows in found])
    moved = knots + outwards * np.array([quantile(outwards * (loss - raw)[rows], weights[rows], share) for rows in found])
    # Where the curve would fall, the outer of two values holds.
    rising = np.maximum.accumulate(moved) if outwards > 0 else np.minimum.accumulate(moved[::-1])[::-1]
    return np.stack([knots, rising])


def _relevel(raw: Floats, levels: Floats) -> Floats:
    """Raw bounds on the curve of `_by_level`."""
    knots, moved = levels
    beyond = np.minimum(raw - knots[0], 0.0) + np.maximum(raw - knots[-1], 0.0)
    return np.asarray(np.interp(raw, knots, moved) + beyond, dtype=np.float64)


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
        models = len(np.unique(clusters[rows]))
        own = quantile(scores[rows], weights[rows], share) * models / (models + _PULL_MODELS)
        small[c] = n < MIN_ROWS or models < MIN_CLUSTERS
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
