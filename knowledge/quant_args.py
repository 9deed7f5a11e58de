"""How one kind of tensor is represented: the part of a scheme that weights, activations and KV cache have in common."""

from typing import Literal

from knowledge.errors import InvalidSchemeError
from knowledge.values import value

Dtype = Literal["int", "fp", "nf", "mxint", "mxfp", "nvfp", "codebook", "binary", "kquant"]
Strategy = Literal["tensor", "channel", "group", "block", "token", "cluster", "row"]

UNQUANTIZED_BITS = 16
"""Bits of a tensor that is not quantized; bf16 and fp16 are one thing here."""

BLOCK_GROUP: dict[str, int] = {"mxfp": 32, "nvfp": 16, "nf": 64}
"""Group length that is part of the format (OCP MX: 32; NVFP4: 16; bitsandbytes: 64)."""


@value
class QuantArgs:
    """How one tensor kind is represented; None means not stated.

    Vocabulary of compressed-tensors (`QuantizationArgs`), with the field's further number formats as `dtype`.
    """

    num_bits: float
    """Nominal bits of a code, scales not counted (2.5 and the like for mixes)."""
    dtype: Dtype = "int"
    strategy: Strategy | None = None
    """Over what one scale is shared: tensor, output channel, group along the input dimension, 2-D block, token."""
    group_size: int | None = None
    """Elements that share a scale, for strategy `group` (and `block`, the edge of the square)."""
    symmetric: bool | None = None
    dynamic: bool = False
    """Scales computed at run time (activations, KV cache) rather than stored."""
    type_name: str | None = None
    """Name of the storage type where bits do not determine it: a ggml type (`q8_0`), `double_quant`, `kivi`."""

    def __post_init__(self) -> None:
        if not 0 < self.num_bits <= UNQUANTIZED_BITS:
            raise InvalidSchemeError(
                f"{self.num_bits:g} bits cannot be", given=f"{self.num_bits:g}", allowed="more than 0, at most 16"
            )
        if self.strategy == "group" and (self.group_size is None or self.group_size < 1):
            raise InvalidSchemeError("a group needs a length of at least 1", given=str(self.group_size), allowed="g16 … g1024")
