"""llama.cpp's rules for the type of each tensor in a GGUF file: which layers get more bits than the base type.

From ggml-org/llama.cpp `src/llama-quant.cpp` (007dbbf; the same rules in JohannesGaessler/llama.cpp@5a44f27), older ones from
the history kept in ikawrakow/ik_llama.cpp@8337e4c. A plan lists pairs of (layers, type); a layer takes the first pair that
selects it, and the base type where none does.
"""

from functools import lru_cache

from knowledge.ggml import GGML_TYPES
from knowledge.values import value

Plan = tuple[tuple[str, str], ...]
"""Pairs of selector and type. Selectors: `all`, `first2`, `first4`, `eighth` (i < n/8), `sixteenth`, `middle`
(n/8 <= i < 7n/8), `more` (i < n/8, i >= 7n/8, or every third layer between)."""


@value
class MixContext:
    """What the rules look at besides a tensor's name."""

    file_type: str
    base: str
    architecture: str
    layers: int
    heads_per_kv: int
    experts: int
    imatrix: bool
    made: str
    """Date of the llama.cpp version that made the file, ISO; `9999` = today's rules."""

    @property
    def model_70b(self) -> bool:
        """llama.cpp's model type 70B: 80 layers with shared KV heads."""
        return self.layers == 80 and self.heads_per_kv > 1 and self.architecture in ("llama", "qwen2")


LOW_BIT = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m")
"""File types with rules of their own."""

_V: dict[str, Plan] = {
    "q3_k_m": (("first2", "q5_k"), ("all", "q4_k")),
    "q3_k_l": (("all", "q5_k"),),
    "q4_k_s": (("first4", "q5_k"),),
    "q4_k_m": (("more", "q6_k"),),
    "q5_k_m": (("more", "q6_k"),),
    "iq3_m": (("all", "q4_k"),),
}
_V_SHARED = {
    "q2_k": "q4_k",
    "q2_k_s": "q4_k",
    "iq3_xxs": "q4_k",
    "iq3_xs": "q4_k",
    "iq3_s": "q4_k",
    "iq4_nl": "q5_k",
    "iq4_xs": "q5_k",
}
"""attn_v where four or more query heads share a KV head."""
_DOWN: dict[str, Plan] = {
    "q2_k": (("all", "q3_k"),),
    "q2_k_s": (("eighth", "q4_k"),),
    "q3_k_m": (("sixteenth", "q5_k"), ("all", "q4_k")),
    "q3_k_l": (("all", "q5_k"),),
    "q4_k_s": (("eighth", "q5_k"),),
    "q4_k_m": (("more", "q6_k"),),
    "q5_k_m": (("more", "q6_k"),),
    "iq3_m": (("eighth", "q4_k"),),
}
_DOWN_FALCON: dict[str, Plan] = {
    "q2_k": (("all", "q3_k"),),
    "q2_k_s": (("eighth", "q4_k"),),
    "q3_k_m": (("sixteenth", "q5_k"), ("more", "q4_k")),
    "q3_k_l": (("all", "q4_k"),),
    "q4_k_m": (("sixteenth", "q6_k"), ("more", "q5_k")),
    "q5_k_m": (("more", "q6_k"),),
    "iq3_m": (("eighth", "q4_k"),),
}
_DOWN_NO_IMATRIX: dict[str, Plan] = {
    "iq3_xxs": (("eighth", "q4_k"), ("all", "q3_k")),
    "iq4_nl": (("eighth", "q5_k"),),
    "iq4_xs": (("eighth", "q5_k"),),
}
_DOWN_IMATRIX: dict[str, Plan] = {"q4_0": (("eighth", "q4_1"),), "q5_0": (("eighth", "q5_1"),)}
_OUTPUT = {"q2_k": "q3_k", "iq3_xxs": "iq3_s", "q3_k_m": "q4_k", "q3_k_l": "q5_k", "iq3_m": "q4_k"}
_OUTPUT_EIGHT = ("q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m", "iq3_xxs", "iq3_xs", "iq3_s", "iq3_m", "iq4_nl", "iq4_xs")
_QKV = {"q3_k_m": "q4_k", "q3_k_l": "q4_k", "iq3_m": "q4_k", "q4_k_m": "q5_k", "q5_k_m": "q6_k"}
_QUERY_KEY = {"iq3_xxs": "iq2_s", "iq3_xs": "iq3_xxs"}

