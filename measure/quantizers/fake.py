"""Fake quantization: round to a number format and scale back, along the last dimension. Pure torch, the same on every device.

Every function takes a tensor whose last dimension is divided by `group` and returns one of the same shape and dtype. The
arithmetic is in float32, whatever the dtype of the tensor.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from knowledge.schemes import QuantArgs
from measure.errors import NotApplicableError

Rounding = Callable[[Tensor], Tensor]

_BLOCK_ELEMENTS = {"cpu": 1 << 17}
"""Elements that are rounded at once on a kind of device: the float32 workspace of a block stays in a CPU's cache."""

_LARGE_BLOCK = 1 << 24
"""The same elsewhere: bounds the workspace to a few times 64 MiB."""

_FLOATS = {
    ("fp", 4): (2, 1, 6.0),
    ("mxfp", 4): (2, 1, 6.0),
    ("mxfp", 6): (2, 3, 7.5),
    ("mxfp", 8): (4, 3, 448.0),
    ("nvfp", 4): (2, 1, 6.0),
}
"""(format, bits) -> exponent bits, mantissa bits, largest value (OCP Microscaling Formats v1.0, section 5.3; MXFP6 as E2M3)."""

_E4M3_MAX = 448.0
_E4M3_SMALLEST = 2.0**-9


def accumulator(device: torch.device) -> torch.dtype:
    """The widest floating-point type of a device, for sums over whole tensors (Apple GPUs have no float64)."""
    return torch.float32 if device.type == "mps" else torch.float64


def fake_integer(
    x: Tensor, bits: float, group: int, *, symmetric: bool, include_zero: bool = True, floor: float = 1e-10
) -> Tensor:
    """Integers of `bits` bits, one step per group.

    Asymmetric: step (max - min) / (2^b - 1), offset round(-min / step) within the code range; with `include_zero` the range
    is widened to contain 0 (compressed-tensors), without it is the study's formula (arXiv 2402.18158, code).
    Symmetric: step amax / (2^(b-1) - 1), codes -2^(b-1) … 2^(b-1) - 1.
    """
    y = x.reshape(*x.shape[:-1], -1, group).float()
    if symmetric:
        top = 2 ** (bits - 1) - 1
        step = (y.abs().amax(-1, keepdim=True) / top).clamp_min(floor)
        out = (y / step).round_().clamp_(-top - 1, top).mul_(step)
    else:
        top = 2**bits - 1
        low, high = y.amin(-1, keepdim=True), y.amax(-1, keepdim=True)
        if include_zero:
            low, high = low.clamp_max(0), high.clamp_min(0)
        step = ((high - low) / top).clamp_min(floor)
        offset = (-low / step).round_().clamp_(0, top)
        out = (y / step).round_().add_(offset).clamp_(0, top).sub_(offset).mul_(step)
    return out.reshape(x.shape).to(x.dtype)


def round_to_float(x: Tensor, exponent_bits: int, mantissa_bits: int, largest: float) -> Tensor:
    """The nearest value of a small floating-point format, ties to the even mantissa, saturating; subnormals included."""
    exponent = _exponent(x).clamp_min(2 - 2 ** (exponent_bits - 1))
    step = _power_of_two(exponent - mantissa_bits)
    return ((x / step).round_() * step).clamp_(-largest, largest)


def _exponent(x: Tensor) -> Tensor:
    """floor(log2 |x|) of float32 values, read from their bits; -127 for zero and subnormal values."""
    return ((x.view(torch.int32) >> 23) & 0xFF) - 127


