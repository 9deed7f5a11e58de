"""optimum-quanto's data-free weight types: qint8 and qfloat8 per channel, qint4 and qint2 in groups.

Through the package's own scale search and rounding operators on a matrix, not through its packed tensors: those compile a
C++ extension at first use, and give the same values.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from optimum.quanto import AbsmaxOptimizer, MaxOptimizer, qfloat8_e4m3fn, qint2, qint4, qint8
from torch import Tensor

from knowledge.recipes import QuantRecipe
from measure.errors import NotApplicableError
from measure.presets import Protocol
from measure.quantizers import Applied
from measure.quantizers.apply import rewrite_weights
from measure.quantizers.targets import Target

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_TYPES = {
    ("int", 8, "channel"): qint8,
    ("fp", 8, "channel"): qfloat8_e4m3fn,
    ("int", 4, "group"): qint4,
    ("int", 2, "group"): qint2,
}


def quantize(loaded: "LoadedModel", recipe: QuantRecipe, protocol: Protocol) -> Applied:
    """Quantize every target matrix to one of quanto's weight types.

    Raises:
        NotApplicableError: a format that quanto has no type for.
    """
    weights = recipe.scheme.weights
    qtype = _TYPES.get((weights.dtype, int(weights.num_bits), str(weights.strategy))) if weights else None
    if (
        weights is None
        or qtype is None
        or bool(weights.symmetric) != (weights.strategy == "channel" and weights.dtype == "int")
    ):
        raise NotApplicableError(
            f"quanto has no type for {recipe.scheme.weights_name}", given=recipe.name,
            allowed=["w8a16-channel-sym", "fp8a16", "w4a16-g128-asym", "w2a16-g128-asym"],
        )  # fmt: skip

    def rounding(target: Target, group: int) -> Callable[[Tensor], Tensor]:
        return _symmetric if weights.strategy == "channel" else lambda matrix: _affine(matrix, group)

    def _symmetric(matrix: Tensor) -> Tensor:
        scale = AbsmaxOptimizer()(matrix, qtype=qtype, axis=0)
        codes = torch.ops.quanto.quantize_symmetric(matrix, dtype=qtype.dtype, axis=0, scale=scale)
        return codes.to(matrix.dtype) * scale

    def _affine(matrix: Tensor, group: int) -> Tensor:
        scale, shift = MaxOptimizer()(matrix, qtype=qtype, axis=0, group_size=group)
        codes = torch.ops.quanto.quantize_affine(matrix, bits=qtype.bits, axis=0, group_size=group, scale=scale, shift=shift)
        return (codes.to(matrix.dtype) * scale - shift).reshape(matrix.shape)

    applied = rewrite_weights(loaded, weights, protocol, rounding, whole=True)
    applied.library = "optimum-quanto"
    applied.conventions["weights"] = f"quanto {qtype.name}: " + (
        "step amax / qmax" if weights.strategy == "channel" else "real shift min, counted with the bits of a code"
    )
    return applied
