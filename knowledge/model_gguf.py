"""A GGUF file as a model: shape, layer kinds and the exact tensors out of its header.

Keys as in ggml-org/llama.cpp `gguf-py/gguf/constants.py`; per-layer head counts, MLA and state keys as its
`convert_hf_to_gguf.py` writes them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from knowledge.errors import InvalidModelError
from knowledge.ggml import GGUF_FILE_TYPES
from knowledge.gguf_header import GgufHeader, file_type_name, read_header
from knowledge.model_fields import Fields
from knowledge.models import AttentionSpec, ExpertSpec, ModelSpec, StateSpec, StoredTensor
from knowledge.schemes import QuantScheme, parse_scheme
from knowledge.tensor_rules import LAYOUTS

_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)
_NOT_CAUSAL = ("bert", "nomic-bert", "jina-bert-v2", "t5", "t5encoder", "clip", "mmproj", "wavtokenizer-dec")
_SIGMOID = 2
"""`expert_gating_func` of DeepSeek-V3, whose class has the router's bias that DeepSeek-V2's has not."""


def read_gguf(path: Path) -> ModelSpec:
    """The model in a GGUF file; of a sharded one any shard may be given, and all are read.

    Raises:
        InvalidModelError: the file is broken or truncated, a shard is missing, or it holds no causal language model.
    """
    shards = _shards(path)
    headers = [read_header(shard) for shard in shards]
    architecture = headers[0].values.get("general.architecture")
    kind = headers[0].values.get("general.type", "model")
    if not isinstance(architecture, str) or architecture in _NOT_CAUSAL or kind != "model":
        what = architecture if kind == "model" else kind
        raise InvalidModelError(
            f"{path} holds {what!r}, no causal language model",
            given=str(path),
            hint="give the file of the language model itself",
        )
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    return _spec(_Keys(headers[0], architecture, str(path)), tensors, path)


def _shards(path: Path) -> list[Path]:
    """All files of the model that `path` belongs to, in order."""
    found = _SHARD.match(path.name)
    if not found:
        return [path]
    names = [f"{found['stem']}-{number:05}-of-{found['count']}.gguf" for number in range(1, int(found["count"]) + 1)]
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing or not names:
        raise InvalidModelError(
            f"{path} is one of {found['count']} shards, of which {len(missing)} are missing: {', '.join(missing[:3])}",
            given=str(path), hint="put all shards into one folder",
        )  # fmt: skip
    return [path.with_name(name) for name in names]


class _Keys:
    """The header's values by short name: `head_count` for `llama.attention.head_count`."""

    def __init__(self, header: GgufHeader, architecture: str, where: str) -> None:
        self.header = header
        self.architecture = architecture
        self.prefix = architecture + "."
        self.where = where
        self.fields = Fields(header.values, where)

    def whole(self, *names: str, least: int = 1) -> int | None:
        """One number; the largest of a list with one value a layer."""
        for name in names:
            value = self.header.values.get(self.prefix + name)
            if isinstance(value, list):
                return max((v for v in value if isinstance(v, int)), default=0) or None
            if value is not None:
                return self.fields.whole(self.prefix + name, least=least) or None
        return None

    def per_layer(self, name: str, layers: int) -> list[int] | None:
        """One number a layer, where the file states them so."""
        value = self.header.values.get(self.prefix + name)
        return value[:layers] if isinstance(value, list) and all(isinstance(v, int) for v in value) else None


