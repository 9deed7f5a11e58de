"""Groups that divide, and the bits that a quantized matrix would take in storage."""

from math import gcd

from knowledge.schemes import QuantArgs

_SMALLEST_USEFUL_GROUP = 16


def dividing_group(columns: int, group_size: int) -> int:
    """The group that is used for rows of `columns` elements where `group_size` was asked for.

    `group_size` itself where it divides; the whole row where that is shorter; else their greatest common divisor, which
    keeps the power of two that kernels like (Falcon-7B's 4544 with 128: 64); where that is below 16, the largest divisor
    of the row that is at most `group_size`.
    """
    if columns <= group_size:
        return columns
    common = gcd(columns, group_size)
    if common >= _SMALLEST_USEFUL_GROUP or common == group_size:
        return common
    return max(size for size in range(1, group_size + 1) if columns % size == 0)


def stored_bits(weights: QuantArgs, rows: int, columns: int, group: int) -> float:
    """Bits of a `rows` x `columns` matrix: codes, scales and zero points, after the conventions of `knowledge.schemes`.

    Integers: 16-bit scale, and a zero point of `num_bits` where asymmetric. NF4 and FP4: a 32-bit scale, or 8 bits and a
    32-bit scale per 256 of them with double quantization. OCP MX and NVFP4: an 8-bit scale. FP8: a 32-bit scale a group.
    """
    groups = rows * columns / group
    if weights.dtype == "nf" or (weights.dtype == "fp" and weights.num_bits == 4):
        scale = 8 + 32 / 256 if weights.type_name == "double_quant" else 32
    elif weights.dtype in ("mxfp", "mxint", "nvfp"):
        scale = 8.0
    elif weights.dtype == "fp":
        scale = 32.0
    else:
        scale = 16 + (weights.num_bits if weights.symmetric is False else 0)
    if weights.strategy == "tensor":
        groups = 1
    return rows * columns * weights.num_bits + groups * scale
