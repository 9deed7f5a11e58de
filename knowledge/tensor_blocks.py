"""Builds the tensors of one model from its layout: embeddings, attention, FFN, experts and linear layers."""

from collections.abc import Iterator
from dataclasses import replace

from knowledge.models import AttentionSpec, ModelSpec, StateSpec
from knowledge.tensor_gemma3n import gemma3n_tensors
from knowledge.tensor_rules import Layout, Tensor
from knowledge.values import value

Layers = tuple[int, ...]


@value
class _Shape:
    """The facts of one model that every block needs, None filled with what the class defaults to."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    attention: Layers
    global_attention: Layers
    """Layers of `attention` with heads of their own shape (Gemma-4's full layers)."""
    linear: Layers
    dense: Layers
    sparse: Layers
    layers: Layers


def build(spec: ModelSpec, layout: Layout, *, tied: bool, bias: bool) -> tuple[Tensor, ...]:
    """Tensors of `spec`, whose facts are complete.

    Args:
        spec: the model; nothing that `knowledge.tensors.missing_facts` asks for is None.
        layout: its architecture.
        tied: the head is the embedding table.
        bias: Q, K and V have biases.
    """
    layout = _resolved(spec, layout, bias)
    shape = _shape(spec, layout)
    return tuple(tensor for block in _blocks(spec, layout, shape, tied) for tensor in block if tensor.params)


def _blocks(spec: ModelSpec, layout: Layout, shape: _Shape, tied: bool) -> Iterator[Iterator[Tensor]]:
    yield _outside(spec, layout, tied)
    yield _norms(layout, shape)
    if layout.gguf == "gemma3n":
        yield gemma3n_tensors(shape.hidden, shape.layers)
    if shape.attention:
        attention = spec.attention or AttentionSpec()
        if layout.attention == "mla":
            yield _latent_attention(layout, attention, shape)
        else:
            plain = tuple(i for i in shape.attention if i not in set(shape.global_attention))
            yield _attention(layout, shape, plain)
            own_value = layout.global_value or not attention.global_kv_heads
            yield _attention(layout, _global_shape(attention, shape), shape.global_attention, value=own_value)
    if shape.linear and spec.state:
        yield _LINEAR[spec.state.kind](shape, spec.state)
    if shape.dense:
        yield _dense_ffn(layout, shape, _ffn_width(spec, layout))
    if shape.sparse:
        yield _sparse_ffn(spec, layout, shape)


def _resolved(spec: ModelSpec, layout: Layout, bias: bool) -> Layout:
    """The layout with what differs between checkpoints of one class filled in."""
    layout = replace(layout, qkv_bias=bias)
    if spec.qk_norm is not None:
        layout = replace(layout, qk_norm=layout.qk_norm_kind if spec.qk_norm else "none")
    if layout.gguf == "stablelm" and spec.qk_norm:  # StableLM-2-12B: parallel residual, one norm a layer
        layout = replace(layout, norms=1)
    if layout.gguf == "falcon":  # 7B (one KV head) has one norm, RW-1B (no sharing) biases, 40B and 180B two norms
        layout = replace(layout, norms=1 if spec.kv_heads == 1 else 2, out_bias=bias, ffn_bias=bias)
    if spec.embed_dim not in (None, spec.hidden):  # OPT-350m normalizes after the blocks and so has no final norm
        layout = replace(layout, final_norm=False)
    return layout


def _shape(spec: ModelSpec, layout: Layout) -> _Shape:
    total, hidden, heads = spec.layers or 0, spec.hidden or 0, spec.heads or 1
    attention = spec.attention or AttentionSpec()
    everything = tuple(range(total))
    n_linear = attention.linear if layout.linear and layout.attention != "none" else total if layout.linear else 0
    mixing = _spread(total, total - n_linear - attention.ffn_only)
    linear = tuple(i for i in everything if i not in set(mixing))
    if attention.ffn_only:
        linear = tuple(linear[i] for i in _spread(len(linear), n_linear))
    ffn = everything
    if layout.one_block_layers:
        ffn = tuple(i for i in everything if i not in set(mixing) | set(linear))
    sparse: Layers = ()
    if spec.experts:
        sparse = tuple(i for i in ffn if i >= spec.experts.dense_layers and (i + 1) % spec.experts.every == 0)
    own = attention.global_head_dim or attention.global_kv_heads or attention.global_heads
    return _Shape(
        hidden=hidden,
        heads=heads,
        kv_heads=heads if layout.mha or spec.kv_heads is None else spec.kv_heads,
        head_dim=spec.head_dim or hidden // heads,
        attention=mixing,
        global_attention=tuple(mixing[i] for i in _spread(len(mixing), attention.full)) if own else (),
        linear=linear,
        dense=tuple(i for i in ffn if layout.dense_beside or i not in set(sparse)),
        sparse=sparse,
        layers=everything,
    )


def _spread(total: int, chosen: int) -> Layers:
    """Indices of `chosen` of `total` layers at even distances, the last one included: how hybrids place attention."""
    return tuple((k + 1) * total // chosen - 1 for k in range(chosen))


def _global_shape(attention: AttentionSpec, shape: _Shape) -> _Shape:
    return replace(
        shape,
        heads=attention.global_heads or shape.heads,
        kv_heads=attention.global_kv_heads or shape.kv_heads,
        head_dim=attention.global_head_dim or shape.head_dim,
    )


def _vector(role: str, size: int, layers: Layers = (), each: int = 1) -> Tensor:
    return Tensor(role=role, kind="vector", rows=1, cols=size, layers=layers, each=each)


def _norm(layout: Layout, role: str, size: int, layers: Layers = ()) -> Iterator[Tensor]:
    yield _vector(role, size, layers)
    if layout.norm_bias:
        yield _vector(f"{role}.bias", size, layers)


def _linear(
    role: str, rows: int, cols: int, layers: Layers, *, bias: bool = False, parts: tuple[tuple[str, int], ...] = ()
) -> Iterator[Tensor]:
    yield Tensor(role=role, kind="linear", rows=rows, cols=cols, layers=layers, parts=parts)
    if bias:
        yield _vector(f"{role}.bias", rows, layers)


def _outside(spec: ModelSpec, layout: Layout, tied: bool) -> Iterator[Tensor]:
    hidden, vocab = spec.hidden or 0, spec.vocab or 0
    width = spec.embed_dim or hidden
    yield Tensor(role="token_embd", kind="embedding", rows=vocab, cols=width)
    if width != hidden:
        yield from _linear("project_in", hidden, width, ())
        yield from _linear("project_out", width, hidden, ())
    if layout.embedding_norm:
        yield from _norm(layout, "token_embd_norm", hidden)
    if layout.positions is not None:
        yield Tensor(role="position_embd", kind="other", rows=(spec.max_context or 0) + layout.positions, cols=hidden)
    if layout.final_norm:
        yield from _norm(layout, "output_norm", hidden)
    if not tied:
        yield Tensor(role="output", kind="head", rows=vocab, cols=width)
    if layout.head_bias:
        yield _vector("output.bias", vocab)


_NORM_ROLES = ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")


def _norms(layout: Layout, shape: _Shape) -> Iterator[Tensor]:
    for role in _NORM_ROLES[: layout.norms]:
        yield from _norm(layout, role, shape.hidden, shape.layers)
    for role, size in layout.layer_vectors:
        yield _vector(role, size, shape.layers)


def _attention(layout: Layout, shape: _Shape, layers: Layers, *, value: bool = True) -> Iterator[Tensor]:
    if not layers:
        return
    hidden, hd, bias = shape.hidden, shape.head_dim, bool(layout.qkv_bias)
    q, kv = shape.heads * hd, shape.kv_heads * hd
    if layout.attention == "split":
        yield from _linear("attn_q", q * (2 if layout.out_gate else 1), hidden, layers, bias=bias)
        yield from _linear("attn_k", kv, hidden, layers, bias=bias)
        if value:
            yield from _linear("attn_v", kv, hidden, layers, bias=bias)
    else:
        split = (("attn_q", q), ("attn_k", kv), ("attn_v", kv)) if layout.attention == "fused-split" else ()
        yield from _linear("attn_qkv", q + 2 * kv, hidden, layers, bias=bias, parts=split)
    yield from _linear("attn_output", hidden, q, layers, bias=layout.out_bias)
    if layout.qk_norm != "none":
        full = layout.qk_norm == "full"
        yield _vector("attn_q_norm", q if full else hd, layers)
        yield _vector("attn_k_norm", kv if full else hd, layers)
    if layout.sinks:
        yield _vector("attn_sinks", shape.heads, layers)


def _latent_attention(layout: Layout, attention: AttentionSpec, shape: _Shape) -> Iterator[Tensor]:
    """Multi-head latent attention (arXiv 2405.04434, section 2.1)."""
    rope, nope, v = attention.qk_rope_head_dim or 0, attention.qk_nope_head_dim or 0, attention.v_head_dim or 0
    rank, hidden, heads, layers = attention.kv_lora_rank or 0, shape.hidden, shape.heads, shape.attention
    if attention.q_lora_rank:
        yield from _linear("attn_q_a", attention.q_lora_rank, hidden, layers)
        yield _vector("attn_q_a_norm", attention.q_lora_rank, layers)
        yield from _linear("attn_q_b", heads * (nope + rope), attention.q_lora_rank, layers)
    else:
        yield from _linear("attn_q", heads * (nope + rope), hidden, layers)
    yield from _linear("attn_kv_a_mqa", rank + rope, hidden, layers)
    yield _vector("attn_kv_a_norm", rank, layers)
    yield from _linear("attn_kv_b", heads * (nope + v), rank, layers)
    yield from _linear("attn_output", hidden, heads * v, layers)
    if layout.indexer:
        index_heads, width = layout.indexer
        yield from _linear("indexer.attn_q_b", index_heads * width, attention.q_lora_rank or hidden, layers)
        yield from _linear("indexer.attn_k", width, hidden, layers)
        yield from _linear("indexer.proj", index_heads, hidden, layers)
        yield _vector("indexer.k_norm", width, layers)
        yield _vector("indexer.k_norm.bias", width, layers)


def _ffn_width(spec: ModelSpec, layout: Layout) -> int:
    width = spec.intermediate or (layout.ffn_ratio or 0) * (spec.hidden or 0)
    return width // 2 if layout.ffn_halved else width


def _dense_ffn(layout: Layout, shape: _Shape, width: int) -> Iterator[Tensor]:
    hidden, layers, bias = shape.hidden, shape.dense, layout.ffn_bias
    if layout.ffn == "gated":
        yield from _linear("ffn_gate", width, hidden, layers, bias=bias)
    yield from _linear("ffn_up", width * (2 if layout.ffn == "gated-fused" else 1), hidden, layers, bias=bias)
    yield from _linear("ffn_down", hidden, width, layers, bias=bias)


def _sparse_ffn(spec: ModelSpec, layout: Layout, shape: _Shape) -> Iterator[Tensor]:
    experts = spec.experts
    if experts is None:
        return
    hidden, layers, count, width = shape.hidden, shape.sparse, experts.count, experts.intermediate
    yield Tensor(role="ffn_gate_inp", kind="router", rows=count, cols=hidden, layers=layers)
    if layout.router_bias:
        yield _vector("exp_probs_b", count, layers)
    if layout.dense_beside:
        for role in ("ffn_gate_inp.scale", "post_ffw_norm_1", "pre_ffw_norm_2", "post_ffw_norm_2"):
            yield _vector(role, hidden, layers)
        yield _vector("ffn_down_exps.scale", count, layers)
    inward = ("ffn_up",) if layout.ffn == "plain" else ("ffn_gate", "ffn_up")
    for role, rows, cols in (*((role, width, hidden) for role in inward), ("ffn_down", hidden, width)):
        yield Tensor(role=f"{role}_exps", kind="expert", rows=rows, cols=cols, layers=layers, each=count)
        if layout.expert_bias:
            yield _vector(f"{role}_exps.bias", rows, layers, count)
    shared = experts.shared_intermediate if experts.shared_intermediate is not None else experts.shared * width
    if not shared:
        return
    for role in inward:
        yield from _linear(f"{role}_shexp", shared, hidden, layers)
    yield from _linear("ffn_down_shexp", hidden, shared, layers)
    if layout.shared_gate:
        yield Tensor(role="ffn_gate_inp_shexp", kind="router", rows=1, cols=hidden, layers=layers)


def _other(role: str, rows: int, cols: int, layers: Layers) -> Tensor:
    return Tensor(role=role, kind="other", rows=rows, cols=cols, layers=layers)


def _mamba(shape: _Shape, state: StateSpec) -> Iterator[Tensor]:
    """Mamba (arXiv 2312.00752): transformers `models/mamba/modeling_mamba.py`."""
    inner, values, rank, layers = state.inner or 0, state.state or 0, state.dt_rank or 0, shape.linear
    yield from _linear("ssm_in", 2 * inner, shape.hidden, layers)
    yield _other("ssm_conv1d", inner, state.conv, layers)
    yield _vector("ssm_conv1d.bias", inner, layers)
    yield from _linear("ssm_x", rank + 2 * values, inner, layers)
    yield from _linear("ssm_dt", inner, rank, layers, bias=True)
    yield _other("ssm_a", inner, values, layers)
    yield _vector("ssm_d", inner, layers)
    yield from _linear("ssm_out", shape.hidden, inner, layers)


def _mamba2(shape: _Shape, state: StateSpec) -> Iterator[Tensor]:
    """Mamba-2 (arXiv 2405.21060): transformers `models/mamba2/modeling_mamba2.py`."""
    inner, heads, layers = state.inner or 0, state.heads or 0, shape.linear
    channels = inner + 2 * state.groups * (state.state or 0)
    yield from _linear("ssm_in", inner + channels + heads, shape.hidden, layers)
    yield _other("ssm_conv1d", channels, state.conv, layers)
    yield _vector("ssm_conv1d.bias", channels, layers)
    yield _vector("ssm_dt.bias", heads, layers)
    yield _vector("ssm_a", heads, layers)
    yield _vector("ssm_d", heads, layers)
    yield _vector("ssm_norm", inner, layers)
    yield from _linear("ssm_out", shape.hidden, inner, layers)


def _delta(shape: _Shape, state: StateSpec) -> Iterator[Tensor]:
    """Gated delta net (arXiv 2412.06464): transformers `models/qwen3_next/modeling_qwen3_next.py`."""
    k_heads, v_heads = state.key_heads or 0, state.value_heads or 0
    key, value, layers = k_heads * (state.key_head_dim or 0), v_heads * (state.value_head_dim or 0), shape.linear
    split = (("attn_qkv", 2 * key + value), ("attn_gate", value))
    yield from _linear("attn_qkvz", 2 * key + 2 * value, shape.hidden, layers, parts=split)
    yield from _linear("ssm_ba", 2 * v_heads, shape.hidden, layers)
    yield _other("ssm_conv1d", 2 * key + value, state.conv, layers)
    yield _vector("ssm_dt.bias", v_heads, layers)
    yield _vector("ssm_a", v_heads, layers)
    yield _vector("ssm_norm", state.value_head_dim or 0, layers)
    yield from _linear("ssm_out", shape.hidden, value, layers)


def _short_convolution(shape: _Shape, state: StateSpec) -> Iterator[Tensor]:
    """LFM2's gated short convolution: transformers `models/lfm2/modeling_lfm2.py`."""
    yield from _linear("shortconv.in_proj", 3 * shape.hidden, shape.hidden, shape.linear)
    yield _other("shortconv.conv", shape.hidden, state.conv, shape.linear)
    yield from _linear("shortconv.out_proj", shape.hidden, shape.hidden, shape.linear)


_LINEAR = {"mamba": _mamba, "mamba2": _mamba2, "delta": _delta, "shortconv": _short_convolution}
