"""Round to nearest: integers, FP8, MX and NVFP4 by hand; NF4 and FP4 through bitsandbytes' functions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from knowledge.errors import MissingDependencyError
from knowledge.recipes import QuantRecipe
from knowledge.schemes import QuantArgs
from measure.errors import NotApplicableError
from measure.presets import Protocol
from measure.quantizers import Applied
from measure.quantizers.apply import rewrite_weights
from measure.quantizers.fake import rounding_for
from measure.quantizers.fused import Rule
from measure.quantizers.targets import Target

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_INTEGER_BITS = range(2, 9)
_BITSANDBYTES_GROUPS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


def quantize(loaded: "LoadedModel", recipe: QuantRecipe, protocol: Protocol) -> Applied:
    """Round every target matrix to the recipe's format.

    Raises:
        NotApplicableError: a format without a rounding rule, or a granularity that it does not have.
        MissingDependencyError: NF4 or FP4 without bitsandbytes.
    """
    weights = recipe.scheme.weights
    if weights is None:
        return Applied(model=loaded.model)
    if weights.dtype == "nf" or (weights.dtype == "fp" and weights.num_bits == 4):
        return _four_bit_codes(loaded, weights, protocol)
    if weights.strategy not in ("group", "channel", "tensor") or (
        weights.dtype == "int" and weights.num_bits not in _INTEGER_BITS
    ):
        raise NotApplicableError(
            f"{recipe.scheme.weights_name} cannot be rounded here", given=recipe.name,
            allowed=["2 to 8 integer bits", "group, channel or tensor", "nf4", "fp4", "fp8", "mxfp4/6/8", "mxint", "nvfp4"],
        )  # fmt: skip
    rule = {"include_zero": protocol.range_includes_zero, "floor": protocol.scale_floor}

    def rounding(target: Target, group: int) -> Callable[[Tensor], Tensor]:
        if weights.strategy != "tensor":
            return rounding_for(weights, group, symmetric=bool(weights.symmetric), **rule)  # type: ignore[arg-type]

        def over_tensor(matrix: Tensor) -> Tensor:
            flat = matrix.reshape(1, -1)
            return rounding_for(weights, flat.shape[-1], symmetric=bool(weights.symmetric), **rule)(flat).reshape(matrix.shape)  # type: ignore[arg-type]

        return over_tensor

    def fused_rule(group: int) -> Rule:
        return Rule(args=weights, group=group, symmetric=bool(weights.symmetric), **rule)  # type: ignore[arg-type]

    applied = rewrite_weights(
        loaded, weights, protocol, rounding, rule=fused_rule,
        whole=weights.dtype == "nvfp" or weights.strategy == "tensor",
    )  # fmt: skip
    applied.conventions["weights"] = describe_format(weights, protocol)
    return applied


def describe_format(args: QuantArgs, protocol: Protocol) -> str:
    """The rules of a format that its name leaves open, in words, for the record."""
    if args.dtype == "int":
        if args.symmetric:
            return f"integer, step amax / (2^(b-1) - 1), floor {protocol.scale_floor:g}"
        zero = "contains 0" if protocol.range_includes_zero else "is [min, max]"
        return f"integer, step range / (2^b - 1), the range {zero}, integer zero point, floor {protocol.scale_floor:g}"
    return {
        "fp": "E4M3, float32 scale amax / 448",
        "mxfp": "OCP MX 1.0: scale 2^(floor(log2 amax) - emax), ties to even; 6 bits are E2M3, 8 bits E4M3",
        "mxint": "OCP MX 1.0: scale 2^floor(log2 amax), symmetric saturation",
        "nvfp": "E2M1 with E4M3 block scale and float32 tensor scale amax / (6 * 448)",
    }[args.dtype]


def _four_bit_codes(loaded: "LoadedModel", weights: QuantArgs, protocol: Protocol) -> Applied:
    try:
        import bitsandbytes.functional as codes
    except ImportError as error:
        raise MissingDependencyError.of("bitsandbytes", extra="measure", purpose="NF4 and FP4") from error
    kind = "nf4" if weights.dtype == "nf" else "fp4"
    if weights.num_bits != 4 or weights.group_size not in _BITSANDBYTES_GROUPS:
        raise NotApplicableError(
            f"bitsandbytes has no {kind} with groups of {weights.group_size}", given=f"g{weights.group_size}",
            allowed=[f"g{size}" for size in _BITSANDBYTES_GROUPS],
        )  # fmt: skip

    def rounding(target: Target, group: int) -> Callable[[Tensor], Tensor]:
        def through_codes(matrix: Tensor) -> Tensor:
            double = weights.type_name == "double_quant"
            packed, state = codes.quantize_4bit(
                matrix.contiguous(), blocksize=weights.group_size, quant_type=kind, compress_statistics=double
            )
            return codes.dequantize_4bit(packed, state).to(matrix.dtype).reshape(matrix.shape)

        return through_codes

    applied = rewrite_weights(loaded, weights, protocol, rounding, whole=True, flattened=True)
    applied.library = "bitsandbytes"
    applied.conventions["weights"] = f"{kind} codes of bitsandbytes, float32 absmax over the flattened matrix"
    return applied
