"""Standard errors and the paired bootstrap; numpy only, seeded, None where a figure is not defined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Mean difference of two runs on the same samples, with a percentile interval."""

    delta: float
    lower: float | None
    upper: float | None
    level: float
    resamples: int
    n: int


def weighted_mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Mean of `values`, each counted `weights` times.

    Raises:
        ValueError: no values.
    """
    if len(values) == 0:
        raise ValueError("the mean of no values is not defined")
    return float(np.average(np.asarray(values, float), weights=None if weights is None else np.asarray(weights, float)))


def standard_error(values: Sequence[float], weights: Sequence[float] | None = None) -> float | None:
    """Standard error of `weighted_mean(values, weights)`; None for fewer than two values.

    Unweighted: sample standard deviation over the root of n. Weighted: the linearized ratio estimator
    sqrt(n / (n - 1) * sum((w (x - mean))^2)) / sum(w) (Cochran, Sampling Techniques, 3rd ed., section 6.3).
    """
    x = np.asarray(values, float)
    if x.size < 2:
        return None
    w = np.ones_like(x) if weights is None else np.asarray(weights, float)
    spread = w * (x - np.average(x, weights=w))
    return float(np.sqrt(x.size / (x.size - 1) * np.sum(spread**2)) / w.sum())


def paired_bootstrap(
    values: Sequence[float],
    baseline: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> PairedDifference:
    """Mean of `values - baseline` over samples, with the percentile interval of resampled samples.

    Resampling whole samples keeps each pair together, so that the noise which both runs share cancels (Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 13). The bounds are None for fewer than two samples.

    Raises:
        ValueError: unequal lengths, or no samples.
    """
    if len(values) != len(baseline) or len(values) == 0:
        raise ValueError(f"paired samples need equal, positive numbers: {len(values)} and {len(baseline)}")
    difference = np.asarray(values, float) - np.asarray(baseline, float)
    w = np.ones_like(difference) if weights is None else np.asarray(weights, float)
    delta = float(np.average(difference, weights=w))
    if difference.size < 2:
        return PairedDifference(delta=delta, lower=None, upper=None, level=level, resamples=resamples, n=difference.size)
    means = _resampled_means(difference, w, np.random.default_rng(seed), resamples)
    lower, upper = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return PairedDifference(
        delta=delta, lower=float(lower), upper=float(upper), level=level, resamples=resamples, n=difference.size
    )


def _resampled_means(values: Floats, weights: Floats, rng: np.random.Generator, resamples: int, block: int = 1 << 22) -> Floats:
    """Weighted means of `resamples` draws with replacement, in blocks of at most `block` indices so that memory stays small."""
    rows = max(1, block // values.size)
    parts = []
    for start in range(0, resamples, rows):
        chosen = rng.integers(0, values.size, size=(min(rows, resamples - start), values.size))
        w = weights[chosen]
        total = w.sum(axis=1)
        parts.append((values[chosen] * w).sum(axis=1) / np.where(total > 0, total, 1.0))
    return np.concatenate(parts)


def bootstrap_error(
    statistic: Callable[[Sequence[float], Sequence[float]], float],
    one: Sequence[float],
    two: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 500,
) -> float | None:
    """Standard error of a statistic of paired columns over resampled rows; None for fewer than two rows."""
    if len(one) != len(two) or len(one) < 2:
        return None
    rng = np.random.default_rng(seed)
    first, second = np.asarray(one, float), np.asarray(two, float)
    draws = (rng.integers(0, first.size, size=first.size) for _ in range(resamples))
    return float(np.std([statistic(first[rows], second[rows]) for rows in draws], ddof=1))  # type: ignore[arg-type]


def flip_rate(correct: Sequence[float], baseline: Sequence[float]) -> float:
    """Share of items that are right in exactly one of two runs (arXiv 2407.09141, section 3).

    Raises:
        ValueError: unequal lengths, or no items.
    """
    if len(correct) != len(baseline) or len(correct) == 0:
        raise ValueError(f"flips need equal, positive numbers of items: {len(correct)} and {len(baseline)}")
    return float(np.mean((np.asarray(correct) > 0.5) != (np.asarray(baseline) > 0.5)))


def expected_calibration_error(confidence: Sequence[float], correct: Sequence[float], *, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over `bins` equal-width bins, by their share of items (arXiv 1706.04599, eq. 3).

    Raises:
        ValueError: unequal lengths, or no items.
    """
    if len(confidence) != len(correct) or len(confidence) == 0:
        raise ValueError("calibration needs one confidence for each item, and an item at least")
    p, y = np.asarray(confidence, float), np.asarray(correct, float)
    index = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[index == b].mean() - y[index == b].mean()) * np.mean(index == b) for b in np.unique(index)]
    return float(np.sum(gaps))
