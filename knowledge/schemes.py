"""Number formats of a whole model: how weights, activations and the KV cache are represented.

A scheme says nothing about the algorithm that finds the values (`knowledge.recipes`) and nothing about a model
(`knowledge.memory`). It has a name that is read back to an equal scheme (`knowledge.scheme_names` has the grammar). What a
name does not state (group, symmetry) is None: unknown, never assumed.
"""

from functools import lru_cache

from knowledge.ggml import GGML_TYPES, GGUF_FILE_TYPES
from knowledge.quant_args import UNQUANTIZED_BITS, Dtype, QuantArgs, Strategy
from knowledge.scheme_names import FORMS, kv_name, parse_kv, read_name, weights_name
from knowledge.values import value

__all__ = [
    "FORMS", "UNQUANTIZED", "UNQUANTIZED_BITS", "Dtype", "QuantArgs", "QuantScheme", "Strategy", "parse_kv", "parse_scheme",
]  # fmt: skip


@value
class QuantScheme:
    """Number formats of weights, activations and KV cache; None = left at 16 bits.

    `file_type` names the container's own mix (`gguf:q4_k_m`, `exl2:4.0bpw`, `mlx:q4`), in which tensors differ.
    """

    weights: QuantArgs | None = None
    activations: QuantArgs | None = None
    kv_cache: QuantArgs | None = None
    file_type: str | None = None

    @property
    def w_bits(self) -> float:
        """Nominal weight bits, 16 where not quantized."""
        return self.weights.num_bits if self.weights else UNQUANTIZED_BITS

    @property
    def a_bits(self) -> float:
        """Nominal activation bits, 16 where not quantized."""
        return self.activations.num_bits if self.activations else UNQUANTIZED_BITS

    @property
    def kv_bits(self) -> float:
        """Nominal KV-cache bits, 16 where not quantized."""
        return self.kv_cache.num_bits if self.kv_cache else UNQUANTIZED_BITS

    @property
    def name(self) -> str:
        """The name that `parse_scheme` reads back to an equal scheme."""
        return self.weights_name + (f"-{kv_name(self.kv_cache)}" if self.kv_cache else "")

    @property
    def weights_name(self) -> str:
        """The name without its KV part: what a checkpoint on disk is called."""
        return weights_name(self.weights, self.activations, self.file_type)

    @property
    def kv_name(self) -> str:
        """The KV part alone (`kv8`, `kvq4_0`), `kv16` where the cache is not quantized."""
        return kv_name(self.kv_cache) if self.kv_cache else "kv16"

    @property
    def bits_per_weight(self) -> float:
        """Effective bits of one quantized weight: codes, scales and zero points (of an endless row).

        Tensors that stay at 16 bits are not counted: that takes a model, see `knowledge.memory`. Conventions by
        format as in `knowledge.memory` (16-bit scales per group; integer zero points of `num_bits`; NF4/FP4 with
        32-bit scales per 64, or 8-bit ones with double quantization; OCP MX 8-bit scale per block; NVFP4 8 bits per 16).
        A file type gives its base type's bits.
        """
        return _bits_per_weight(self)

    def with_kv(self, kv: QuantArgs | None) -> "QuantScheme":
        """The same weights and activations with another KV cache."""
        return QuantScheme(weights=self.weights, activations=self.activations, kv_cache=kv, file_type=self.file_type)

    def __str__(self) -> str:
        return self.name


UNQUANTIZED = QuantScheme()
"""16-bit weights, activations and KV cache: the baseline, named `w16a16`."""


@lru_cache(maxsize=8192)
def parse_scheme(text: str) -> QuantScheme:
    """The scheme that `text` names, without regard to case.

    Raises:
        InvalidSchemeError: the text is no scheme name; the message shows the forms.
    """
    formats, kv = read_name(text)
    return QuantScheme(weights=formats.weights, activations=formats.activations, kv_cache=kv, file_type=formats.file_type)


def _bits_per_weight(scheme: QuantScheme) -> float:
    weights = scheme.weights
    if scheme.file_type and scheme.file_type.startswith("gguf:"):
        base = scheme.file_type.removeprefix("gguf:").removesuffix("-pure")
        return GGML_TYPES[GGUF_FILE_TYPES[base].base_type].bits_per_weight
    if weights is None:
        return float(UNQUANTIZED_BITS)
    bits, group = weights.num_bits, weights.group_size
    if scheme.file_type:  # EXL2/EXL3 state their own mean; MLX stores a 16-bit scale and bias per group
        return bits + 32 / group if scheme.file_type.startswith("mlx:") and group else bits
    if weights.strategy != "group" or not group:
        return bits
    if weights.dtype == "nf" or (weights.dtype == "fp" and bits == 4):
        return bits + (8 + 32 / 256 if weights.type_name == "double_quant" else 32) / group
    if weights.dtype in ("mxfp", "mxint", "nvfp"):
        return bits + 8 / group
    return bits + (16 + (bits if weights.symmetric is False else 0)) / group
