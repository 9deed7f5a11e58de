"""The weight tensors of a model, built from its shape: what memory, parameter counts and GGUF mixes are computed from.

Equal tensors of several layers are one `Tensor` with the layers it stands in, so a model of 80 layers is some 15 objects.
Shapes are those of the transformers checkpoint; `parts` says where llama.cpp's converter splits a matrix.
Vision towers, draft (MTP) heads and rotary buffers are not counted: they are no weights of the language model.
"""

from functools import lru_cache

from knowledge.errors import InvalidModelError
from knowledge.models import AttentionSpec, ModelSpec
from knowledge.tensor_blocks import build
from knowledge.tensor_rules import LAYOUTS, MIXTURES, Kind, Layout, Tensor

__all__ = ["Kind", "Tensor", "find_layout", "is_tied", "missing_facts", "params_active", "params_total", "tensors"]


def find_layout(spec: ModelSpec) -> Layout | None:
    """What is known about the architecture of `spec`; None where nothing is."""
    return LAYOUTS.get(spec.architecture or "")


@lru_cache(maxsize=512)
def missing_facts(spec: ModelSpec) -> tuple[str, ...]:
    """Names of the shape facts that `spec` lacks, so that its tensors cannot be listed; empty = complete."""
    layout = find_layout(spec)
    if layout is None:
        return ("architecture",)
    needed: dict[str, object] = {"layers": spec.layers, "hidden": spec.hidden, "vocab": spec.vocab}
    if layout.attention != "none":
        needed["heads"] = spec.heads
    if layout.attention not in ("none", "mla") and not layout.mha:
        needed["kv_heads"] = spec.kv_heads
    if layout.attention == "mla":
        attention = spec.attention or AttentionSpec()
        for name in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"):
            needed[f"attention.{name}"] = getattr(attention, name)
    if layout.attention != "none" and _has_dense_ffn(spec) and not layout.ffn_ratio:
        needed["intermediate"] = spec.intermediate
    if spec.architecture in MIXTURES:
        needed["experts"] = spec.experts
    if spec.experts:
        needed |= {"experts.count": spec.experts.count, "experts.intermediate": spec.experts.intermediate}
    if not layout.global_value:
        needed["attention"] = spec.attention
    if layout.positions is not None:
        needed["max_context"] = spec.max_context
    if layout.linear and (spec.attention is None or spec.attention.linear or layout.attention == "none"):
        needed |= _state_facts(spec, layout)
    return tuple(name for name, value in needed.items() if value is None)


def _has_dense_ffn(spec: ModelSpec) -> bool:
    experts, layout = spec.experts, find_layout(spec)
    return experts is None or (layout is not None and layout.dense_beside) or experts.dense_layers > 0 or experts.every > 1


def _state_facts(spec: ModelSpec, layout: Layout) -> dict[str, object]:
    """Facts about linear layers that the kind of layer needs."""
    if spec.state is None:
        return {"state": None}
    names = {
        "mamba": ("inner", "state", "dt_rank"),
        "mamba2": ("inner", "state", "heads"),
        "delta": ("key_heads", "value_heads", "key_head_dim", "value_head_dim"),
        "shortconv": (),
    }[layout.linear or "shortconv"]
    facts: dict[str, object] = {f"state.{name}": getattr(spec.state, name) for name in names}
    if layout.attention != "none":
        facts["attention.linear"] = spec.attention and (spec.attention.linear or None)
    return facts


@lru_cache(maxsize=512)
def tensors(spec: ModelSpec) -> tuple[Tensor, ...]:
    """All weight tensors of `spec`, equal ones of several layers together.

    Raises:
        InvalidModelError: the shape is incomplete; the message names what is missing.
    """
    missing = missing_facts(spec)
    if missing:
        raise InvalidModelError(
            f"the shape of {spec.name} is incomplete: {', '.join(missing)} not known",
            given=spec.name,
            hint="give the model's config.json or folder instead of its name",
        )
    layout = LAYOUTS[spec.architecture or ""]
    tied, bias = _open_choices(spec, layout)
    return build(spec, layout, tied=tied, bias=bias)


def is_tied(spec: ModelSpec) -> bool:
    """Whether the output head is the embedding table, so that the checkpoint holds it once."""
    return not any(tensor.kind == "head" for tensor in tensors(spec))


def _open_choices(spec: ModelSpec, layout: Layout) -> tuple[bool, bool]:
    """Tied embeddings and Q, K, V biases: what the facts say, else what gives the published count, else the class default.

    The class default is what transformers assumes for a config.json that leaves the key out.
    """
    tied, bias = spec.tied_embeddings, spec.attention_bias if spec.attention_bias is not None else layout.qkv_bias
    default = (layout.tied if tied is None else tied, bool(bias))
    if (tied is not None and bias is not None) or not (spec.params_published and spec.params_exact):
        return default
    published = spec.params_published - (spec.params_outside or 0)
    for choice in ((t, b) for t in (default[0], not default[0]) for b in (default[1], not default[1])):
        agrees = (tied is None or choice[0] == tied) and (bias is None or choice[1] == bias)
        if agrees and sum(tensor.params for tensor in build(spec, layout, tied=choice[0], bias=choice[1])) == published:
            return choice
    return default


@lru_cache(maxsize=1024)
def params_total(spec: ModelSpec) -> int | None:
    """Parameters computed from the shape, a tied head counted once; None where the shape is incomplete."""
    if missing_facts(spec):
        return None
    return sum(tensor.params for tensor in tensors(spec))


def params_active(spec: ModelSpec) -> int | None:
    """Parameters that one token passes: all but the routed experts that are not chosen; None where the shape is incomplete.

    The embedding table is counted in full, as model cards do.
    """
    total = params_total(spec)
    if total is None or spec.experts is None:
        return total
    routed = sum(tensor.params for tensor in tensors(spec) if tensor.kind == "expert")
    return total - routed + routed * spec.experts.per_token // spec.experts.count
