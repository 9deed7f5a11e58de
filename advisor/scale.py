"""The scale on which losses are fitted: perplexity rises compressed, shares cut where they no longer mean anything."""

import numpy as np
from numpy.typing import NDArray

KNEE_NATS = 0.1
"""Perplexity rises count linearly up to here and by their logarithm beyond."""
SHARE_RANGE = (-0.35, 1.15)
"""Shares of above-chance performance outside this range are noise around chance, or a broken harness."""

Floats = NDArray[np.float64]


def compress(nats: Floats) -> Floats:
    """Perplexity rises on the scale on which they are fitted."""
    return np.arcsinh(np.maximum(nats, -KNEE_NATS) / KNEE_NATS) * KNEE_NATS


def expand(value: Floats) -> Floats:
    """Back from `compress`."""
    return KNEE_NATS * np.sinh(np.minimum(value, 1.5) / KNEE_NATS)


def target(loss: Floats, is_nll: NDArray[np.bool_]) -> Floats:
    """Losses on the scale of the fit."""
    return np.where(is_nll, compress(loss), np.clip(loss, *SHARE_RANGE))
