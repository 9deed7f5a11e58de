"""Kinds of layers, experts and recurrent state out of the fields of a config.json.

Field names as in the configuration classes of huggingface/transformers (`src/transformers/models/*/configuration_*.py`).
"""

from collections import Counter
from typing import Any

from knowledge.model_fields import Fields
from knowledge.models import AttentionSpec, ExpertSpec, StateSpec

_KINDS = {
    "full_attention": "full", "attention": "full", "hybrid": "full", "full": "full", "*": "full",
    "sliding_attention": "sliding", "chunked_attention": "sliding", "sliding_window": "sliding", "local": "sliding",
    "linear_attention": "linear", "mamba": "linear", "mamba2": "linear", "conv": "linear", "recurrent": "linear", "M": "linear",
    "-": "ffn_only", "E": "ffn_only", "mlp": "ffn_only", "moe": "ffn_only",
}  # fmt: skip
"""What one entry of a list of layer types counts as; the letters are Nemotron-H's `hybrid_override_pattern`."""

_INTERVALS = {"gemma3": 6, "gemma3_text": 6, "cohere2": 4, "exaone4": 4, "llama4_text": 4, "llama4": 4}
"""Every n-th layer attends to all tokens, where the config says only the window (defaults of the configuration classes)."""

_HALF = ("gemma2", "gpt_oss")
"""Every second layer has the window, the first one included."""


_RANKS = ("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")


def attention_of(config: Fields, model_type: str, layers: int | None) -> AttentionSpec | None:
    """Kinds of layers and ranks; None where every layer is full attention.

    Raises:
        InvalidModelError: a field has a value that cannot be, or the counts do not add up to the layers.
    """
    latent = config.find("kv_lora_rank") is not None  # `v_head_dim` alone is no latent attention
    ranks: dict[str, Any] = {name: config.whole(name) for name in _RANKS} if latent else {}
    window = config.whole("sliding_window", "sliding_window_size", "window_size", "attention_chunk_size")
    kinds: dict[str, Any] = _layer_kinds(config, model_type, layers, window)
    if not kinds.get("sliding"):
        window = None
    rest: dict[str, Any] = {
        "kv_shared": config.whole("num_kv_shared_layers", least=0) or 0,
        "global_head_dim": config.whole("global_head_dim"),
        "global_kv_heads": config.whole("num_global_key_value_heads"),
    }
    special = any(kinds.get(kind) for kind in ("sliding", "linear", "ffn_only"))
    if not special and not ranks and not any(rest.values()):
        return None
    if layers is not None and sum(kinds.values()) != layers:
        raise config.refusal("layer types", sum(kinds.values()), f"{layers} layers, as stated")
    return AttentionSpec(**kinds, window=window, **ranks, **rest)


def _layer_kinds(config: Fields, model_type: str, layers: int | None, window: int | None) -> dict[str, int]:
    """How many layers of each kind there are."""
    if layers is None:
        return {}
    listed = _listed(config)
    if listed is not None:
        return listed
    if (interval := config.whole("full_attention_interval")) is not None:
        return {"full": layers // interval, "linear": layers - layers // interval}
    if (indices := config.items("full_attn_idxs")) is not None:  # LFM2
        return {"full": len(indices), "linear": layers - len(indices)}
    if (period := config.whole("attn_layer_period")) is not None:  # Jamba
        full = len(range(config.whole("attn_layer_offset", least=0) or 0, layers, period))
        return {"full": full, "linear": layers - full}
    if model_type in ("mamba", "mamba2", "falcon_mamba"):
        return {"linear": layers}
    return _windowed(config, model_type, layers, window)


def _listed(config: Fields) -> dict[str, int] | None:
    """Counts of an explicit list of layer types, in any of its spellings."""
    pattern = config.values.get("hybrid_override_pattern")
    types: Any = pattern if isinstance(pattern, str) else config.items("layer_types", "layers_block_type", "attn_type_list")
    if types is None:
        return _listed_by_blocks(config)
    if config.values.get("attn_type_list") is not None:  # MiniMax: 0 lightning attention, 1 full
        types = ["full" if kind == 1 else "linear_attention" for kind in types]
    unknown = [kind for kind in types if not isinstance(kind, str) or kind not in _KINDS]
    if unknown:
        raise config.refusal("layer type", unknown[0], ", ".join(_KINDS))
    return dict(Counter(_KINDS[kind] for kind in types))


def _listed_by_blocks(config: Fields) -> dict[str, int] | None:
    """DeciLM's `block_configs` (attention pruned from some layers) and GPT-Neo's `attention_types`."""
    if (blocks := config.items("block_configs")) is not None:
        pruned = sum(1 for block in blocks if isinstance(block, dict) and (block.get("attention") or {}).get("no_op"))
        return {"full": len(blocks) - pruned, "ffn_only": pruned}
    if (types := config.items("attention_types")) is not None:
        counts: Counter[str] = Counter()
        for entry in types:
            if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], list) and isinstance(entry[1], int)):
                raise config.refusal("attention_types", entry, "[[kind, …], repeats]")
            counts.update({"sliding" if kind == "local" else "full": entry[1] * entry[0].count(kind) for kind in set(entry[0])})
        return dict(counts)
    return None


