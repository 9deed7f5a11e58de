"""ggml tensor types and GGUF file types: block layouts, nominal bits and the base type of each mix.

Block sizes as in gguf-py's `GGML_QUANT_SIZES` (ggml-org/llama.cpp, `ggml/src/ggml-common.h`); the further types of
ik_llama.cpp (`iq4_ks`, `iq2_kt`, `q6_0`, …) from ikawrakow/ik_llama.cpp@8337e4c.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GgmlType:
    """One storage type: a block of `block` elements takes `bytes` bytes; a row never shares a block with the next."""

    block: int
    bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of one element, scales included."""
        return self.bytes * 8 / self.block


GGML_TYPES: dict[str, GgmlType] = {
    "f32": GgmlType(1, 4),
    "f16": GgmlType(1, 2),
    "bf16": GgmlType(1, 2),
    "q4_0": GgmlType(32, 18),
    "q4_1": GgmlType(32, 20),
    "q5_0": GgmlType(32, 22),
    "q5_1": GgmlType(32, 24),
    "q6_0": GgmlType(32, 26),
    "q8_0": GgmlType(32, 34),
    "q2_k": GgmlType(256, 84),
    "q3_k": GgmlType(256, 110),
    "q4_k": GgmlType(256, 144),
    "q5_k": GgmlType(256, 176),
    "q6_k": GgmlType(256, 210),
    "iq1_s": GgmlType(256, 50),
    "iq1_m": GgmlType(256, 56),
    "iq2_xxs": GgmlType(256, 66),
    "iq2_xs": GgmlType(256, 74),
    "iq2_s": GgmlType(256, 82),
    "iq3_xxs": GgmlType(256, 98),
    "iq3_s": GgmlType(256, 110),
    "iq4_xs": GgmlType(256, 136),
    "iq4_nl": GgmlType(32, 18),
    "tq1_0": GgmlType(256, 54),
    "tq2_0": GgmlType(256, 66),
    "mxfp4": GgmlType(32, 17),
    "nvfp4": GgmlType(64, 36),
    "i8": GgmlType(1, 1),
    "i16": GgmlType(1, 2),
    "i32": GgmlType(1, 4),
    "i64": GgmlType(1, 8),
    "f64": GgmlType(1, 8),
}

FileTypeDtype = Literal["int", "kquant", "codebook", "mxfp", "fp"]


@dataclass(frozen=True, slots=True)
class GgufFileType:
    """A GGUF file type (`q4_k_m`): its base tensor type and what it counts as in evidence.

    `bits` and `dtype` are the nominal format by which evidence is compared; `known_mix` is False where llama.cpp's
    own rules do not give the tensor types (ik_llama.cpp, per-tensor recipes), so that no size can be computed.
    """

    base_type: str
    bits: float
    dtype: FileTypeDtype
    group_size: int
    symmetric: bool | None = None
    known_mix: bool = True


def _k(base: str, bits: int) -> GgufFileType:
    return GgufFileType(base, bits, "kquant", {2: 16, 3: 16, 4: 32, 5: 32, 6: 16}[bits])


def _iq(base: str, bits: int, group: int = 32) -> GgufFileType:
    return GgufFileType(base, bits, "codebook", group)


def _other(base: str, bits: int, dtype: FileTypeDtype = "codebook") -> GgufFileType:
    return GgufFileType(base, bits, dtype, 32, known_mix=False)


GGUF_FILE_TYPES: dict[str, GgufFileType] = {
    "f16": GgufFileType("f16", 16, "fp", 1),
    "bf16": GgufFileType("bf16", 16, "fp", 1),
    "q8_0": GgufFileType("q8_0", 8, "int", 32, True),
    "q6_k": _k("q6_k", 6),
    "q6_k_l": _k("q6_k", 6),
    "q5_k": _k("q5_k", 5),
    "q5_k_s": _k("q5_k", 5),
    "q5_k_m": _k("q5_k", 5),
    "q5_k_l": _k("q5_k", 5),
    "q5_0": GgufFileType("q5_0", 5, "int", 32, True),
    "q5_1": GgufFileType("q5_1", 5, "int", 32, False),
    "q4_k": _k("q4_k", 4),
    "q4_k_s": _k("q4_k", 4),
    "q4_k_m": _k("q4_k", 4),
    "q4_k_l": _k("q4_k", 4),
    "q4_0": GgufFileType("q4_0", 4, "int", 32, True),
    "q4_1": GgufFileType("q4_1", 4, "int", 32, False),
    "iq4_nl": _iq("iq4_nl", 4),
    "iq4_xs": _iq("iq4_xs", 4),
    "q3_k": _k("q3_k", 3),
    "q3_k_s": _k("q3_k", 3),
    "q3_k_m": _k("q3_k", 3),
    "q3_k_l": _k("q3_k", 3),
    "q3_k_xl": _k("q3_k", 3),
    "iq3_m": _iq("iq3_s", 3),
    "iq3_s": _iq("iq3_s", 3),
    "iq3_xs": _iq("iq3_s", 3),
    "iq3_xxs": _iq("iq3_xxs", 3),
    "q2_k": _k("q2_k", 2),
    "q2_k_s": _k("q2_k", 2),
    "q2_k_l": _k("q2_k", 2),
    "iq2_m": _iq("iq2_s", 2),
    "iq2_s": _iq("iq2_xs", 2),
    "iq2_xs": _iq("iq2_xs", 2),
    "iq2_xxs": _iq("iq2_xxs", 2),
    "iq1_m": _iq("iq1_m", 1),
    "iq1_s": _iq("iq1_s", 1),
    "tq1_0": GgufFileType("tq1_0", 1.6, "codebook", 256),
    "tq2_0": GgufFileType("tq2_0", 2, "codebook", 256),
    "mxfp4": GgufFileType("mxfp4", 4, "mxfp", 32),
    # Types and mixes whose per-tensor recipe llama.cpp's rules do not give: known in evidence, never recommended.
    "q6_0": GgufFileType("q6_0", 6, "int", 32, True, known_mix=False),
    "q8_kv": GgufFileType("q8_0", 8, "int", 32, True, known_mix=False),
    "iq4_ks": _other("iq4_xs", 4),
    "smol-iq4_ks": _other("iq4_xs", 4),
    "iq4_ks-mix": _other("iq4_xs", 4),
    "mix-iq4_k": _other("iq4_xs", 4),
    "iq4_kt": _other("iq4_xs", 4),
    "iq3_k": _other("iq3_s", 3),
    "iq3_kt": _other("iq3_s", 3),
    "iq2_kt": _other("iq2_xs", 2),
    "iqk-4": _other("iq3_s", 3),
    "iqk-5": _other("iq3_s", 3),
    "iqk-6": _other("iq4_xs", 4),
    "iq1": _other("iq1_s", 1),
    "ud-q4_k_xl": _other("q4_k", 4, "kquant"),
    "q2_k_s+q4_k_s": GgufFileType("q2_k", 3.5, "kquant", 16, known_mix=False),
}
