"""Weight formats that are offered: which scheme, by which method, in which checkpoint format.

What an engine could run is in the engine catalogue; this table says what is worth proposing. Names state what the format
fixes and leave open what it does not: AWQ, HQQ and quanto store a zero point (`-asym`), GPTQ checkpoints come both ways.
"""

from collections.abc import Iterator
from functools import cache

from knowledge.ggml import GGUF_FILE_TYPES
from knowledge.recipes import QuantMethod, find_method
from knowledge.schemes import QuantScheme, parse_scheme
from knowledge.values import value

_GROUPS = ("g128", "g64", "g32")

_ALIASES = frozenset({"f16", "q3_k", "q4_k", "q5_k"})
"""GGUF names that stand for another one of the list (`bf16`, `q4_k_m`, …)."""

_NEEDS_IMATRIX = ("iq", "q2_k_s")
"""GGUF types that llama.cpp makes with an importance matrix only, or is advised to (tools/quantize/README.md)."""

_WITHOUT_IMATRIX = frozenset({"bf16", "q8_0", "mxfp4"})
"""GGUF types whose values an importance matrix does not change enough to be told apart."""

_NOT_FOR_PLAIN_WEIGHTS = ("tq",)
"""Ternary GGUF types: for models trained with ternary weights."""


@value
class Offer:
    """One way to store the weights."""

    scheme: QuantScheme
    method: QuantMethod
    format: str
    """Checkpoint format, as in `knowledge.engines.EngineFormat.format`."""
    instead: bool = False
    """Offered only where no engine at hand reads the same scheme by the same method in an earlier format."""


_PLAIN: tuple[tuple[str, str, str], ...] = (
    ("safetensors", "w16a16", "none"),
    *(("gptq", f"w{bits}a16-{group}", "gptq") for bits in (8, 4, 3, 2) for group in (*_GROUPS, "channel")),
    *(("awq", f"w4a16-{group}-asym", "awq") for group in _GROUPS),
    *(("auto-round", f"w{bits}a16-{group}", "autoround") for bits in (4, 3, 2) for group in _GROUPS),
    *(("compressed-tensors", f"w4a16-{group}-asym", method) for group in _GROUPS for method in ("rtn", "awq")),
    *(("compressed-tensors", f"w4a16-{group}", "gptq") for group in (*_GROUPS, "channel")),
    *(("compressed-tensors", f"w8a16-{group}", method) for group in ("g128", "channel") for method in ("rtn", "gptq")),
    *(("compressed-tensors", "w8a8-channel", method) for method in ("rtn", "smoothquant", "gptq", "smoothquant+gptq")),
    *(("compressed-tensors", name, "rtn") for name in ("fp8-channel", "fp8-block", "fp8-tensor-astatic", "fp8a16-channel")),
    *(("compressed-tensors", name, method) for name in ("nvfp4", "nvfp4a16") for method in ("rtn", "gptq", "autoround")),
    *(("bitsandbytes", name, "rtn") for name in ("nf4", "nf4-dq", "fp4")),
    ("bitsandbytes", "w8a8-channel", "llm.int8"),
    *(("hqq", f"w{bits}a16-{group}-asym", "hqq") for bits in (8, 4, 3, 2) for group in ("g64", "g128")),
    *(("quanto", name, "quanto") for name in ("w8a16-channel", "fp8a16-channel", "w4a16-g128-asym", "w2a16-g128-asym")),
    *(("exl2", f"exl2:{bpw}bpw", "exl2") for bpw in ("8.0", "6.0", "5.0", "4.5", "4.0", "3.5", "3.0", "2.5")),
    *(("exl3", f"exl3:{bpw}bpw", "exl3") for bpw in ("8.0", "6.0", "5.0", "4.0", "3.5", "3.0", "2.5", "2.0")),
    *(("mlx", f"mlx:q{bits}", "rtn") for bits in (8, 6, 5, 4, 3, 2)),
    *(("mlx", "mlx:q4", method) for method in ("awq", "gptq")),
)

_INSTEAD: tuple[tuple[str, str, str], ...] = (
    *(("modelopt", name, "rtn") for name in ("fp8-tensor-astatic", "fp8-block", "fp8-channel", "nvfp4")),
    ("modelopt", "w4a16-g128-asym", "awq"),
    ("modelopt", "w4afp8-g128", "awq"),
    *(("fp-quant", name, method) for name in ("mxfp4", "nvfp4") for method in ("rtn", "mr-gptq")),
)


@cache
def all_offers() -> tuple[Offer, ...]:
    """Every offer, in a fixed order: the plain formats, GGUF, then the formats that stand in for others."""
    return (
        *(_offer(*row) for row in _PLAIN),
        *_gguf_offers(),
        *(_offer(*row, instead=True) for row in _INSTEAD),
    )


def _offer(checkpoint: str, scheme: str, method: str, *, instead: bool = False) -> Offer:
    return Offer(scheme=parse_scheme(scheme), method=find_method(method), format=checkpoint, instead=instead)


def _gguf_offers() -> Iterator[Offer]:
    """File types that llama.cpp's own rules make, rounded and, where it matters, with an importance matrix."""
    for name, file_type in GGUF_FILE_TYPES.items():
        if not file_type.known_mix or name in _ALIASES or name.startswith(_NOT_FOR_PLAIN_WEIGHTS):
            continue
        if name == "bf16":
            yield _offer("gguf", "gguf:bf16", "none")
            continue
        if not name.startswith(_NEEDS_IMATRIX):
            yield _offer("gguf", f"gguf:{name}", "rtn")
        if name not in _WITHOUT_IMATRIX:
            yield _offer("gguf", f"gguf:{name}", "imatrix")
