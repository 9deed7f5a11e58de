"""Scores of a forecast: weighted error, pair order, coverage and regret, with cluster-bootstrap intervals.

Rows of one model are not independent, so intervals resample models. Seeds are fixed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.features import Bools, Floats, Names

Ints = NDArray[np.intp]

RESAMPLES = 1000
SEED = 1
LEAST_DIFFERENCE = 0.02
"""Losses closer than this count as equal when pairs are ordered."""
_TIE = 1e-9
_MOST_IN_GROUP = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 90 % cluster-bootstrap interval."""

    value: float
    low: float
    high: float


def weighted_mean(values: Floats, weights: Floats, clusters: Names) -> Interval:
    """The weighted mean; clusters are drawn with replacement."""
    place = np.unique(clusters.astype(str), return_inverse=True)[1]
    top = np.bincount(place, weights=values * weights)
    bottom = np.bincount(place, weights=weights)
    if not bottom.sum() > 0:
        return Interval(value=np.nan, low=np.nan, high=np.nan)
    rng = np.random.default_rng(SEED)
    draws = rng.multinomial(len(top), np.full(len(top), 1 / len(top)), size=RESAMPLES)
    below = draws @ bottom
    means = (draws @ top)[below > 0] / below[below > 0]
    low, high = np.quantile(means, (0.05, 0.95))
    return Interval(value=float(top.sum() / bottom.sum()), low=float(low), high=float(high))


def weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """The value below which a share of the weight lies."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, share * total[-1])), len(values) - 1)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of recipes that one source measured on one model and task."""

    first: Ints
    second: Ints
    weights: Floats
    clusters: Names


def make_pairs(groups: Ints, loss: Floats, keep: Bools, clusters: Names) -> Pairs:
    """Pairs of rows of one group whose losses differ; a group of n rows weighs as n - 1 pairs, a model as the root of that.

    Args:
        groups: rows with one number are comparable; of more than 80 the first 80 are taken.
        loss: measured losses.
        keep: rows to use.
        clusters: models.
    """
    order = np.argsort(groups, kind="stable")
    order = order[keep[order]]
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    first, second, weights = [], [], []
    for rows in np.split(order, cuts):
        rows = rows[:_MOST_IN_GROUP]
        i, j = np.triu_indices(len(rows), 1)
        apart = np.abs(loss[rows[i]] - loss[rows[j]]) > LEAST_DIFFERENCE
        first.append(rows[i[apart]])
        second.append(rows[j[apart]])
        weights.append(np.full(int(apart.sum()), 2 / max(len(rows), 1)))
    a, b, w = np.concatenate(first), np.concatenate(second), np.concatenate(weights)
    names, place = np.unique(clusters[a].astype(str), return_inverse=True)
    per_model = np.bincount(place, weights=w, minlength=len(names))
    return Pairs(first=a, second=b, weights=w / np.sqrt(per_model[place]), clusters=clusters[a])


def pair_order(pairs: Pairs, loss: Floats, predicted: Floats, keep: Bools) -> Interval:
    """Share of pairs put in the measured order; equal predictions count half.

    Args:
        pairs: from `make_pairs`.
        loss: measured losses.
        predicted: predicted losses.
        keep: pairs to use.
    """
    a, b = pairs.first[keep], pairs.second[keep]
    gap = predicted[a] - predicted[b]
    hit = np.where(np.abs(gap) < _TIE, 0.5, (gap * (loss[a] - loss[b]) > 0).astype(np.float64))
    return weighted_mean(hit, pairs.weights[keep], pairs.clusters[keep])


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often figures lay within their bounds, in one group of rows."""

    group: str
    rows: int
    models: int
    share: Interval
    width: float
    """Mean width of the bounds: of scores, in a group that has scores and perplexities."""
    judged: bool
    """Whether there are enough rows and models to judge it."""

    level: float = 0.9
    """The share that ought to."""

    @property
    def holds(self) -> bool:
        """Whether the interval of the coverage contains the level."""
        return self.share.low <= self.level <= self.share.high


LEAST_ROWS, LEAST_MODELS = 300, 8


def coverage(
    group: str, rows: Ints, loss: Floats, lower: Floats, upper: Floats, weights: Floats, models: Names, *, is_nll: Bools
) -> Coverage:
    """Coverage and width over some rows."""
    inside = ((loss[rows] >= lower[rows]) & (loss[rows] <= upper[rows])).astype(np.float64)
    count = len(np.unique(models[rows].astype(str)))
    alike = rows[~is_nll[rows]] if (~is_nll[rows]).any() else rows
    total = weights[alike].sum()
    return Coverage(
        group=group, rows=len(rows), models=count, share=weighted_mean(inside, weights[rows], models[rows]),
        width=float((upper[alike] - lower[alike]) @ weights[alike] / total) if total > 0 else np.nan,
        judged=len(rows) >= LEAST_ROWS and count >= LEAST_MODELS,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Rows with about the same prediction: what was predicted, and what was measured."""

    rows: int
    predicted: float
    """Mean forecast."""
    lower: float
    """Mean bounds."""
    upper: float
    measured: float
    """Median of the measured losses."""
    measured_low: float
    """Their 5 % and 95 % quantiles."""
    measured_high: float
    inside: float
    """Share of the measured losses that lie within their own bounds."""


BINS = 12


def calibration(predicted: Floats, loss: Floats, lower: Floats, upper: Floats, weights: Floats) -> tuple[Bin, ...]:
    """Rows in bins of equal weight, from the smallest prediction to the largest."""
    order = np.argsort(predicted, kind="stable")
    share = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    out = []
    for number in range(BINS):
        rows = order[(share * BINS).astype(int) == number]
        if not len(rows):
            continue
        quantiles = [weighted_quantile(loss[rows], weights[rows], level) for level in (0.05, 0.5, 0.95)]
        means = [float(np.average(values[rows], weights=weights[rows])) for values in (predicted, lower, upper)]
        inside = (loss[rows] >= lower[rows]) & (loss[rows] <= upper[rows])
        out.append(
            Bin(
                rows=len(rows), predicted=means[0], lower=means[1], upper=means[2], measured=quantiles[1],
                measured_low=quantiles[0], measured_high=quantiles[2], inside=float(np.average(inside, weights=weights[rows])),
            )
        )  # fmt: skip
    return tuple(out)