MIXTRAL = "2023-12-13"
"""llama.cpp pull request 4406: eight experts known; their matrices were still called `ffn_down.N` and matched no rule."""
EXPERT_RULES = "2024-01-11"
"""Pull request 4872: the FFN rules match experts; today's Q2_K; fixed counts of layers became fractions."""
EIGHT_OUTPUT = "2024-01-14"
"""Pull request 4906: attn_output of eight-expert models Q5_K."""
SHARED_Q2_K = "2024-01-16"
"""Pull requests 4969 and 4996: imatrix in Q4_0 and Q5_0; attn_v of Q2_K by shared heads."""
FALLBACK_IQ4_NL = "2024-02-21"
"""Pull request 5590: rows that do not fill blocks of 256 fall back from Q3_K to IQ4_NL instead of Q4_1."""
GEMMA_EMBEDDING = "2024-02-22"
"""Pull request 5650: Gemma's embedding table, which is also its head, Q8_0; until the general rule for tied tables."""
TIED_OUTPUT = "2024-03-08"
"""Pull request 5944: an embedding table that is also the head is treated as the head."""
MERGED_EXPERTS = "2024-04-03"
"""Pull request 6387: one tensor for all experts of a layer, router in F32."""


FUSED_AS_VALUE = "2026-04-01"
"""Commit 1dab5f5a44: fused attn_qkv and attn_kv_b follow the rules of attn_v, and per-layer embeddings those of the table
(files of Qwen3.5 of February 2026 do not, of Qwen3.6 of April do; the day is not known)."""


def plan(context: MixContext, role: str) -> Plan:
    """Which layers' `role` tensors differ from the base type, and how."""
    name = role.removesuffix("_exps").removesuffix("_shexp")
    if name != role and context.made < EXPERT_RULES:
        return ()
    if name in ("attn_qkv", "attn_kv_b") and context.made >= FUSED_AS_VALUE:
        name = "attn_v"
    if context.file_type in LOW_BIT:
        return _low_bit(context, name)
    if name == "attn_v":
        return _value(context)
    if name in ("attn_k", "attn_q"):
        return _query_or_key(context, name)
    if name == "ffn_down":
        return _down(context)
    if name == "attn_output":
        return _attention_output(context)
    if name == "attn_qkv" and context.file_type in _QKV:
        return (("all", _QKV[context.file_type]),)
    if name in ("ffn_gate", "ffn_up"):
        if context.file_type == "q2_k" and context.made < EXPERT_RULES:
            return (("all", "q3_k"),)
        if context.file_type == "iq3_xs":
            return (("middle", "iq3_xxs"),)
    return ()


def _eight_experts(context: MixContext) -> bool:
    return context.experts == 8 and context.made >= MIXTRAL


def _low_bit(context: MixContext, name: str) -> Plan:
    larger = context.file_type in ("iq2_s", "iq2_m")
    if name == "attn_v":
        wide = context.heads_per_kv >= 4 or context.experts >= 4
        return (("all", "q4_k" if wide else "iq3_s" if larger else "q2_k"),)
    if name == "attn_k" and context.experts == 8:
        return (("all", "q4_k"),)
    if name == "ffn_down":
        return (("eighth", "iq3_s" if larger else "q2_k"),)
    if name == "attn_output":
        if context.experts == 8:
            return (("all", "q5_k"),)
        if context.file_type in ("iq1_s", "iq1_m"):
            return (("all", "iq2_xxs"),)
        if larger:
            return (("all", "iq3_s"),)
    return ()


def _value(context: MixContext) -> Plan:
    name = context.file_type
    if _eight_experts(context):
        return (("all", "q8_0"),)
    chosen = _V.get(name, ())
    if name in _V_SHARED and context.heads_per_kv >= 4 and (name != "q2_k" or context.made >= SHARED_Q2_K):
        chosen = (("all", _V_SHARED[name]),)
    elif name == "q2_k":
        chosen = (("all", "q3_k"),)
    elif name == "iq3_xxs" and not context.imatrix:
        chosen = (("all", "iq3_s"),)
    if not context.model_70b:
        return chosen
    raised = tuple((layers, "q5_k" if kind in ("q3_k", "q4_k") else kind) for layers, kind in chosen)
    return (*raised, ("all", "q5_k")) if context.base in ("q3_k", "q4_k") else raised


