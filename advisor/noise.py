"""How much noise a number format puts on a tensor, before any method makes up for it.

The unit is `ln(noise / signal)` of a Gaussian tensor: the negative of Xu et al.'s SQNR (arXiv 2410.12119, in dB there)
times ln(10)/10, so that one bit is 1.386 and less is better. It puts formats with different codebooks, groups and
symmetries on one axis, and falls with every bit and every shorter group. Real tensors have heavier tails, which the law
(`advisor.law`) learns on top.
"""

import math
from functools import lru_cache
from itertools import pairwise

CLEAN = -24.0
"""Level of a tensor that is left at 16 bits; its damage is exactly zero whatever this figure."""

BIT = 2 * math.log(2)
"""Noise that one more bit takes away."""

CHANNEL_LENGTH = 4096
"""Elements of one output channel, where a scale is shared over a channel or a token: a typical hidden size."""
TENSOR_LENGTH = 2**24
"""Elements of one tensor, where a scale is shared over all of it."""

TAIL_PER_DOUBLING = 0.05
"""What each doubling of the group beyond 128 costs above the Gaussian value: outliers of real weights."""

_FLOAT_NOISE = ((16.0, -17.0), (8.0, -7.27), (6.0, -5.88), (5.0, -5.0), (4.0, -4.4), (3.0, -2.8), (2.0, -1.2))
"""Floating-point codes (E4M3, E3M2, E2M2, E2M1, …), simulated on 131,072 Gaussian values; hardly depends on the group."""
_NF4 = -4.77
_MX_PENALTY = 0.35
"""Scales that are powers of two lie up to one bit above the best one: half a bit of range, squared, on average."""
_KQUANT_OFFSET = 1.0
_CODEBOOK_OFFSET = 0.3
"""k-quants and learned codebooks against the rate-distortion bound exp(-1.386 bits); both search for the least error."""
_BINARY = math.log(1 - 2 / math.pi)


def group_length(group: float | None) -> float:
    """Elements that share a scale; `None` (not stated) counts as 128, -1 as a channel, 0 as a whole tensor."""
    if group is None or math.isnan(group):
        return 128.0
    return {-1.0: float(CHANNEL_LENGTH), 0.0: float(TENSOR_LENGTH)}.get(float(group), max(float(group), 1.0))


@lru_cache(maxsize=4096)
def noise_level(dtype: str, bits: float, group: float | None, symmetric: bool | None) -> float:
    """ln(noise / signal) of a format.

    Args:
        dtype: `int`, `fp`, `nf`, `mxint`, `mxfp`, `nvfp`, `kquant`, `codebook` or `binary`; anything else counts as `int`.
        bits: bits of a code; for `kquant` and `codebook` the effective bits per weight.
        group: elements that share a scale, -1 per channel or token, 0 per tensor, None not stated.
        symmetric: whether codes lie around zero; None counts as asymmetric.
    """
    if bits >= 16:
        return CLEAN
    length = group_length(group)
    tail = TAIL_PER_DOUBLING * max(0.0, math.log2(length / 128)) if length < TENSOR_LENGTH else TAIL_PER_DOUBLING * 8
    if dtype == "nf":
        return _NF4 + (4 - bits) * BIT + _gaussian_range(length, 64)
    if dtype == "nvfp":
        return _float_noise(bits) - 0.32
    if dtype == "mxfp":
        return _float_noise(bits) + 0.09
    if dtype == "fp":
        return _float_noise(bits) + (_gaussian_range(length, 64) + tail if bits <= 4 else 0.0)
    if dtype == "kquant":
        return -BIT * bits + _KQUANT_OFFSET
    if dtype == "codebook":
        return -BIT * bits + _CODEBOOK_OFFSET
    if dtype == "binary":
        return _BINARY + (1 - bits) * BIT
    return _integer_noise(bits, length, symmetric) + tail + (_MX_PENALTY if dtype == "mxint" else 0.0)


def _integer_noise(bits: float, length: float, symmetric: bool | None) -> float:
    """Uniform codes over the range of the group: step² / 12 over the variance."""
    if symmetric:
        levels, spread = max(2**bits - 2, 1.0), 2 * _largest(2 * length)
    else:
        levels, spread = max(2**bits - 1, 1.0), 2 * _largest(length)
    return 2 * math.log(spread / levels) - math.log(12)


def _largest(n: float) -> float:
    """Expected largest of `n` standard normal values (Cramér's expansion, within 2 % from n = 8 on)."""
    root = math.sqrt(2 * math.log(max(n, 8.0)))
    return root - (math.log(math.log(max(n, 8.0))) + math.log(4 * math.pi) - 2 * 0.5772) / (2 * root)


def _gaussian_range(length: float, reference: float) -> float:
    return 2 * math.log(_largest(length) / _largest(reference))


def _float_noise(bits: float) -> float:
    """Noise of a floating-point code, straight between the simulated ones."""
    for (more, low), (less, high) in pairwise(_FLOAT_NOISE):
        if bits >= less:
            return low + (high - low) * (more - min(bits, more)) / (more - less)
    return _FLOAT_NOISE[-1][1]