def _spec(keys: _Keys, tensors: Sequence[StoredTensor], path: Path) -> ModelSpec:
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    # Draft heads are blocks beyond those that generate (DeepSeek-V3, GLM-4.5)
    layers = (keys.whole("block_count") or 0) - (keys.whole("nextn_predict_layers", least=0) or 0)
    hidden = keys.whole("embedding_length")
    if layers < 1 or hidden is None:
        raise InvalidModelError(f"{path} states neither blocks nor embedding length", given=str(path), hint="download it again")
    heads = keys.whole("attention.head_count", least=0)
    attention = _attention(keys, layers)
    scheme, method, notes = _stored(keys.header, tensors)
    values = keys.header.values
    return ModelSpec(
        name=_name(values, path),
        family=_FAMILIES.get(keys.architecture, keys.architecture.rstrip("0123456789")),
        source=str(path),
        architecture=_class(keys),
        layers=layers,
        hidden=hidden,
        intermediate=keys.whole("feed_forward_length", least=0),
        heads=heads,
        kv_heads=heads if attention and attention.kv_lora_rank else keys.whole("attention.head_count_kv", least=0),
        head_dim=keys.whole("attention.key_length") or (hidden // heads if heads and hidden % heads == 0 else None),
        vocab=_vocab(keys, shapes),
        max_context=keys.whole("context_length"),
        tied_embeddings="output.weight" not in shapes if "token_embd.weight" in shapes else None,
        attention_bias=any(name in shapes for name in ("blk.0.attn_q.bias", "blk.0.attn_qkv.bias")) if shapes else None,
        qk_norm=any(name.endswith(".attn_q_norm.weight") for name in shapes) if keys.architecture in _QK_NORM_OPEN else None,
        attention=attention,
        experts=_experts(keys),
        state=_state(keys),
        stored_scheme=scheme,
        stored_method=method,
        stored_tensors=tuple(tensors),
        notes=notes,
    )


_QK_NORM_OPEN = ("command-r", "cohere2", "stablelm", "glm4moe")
_FAMILIES = {
    "chatglm": "chatglm", "glm4": "glm", "glm4moe": "glm", "command-r": "cohere", "gptneox": "gpt-neox", "gptj": "gpt-j",
    "qwen2moe": "qwen", "qwen3moe": "qwen", "qwen3next": "qwen", "qwen35": "qwen", "qwen35moe": "qwen", "gemma3n": "gemma",
    "gpt-oss": "gpt-oss", "nemotron_h": "nemotron", "nemotron_h_moe": "nemotron", "phimoe": "phi", "hunyuan-dense": "hunyuan",
    "hunyuan-moe": "hunyuan", "granitehybrid": "granite", "granitemoe": "granite", "lfm2moe": "lfm", "minimax-m2": "minimax",
}  # fmt: skip
"""Family by llama.cpp architecture where it is not its name without digits."""


@cache
def _classes() -> dict[str, str]:
    """First transformers class of each llama.cpp architecture."""
    classes: dict[str, str] = {}
    for name, layout in LAYOUTS.items():
        classes.setdefault(layout.gguf, name)
    return classes


def _class(keys: _Keys) -> str | None:
    if keys.architecture == "llama" and keys.whole("expert_count", least=0):
        return "MixtralForCausalLM"
    if keys.architecture == "deepseek2" and keys.whole("expert_gating_func", least=0) == _SIGMOID:
        return "DeepseekV3ForCausalLM"
    return _classes().get(keys.architecture)


def _name(values: dict[str, Any], path: Path) -> str:
    """The model's own name where it has one, else the file's."""
    stated = values.get("general.name")
    text = stated if isinstance(stated, str) and stated.strip() else path.stem
    return re.sub(r"\s+", "-", text.strip().lower())


def _vocab(keys: _Keys, shapes: dict[str, tuple[int, ...]]) -> int | None:
    table = shapes.get("token_embd.weight")
    if table and len(table) == 2:
        return table[0]
    return keys.whole("vocab_size") or keys.header.lengths.get("tokenizer.ggml.tokens")


def _attention(keys: _Keys, layers: int) -> AttentionSpec | None:
    rank = keys.whole("attention.kv_lora_rank")
    kv_heads = keys.per_layer("attention.head_count_kv", layers)
    linear = sum(1 for count in kv_heads if count == 0) if kv_heads else 0
    if interval := keys.whole("full_attention_interval"):
        linear = layers - layers // interval
    if keys.whole("attention.head_count", least=0) is None:
        linear = layers
    ffn_only = _without_mixing(keys, layers, linear)
    window = keys.whole("attention.sliding_window", least=0)
    longest = keys.whole("context_length")
    sliding = 0
    if window and not (longest and window >= longest):
        sliding = _sliding(keys, layers - linear)
    shared = keys.whole("attention.shared_kv_layers", least=0) or 0
    if not (rank or linear or sliding or shared):
        return None
    kinds: dict[str, Any] = {"full": layers - linear - sliding, "sliding": sliding, "linear": linear - ffn_only}
    return AttentionSpec(
        **kinds, ffn_only=ffn_only, window=window if sliding else None, kv_shared=shared, **(_ranks(keys, rank) if rank else {})
    )


def _without_mixing(keys: _Keys, layers: int, candidates: int) -> int:
    """Layers without KV heads that have no state either: Nemotron-H's FFN layers, which alone have an FFN width."""
    widths = keys.per_layer("feed_forward_length", layers)
    if not keys.architecture.startswith("nemotron_h") or not widths:
        return 0
    return min(sum(1 for width in widths if width), candidates)


def _sliding(keys: _Keys, layers: int) -> int:
    """How many of `layers` have the window."""
    pattern = keys.header.values.get(keys.prefix + "attention.sliding_window_pattern")
    if isinstance(pattern, list):
        return sum(1 for flag in pattern[:layers] if flag)
    if isinstance(pattern, int) and pattern > 1:
        return layers - layers // pattern
    if keys.architecture in ("gemma2", "gpt-oss"):
        return layers - layers // 2
    interval = {"gemma3": 6, "gemma3n": 5, "cohere2": 4, "exaone4": 4, "llama4": 4, "olmo2": 4}.get(keys.architecture)
    return layers - layers // interval if interval else layers


def _ranks(keys: _Keys, rank: int) -> dict[str, Any]:
    """MLA: newer files state the absorbed widths and the real ones as `…_mla`, older ones the real ones only."""
    rope = keys.whole("rope.dimension_count") or 0
    key = keys.whole("attention.key_length_mla", "attention.key_length") or 0
    return {
        "q_lora_rank": keys.whole("attention.q_lora_rank"),
        "kv_lora_rank": rank,
        "qk_rope_head_dim": rope or None,
        "qk_nope_head_dim": key - rope if key > rope else None,
        "v_head_dim": keys.whole("attention.value_length_mla", "attention.value_length"),
    }


def _experts(keys: _Keys) -> ExpertSpec | None:
    count, used = keys.whole("expert_count", least=0), keys.whole("expert_used_count", least=0)
    width = keys.whole("expert_feed_forward_length") or keys.whole("feed_forward_length", least=0)
    if not (count and used and width):
        return None
    shared = keys.whole("expert_shared_count", least=0) or 0
    shared_width = keys.whole("expert_shared_feed_forward_length") or (shared * width or None)
    return ExpertSpec(
        count=count,
        per_token=used,
        intermediate=width,
        shared=shared or int(shared_width is not None),
        shared_intermediate=shared_width,
        dense_layers=keys.whole("leading_dense_block_count", least=0) or 0,
        every=keys.whole("interleave_moe_layer_step") or 1,
    )


def _state(keys: _Keys) -> StateSpec | None:
    """Recurrent state out of the `ssm.` keys; a gated delta net reuses them (llama.cpp `src/models/qwen3next.cpp`)."""
    if (taps := keys.whole("shortconv.l_cache")) is not None:
        return StateSpec(kind="shortconv", conv=taps, inner=keys.whole("embedding_length"))
    conv, inner, state = keys.whole("ssm.conv_kernel"), keys.whole("ssm.inner_size"), keys.whole("ssm.state_size")
    if conv is None or inner is None or state is None:
        return None
    rank, groups = keys.whole("ssm.time_step_rank"), keys.whole("ssm.group_count", least=0) or 1
    if keys.architecture.startswith(("qwen3next", "qwen35")) and rank:
        return StateSpec(
            kind="delta", conv=conv, key_heads=groups, value_heads=rank, key_head_dim=state, value_head_dim=inner // rank
        )
    if keys.architecture == "mamba":
        return StateSpec(kind="mamba", conv=conv, inner=inner, state=state, dt_rank=rank)
    return StateSpec(kind="mamba2", conv=conv, inner=inner, state=state, groups=groups, heads=rank)


def _stored(header: GgufHeader, tensors: Sequence[StoredTensor]) -> tuple[QuantScheme | None, str | None, tuple[str, ...]]:
    """Scheme, method and notes; scheme None for a file of 16- or 32-bit floats."""
    number = header.values.get("general.file_type")
    kind = file_type_name(number) if isinstance(number, int) else None
    weight = Counter[str]()
    for tensor in tensors:
        if len(tensor.shape) > 1:
            weight[tensor.dtype] += tensor.bytes
    most = max(weight, key=lambda dtype: weight[dtype], default="f16")
    if most in ("f32", "f16", "bf16", "f64"):
        return None, None, ()
    notes: tuple[str, ...] = ()
    if kind is None or kind not in GGUF_FILE_TYPES:
        notes = (f"file type {kind or number!r} is not known: called after the type of most of its bytes, {most}",)
        kind = most
    method = "imatrix" if "quantize.imatrix.file" in header.values else "rtn"
    if kind not in GGUF_FILE_TYPES:
        return None, method, notes
    return parse_scheme(f"gguf:{kind}"), method, notes
