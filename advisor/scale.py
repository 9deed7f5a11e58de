"""The scales on which losses are fitted.

The law: perplexity rises compressed, shares cut where they no longer mean anything. The bounds: losses in units of the
task's noise where they are small, by their logarithm where they are large, so that one spread fits both.
"""

import numpy as np
from numpy.typing import NDArray

KNEE_NATS = 0.1
"""Perplexity rises count linearly up to here and by their logarithm beyond."""
SHARE_RANGE = (-0.35, 1.15)
"""Shares of above-chance performance outside this range are noise around chance, or a broken harness."""

MOST_LOST = 1.3
"""Upper end of bounds on shares: below chance by 0.3 of what lay above it."""

Floats = NDArray[np.float64]


def compress(nats: Floats) -> Floats:
    """Perplexity rises on the scale on which they are fitted."""
    return np.arcsinh(np.maximum(nats, -KNEE_NATS) / KNEE_NATS) * KNEE_NATS


def target(loss: Floats, is_nll: NDArray[np.bool_]) -> Floats:
    """Losses on the scale of the fit."""
    return np.where(is_nll, compress(loss), np.clip(loss, *SHARE_RANGE))


def stretch(loss: Floats, noise: Floats) -> Floats:
    """Losses in units of noise near zero, logarithmic beyond; the noise is the task's, so order within a task is kept."""
    return np.arcsinh(loss / noise)


def unstretch(value: Floats, noise: Floats) -> Floats:
    """Back from `stretch`."""
    return noise * np.sinh(np.clip(value, -12.0, 12.0))
