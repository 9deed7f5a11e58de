"""Noise of a difference between two runs on the same items."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from knowledge.measurements import Comparison


def se_of_comparison(comparison: Comparison) -> float | None:
    """Standard error behind a bootstrap interval: its width over that of the normal interval of one standard error."""
    if comparison.lower is None or comparison.upper is None or not 0 < comparison.level < 1:
        return None
    width = 2 * NormalDist().inv_cdf((1 + comparison.level) / 2)
    return max(comparison.upper - comparison.lower, 0.0) / width


def se_of_difference(
    values: Sequence[float], baseline: Sequence[float], weights: Sequence[float] | None = None
) -> float | None:
    """Standard error of the (weighted) mean of `values - baseline`; None for fewer than two items.

    Weighted: the linearized ratio estimator sqrt(n / (n - 1) * sum((w (d - mean))^2)) / sum(w) (Cochran, Sampling Techniques,
    3rd ed., section 6.3), which without weights is the sample standard deviation over the root of n.
    """
    difference = np.asarray(values, float) - np.asarray(baseline, float)
    if difference.size < 2:
        return None
    w = np.ones_like(difference) if weights is None else np.asarray(weights, float)
    if not w.sum() > 0:
        return None
    spread = w * (difference - np.average(difference, weights=w))
    return float(np.sqrt(difference.size / (difference.size - 1) * np.sum(spread**2)) / w.sum())