def _power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent as float32, exact, for whole exponents from -126 to 127; both far faster than frexp and ldexp."""
    return ((exponent + 127) << 23).view(torch.float32)


def fake_float8(x: Tensor, group: int) -> Tensor:
    """FP8 E4M3 with one float32 scale per group, amax / 448."""
    y = x.reshape(*x.shape[:-1], -1, group).float()
    scale = (y.abs().amax(-1, keepdim=True) / _E4M3_MAX).clamp_min(1e-12)
    return (round_to_float(y / scale, 4, 3, _E4M3_MAX) * scale).reshape(x.shape).to(x.dtype)


def cast_float8(x: Tensor) -> Tensor:
    """FP8 E4M3 without a scale: what an engine stores where a cache has no calibrated scales. Saturates at 448."""
    return round_to_float(x.float(), 4, 3, _E4M3_MAX).to(x.dtype)


def fake_microscaling(x: Tensor, dtype: str, bits: float, group: int) -> Tensor:
    """OCP MX block: a power-of-two scale per group and elements in a small float or integer format.

    Scale exponent: floor(log2(amax)) - emax of the element format (OCP Microscaling Formats v1.0, section 6.3). Integer
    elements of b bits have b - 2 fraction bits and saturate symmetrically.
    """
    y = x.reshape(*x.shape[:-1], -1, group).float()
    amax = y.abs().amax(-1, keepdim=True)
    exponent = _exponent(amax.clamp_min(2.0**-126))
    if dtype == "mxint":
        step = _power_of_two((exponent - int(bits) + 2).clamp_min(-126))
        top = 2 ** (bits - 1) - 1
        out = (y / step).round_().clamp_(-top, top) * step
    else:
        exponent_bits, mantissa_bits, largest = _element_format(dtype, bits)
        largest_exponent = math.frexp(largest)[1] - 1
        scale = _power_of_two((exponent - largest_exponent).clamp(-126, 127))
        out = round_to_float(y / scale, exponent_bits, mantissa_bits, largest) * scale
    return out.reshape(x.shape).to(x.dtype)


def fake_nvfp4(x: Tensor, group: int, *, tensor_scale: Tensor | None = None) -> Tensor:
    """NVFP4: E2M1 elements, an E4M3 scale per group, a float32 scale per tensor (amax / (6 * 448), or as given)."""
    y = x.reshape(*x.shape[:-1], -1, group).float()
    overall = nvfp4_tensor_scale(y.abs().amax()) if tensor_scale is None else tensor_scale
    block = (y.abs().amax(-1, keepdim=True) / 6 / overall).clamp(_E4M3_SMALLEST, _E4M3_MAX)
    scale = round_to_float(block, 4, 3, _E4M3_MAX) * overall
    return (round_to_float(y / scale, 2, 1, 6.0) * scale).reshape(x.shape).to(x.dtype)


def nvfp4_tensor_scale(largest: Tensor) -> Tensor:
    """The float32 scale of a tensor whose largest magnitude is `largest`."""
    return (largest / (6 * _E4M3_MAX)).clamp_min(1e-30)


def _element_format(dtype: str, bits: float) -> tuple[int, int, float]:
    found = _FLOATS.get((dtype, int(bits)))
    if found is None or int(bits) != bits:
        raise NotApplicableError(
            f"no element format {dtype}{bits:g}", given=f"{dtype}{bits:g}", allowed=["mxfp4", "mxfp6", "mxfp8", "mxint"]
        )
    return found


def rounding_for(args: QuantArgs, group: int, *, symmetric: bool, include_zero: bool = True, floor: float = 1e-10) -> Rounding:
    """The fake quantization that `args` describes, for rows divided by `group`.

    Raises:
        NotApplicableError: the format has no rounding rule here.
    """
    if args.dtype == "int" and args.num_bits == int(args.num_bits):
        return partial(
            fake_integer, bits=args.num_bits, group=group, symmetric=symmetric, include_zero=include_zero, floor=floor
        )
    if args.dtype == "fp" and args.num_bits == 8:
        return partial(fake_float8, group=group)
    if args.dtype in ("mxfp", "mxint"):
        if args.dtype == "mxfp":
            _element_format(args.dtype, args.num_bits)
        return partial(fake_microscaling, dtype=args.dtype, bits=args.num_bits, group=group)
    if args.dtype == "nvfp" and args.num_bits == 4:
        return partial(fake_nvfp4, group=group)
    raise NotApplicableError(
        f"no rounding rule for {args.dtype} at {args.num_bits:g} bits", given=f"{args.dtype}{args.num_bits:g}",
        allowed=["int2 … int8", "fp8", "mxfp4", "mxfp6", "mxfp8", "mxint", "nvfp4"],
    )  # fmt: skip


def block_rows(device: torch.device, columns: int) -> int:
    """Rows of `columns` elements that are worked on at once."""
    return max(1, _BLOCK_ELEMENTS.get(device.type, _LARGE_BLOCK) // max(1, columns))


def in_blocks(rounding: Rounding, matrix: Tensor, *, whole: bool = False) -> Tensor:
    """`rounding` of a matrix, some rows at a time to keep the workspace small; `whole` where rows depend on each other."""
    rows = block_rows(matrix.device, matrix.shape[-1])
    if whole or matrix.shape[0] <= rows:
        return rounding(matrix)
    out = torch.empty(matrix.shape, dtype=matrix.dtype, device=matrix.device)
    for block, place in zip(matrix.split(rows), out.split(rows), strict=True):
        place.copy_(rounding(block))
    return out