def _windowed(config: Fields, model_type: str, layers: int, window: int | None) -> dict[str, int]:
    """Full and sliding layers where the config states a window only."""
    longest = config.whole("max_position_embeddings")
    if window is None or (longest is not None and window >= longest) or config.flag("use_sliding_window") is False:
        return {"full": layers}
    if model_type.startswith("qwen2"):  # the layers below `max_window_layers` stay full (configuration_qwen2.py)
        full = min(config.whole("max_window_layers", least=0) or 0, layers)
        return {"full": full, "sliding": layers - full}
    if model_type in _HALF:
        return {"full": layers // 2, "sliding": layers - layers // 2}
    interval = config.values.get("sliding_window_pattern")
    if isinstance(interval, str):  # EXAONE-4 writes `LLLG`
        interval = len(interval)
    if interval is not None or model_type in _INTERVALS:
        stated = Fields({"sliding_window_pattern": interval}, config.where).whole("sliding_window_pattern")
        step = stated or _INTERVALS[model_type]
        return {"full": layers // step, "sliding": layers - layers // step}
    return {"sliding": layers}


_SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "moe_top_k", "top_k_experts")


def experts_of(config: Fields, model_type: str, intermediate: int | None) -> ExpertSpec | None:
    """Shape of the mixture of experts; None for a dense model.

    Args:
        config: the config, a DBRX or MPT `ffn_config` folded in.
        model_type: its type.
        intermediate: width of the dense FFN, which is that of an expert where nothing else is said (Mixtral).

    Raises:
        InvalidModelError: a field has a value that cannot be.
    """
    count = _first(config, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    if not count or count == 1:
        return None
    per_token = _first(config, *_EXPERTS_PER_TOKEN)
    width = _first(config, "moe_intermediate_size", "expert_ffn_hidden_size") or intermediate
    llama4 = model_type.startswith("llama4")  # `intermediate_size` is an expert's, of which one is shared (modeling_llama4.py)
    width = config.whole("intermediate_size") if llama4 else width
    if per_token is None or width is None or per_token > count:
        raise config.refusal("experts per token", per_token, f"1 to {count}, with the width of an expert")
    shared = _first(config, *_SHARED_EXPERTS) or int(llama4)
    shared_width = config.whole(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size", least=0
    )
    if shared_width and not shared:
        shared = 1
    elif shared_width is None and shared:
        shared_width = shared * width
    return ExpertSpec(
        count=count,
        per_token=per_token,
        intermediate=width,
        shared=shared,
        shared_intermediate=shared_width or None,
        dense_layers=config.whole("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", least=0) or 0,
        every=config.whole("interleave_moe_layer_step", "decoder_sparse_step", "expert_layer_period") or 1,
    )


def _first(config: Fields, *names: str) -> int | None:
    """A whole number, or the first of a list of them (Hunyuan and ERNIE state one a layer)."""
    found = config.find(*names)
    if found is not None and isinstance(found[1], list) and found[1]:
        return Fields({found[0]: found[1][0]}, config.where).whole(found[0], least=0)
    return config.whole(*names, least=0)


def state_of(config: Fields, model_type: str, hidden: int | None) -> StateSpec | None:
    """Shape of the recurrent state; None where no layer has one.

    Raises:
        InvalidModelError: a field has a value that cannot be.
    """
    if config.find("linear_num_value_heads") is not None:
        return StateSpec(
            kind="delta",
            conv=config.whole("linear_conv_kernel_dim") or 4,
            key_heads=config.whole("linear_num_key_heads"),
            value_heads=config.whole("linear_num_value_heads"),
            key_head_dim=config.whole("linear_key_head_dim"),
            value_head_dim=config.whole("linear_value_head_dim"),
        )
    if (taps := config.whole("conv_L_cache")) is not None:
        return StateSpec(kind="shortconv", conv=taps, inner=hidden)
    if model_type in ("mamba", "falcon_mamba") or config.find("mamba_dt_rank") is not None:
        return _mamba(config, model_type, hidden)
    if "ssm_cfg" in config.values:  # state-spaces' Mamba-2: 128 values, heads of 64 (mamba_ssm/modules/mamba2.py)
        inner = 2 * hidden if hidden else None
        return StateSpec(kind="mamba2", conv=4, inner=inner, state=128, heads=inner // 64 if inner else None)
    heads = config.whole("mamba_num_heads", "mamba_n_heads", "n_mamba_heads") or (
        config.whole("num_heads") if model_type == "mamba2" else None
    )
    if heads is None or heads < 2:
        return None
    width = config.whole("mamba_head_dim", "mamba_d_head", "mamba_headdim") or (
        config.whole("head_dim") if model_type == "mamba2" else None
    )
    expand = config.number("expand", "mamba_expand")
    return StateSpec(
        kind="mamba2",
        conv=config.whole("conv_kernel", "mamba_d_conv") or 4,
        inner=heads * width if width else int(expand * hidden) if expand and hidden else None,
        state=config.whole("ssm_state_size", "mamba_d_state", "state_size"),
        groups=config.whole("n_groups", "mamba_n_groups", "mamba_ngroups") or 1,
        heads=heads,
    )


def _mamba(config: Fields, model_type: str, hidden: int | None) -> StateSpec:
    """Mamba: transformers' names and those of state-spaces/mamba (whose defaults are 16 values, 4 taps, twice the width)."""
    rank = config.values.get("time_step_rank", config.values.get("mamba_dt_rank", "auto"))
    if not isinstance(rank, str):
        rank = Fields({"time_step_rank": rank}, config.where).whole("time_step_rank")
    elif rank == "auto":
        rank = -(-hidden // 16) if hidden else None
    else:
        raise config.refusal("time_step_rank", rank, "a whole number or 'auto'")
    expand = config.number("expand", "mamba_expand") or 2
    stated = config.whole("intermediate_size") if "mamba" in model_type else None  # elsewhere it is the FFN's width
    return StateSpec(
        kind="mamba",
        conv=config.whole("conv_kernel", "mamba_d_conv", "d_conv") or 4,
        inner=stated or (int(expand * hidden) if hidden else None),
        state=config.whole("state_size", "mamba_d_state", "d_state") or 16,
        dt_rank=rank,
    )