def _query_or_key(context: MixContext, name: str) -> Plan:
    if name == "attn_k" and _eight_experts(context):
        return (("all", "q8_0"),)
    kind = _QUERY_KEY.get(context.file_type)
    return (("all", kind),) if kind else ()


def _down(context: MixContext) -> Plan:
    name = context.file_type
    if name in _DOWN_IMATRIX:
        return _DOWN_IMATRIX[name] if context.imatrix and context.made >= SHARED_Q2_K else ()
    if name in _DOWN_NO_IMATRIX:
        return () if context.imatrix else _DOWN_NO_IMATRIX[name]
    chosen = (_DOWN_FALCON if context.architecture == "falcon" else _DOWN).get(name, ())
    if name == "iq3_m" and context.experts == 8:
        chosen = (*chosen, ("more", "q4_k"))
    if context.made < EXPERT_RULES:
        fixed = {"sixteenth": "first2", "eighth": "first4"}
        chosen = tuple((fixed.get(layers, layers), kind) for layers, kind in chosen)
    return chosen


def _attention_output(context: MixContext) -> Plan:
    name = context.file_type
    if context.architecture == "falcon":
        return (("all", "q4_k"),) if name == "q3_k_l" else ()
    if context.experts == 8 and context.made >= EIGHT_OUTPUT:
        return (("all", "q5_k"),) if name in _OUTPUT_EIGHT else ()
    return (("all", _OUTPUT[name]),) if name in _OUTPUT else ()


def head_type(context: MixContext, cols: int) -> str:
    """Type of `output.weight`, or of the embedding table that serves as head."""
    name, base = context.file_type, context.base
    if base in ("f16", "bf16"):
        return base
    if context.architecture == "falcon" or cols % GGML_TYPES[base].block or name == "mxfp4" or base == "q8_0":
        return "q8_0"
    return "q5_k" if name in LOW_BIT or name == "iq3_xxs" else "q6_k"


def tied_type(context: MixContext, cols: int) -> str:
    """Type of an embedding table that is also the head."""
    if context.made >= TIED_OUTPUT:
        return head_type(context, cols)
    return "q8_0" if context.architecture == "gemma" and context.made >= GEMMA_EMBEDDING else context.base


def embedding_type(context: MixContext) -> str:
    """Type of an embedding table that has a head beside it."""
    name = context.file_type
    if name in ("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"):
        return "q2_k"
    if name in ("iq2_s", "iq2_m", "iq3_xxs"):
        return "iq3_s"
    if name in ("tq1_0", "tq2_0"):
        return "q4_k"
    return "q8_0" if name == "mxfp4" else context.base


def fallback(kind: str, cols: int, made: str) -> str:
    """The type that a row of `cols` elements gets when it does not fill the blocks of `kind`."""
    block = GGML_TYPES[kind].block
    if cols % block == 0:
        return kind
    if block == 256 and cols % 32 == 0:
        if kind == "q3_k" and made < FALLBACK_IQ4_NL:
            return "q4_1"
        return {"q2_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "tq1_0": "q4_0", "tq2_0": "q4_0"}.get(
            kind, "iq4_nl"
        )
    return "f16"


@lru_cache(maxsize=4096)
def split_layers(chosen: Plan, indices: tuple[int, ...], total: int) -> tuple[tuple[str | None, int], ...]:
    """How many of `indices` take which type of the plan; None = the base type.

    Args:
        chosen: the plan.
        indices: layer numbers of the tensors (their running number where llama.cpp counts them).
        total: layers that the fractions refer to.
    """
    counts: dict[str | None, int] = {}
    for i in indices:
        kind = next((kind for selector, kind in chosen if _selects(selector, i, total)), None)
        counts[kind] = counts.get(kind, 0) + 1
    return tuple(counts.items())


def _selects(selector: str, i: int, n: int) -> bool:
    match selector:
        case "all":
            return True
        case "first2":
            return i < 2
        case "first4":
            return i < 4
        case "eighth":
            return i < n // 8
        case "sixteenth":
            return i < n // 16
        case "middle":
            return n // 8 <= i < 7 * n // 8
        case _:
            return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
