"""HQQ (mobiusml/hqq): half-quadratic search of zero points without data, through the package's own quantizer."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from hqq.core.quantize import Quantizer
from torch import Tensor

from knowledge.recipes import QuantRecipe
from measure.errors import NotApplicableError
from measure.presets import Protocol
from measure.quantizers import Applied
from measure.quantizers.apply import rewrite_weights
from measure.quantizers.targets import Target

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_BITS = (8, 4, 3, 2)


def quantize(loaded: "LoadedModel", recipe: QuantRecipe, protocol: Protocol) -> Applied:
    """Quantize every target matrix with HQQ, groups along the input dimension (`axis=1`).

    Raises:
        NotApplicableError: bits that HQQ has no packing for, or a symmetric scheme (its zero points are searched).
    """
    weights = recipe.scheme.weights
    if weights is None or weights.dtype != "int" or weights.num_bits not in _BITS or weights.symmetric:
        raise NotApplicableError(
            "HQQ makes asymmetric integers", given=recipe.name, allowed=[f"w{bits}a16-g64-asym" for bits in _BITS]
        )
    bits = int(weights.num_bits)

    def rounding(target: Target, group: int) -> Callable[[Tensor], Tensor]:
        def searched(matrix: Tensor) -> Tensor:
            codes, meta = Quantizer.quantize(
                matrix.contiguous(), nbits=bits, group_size=group, axis=1, device=str(matrix.device), compute_dtype=matrix.dtype
            )
            return Quantizer.dequantize(codes, meta).reshape(matrix.shape).to(matrix.dtype)

        return searched

    applied = rewrite_weights(loaded, weights, protocol, rounding, whole=True)
    applied.library = "hqq"
    applied.conventions["weights"] = (
        "HQQ: searched real zero points, counted with the bits of a code; scale in the computing dtype"
    )
    return applied
