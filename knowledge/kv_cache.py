"""Bytes of the KV cache and of recurrent state, exact from the model's shape, the number format and the engine's policy.

Elements of one token in one layer: `2 * kv_heads * head_dim` (keys and values), or `kv_lora_rank + qk_rope_head_dim` with
multi-head latent attention, whose cache has no heads. Layers with a window keep fewer tokens where the engine rolls; layers
that share another layer's cache, recurrent layers and layers without mixing keep none. So

    bytes = batch * sum over kinds of layer: layers * cells * elements * bytes per element

with `cells` the tokens that the engine keeps, rounded up to its blocks. The policies are data (`catalog/engines.csv`), each
with its source; without an engine every layer keeps every token, to the token.
"""

from collections.abc import Iterator
from math import ceil
from typing import Literal

from knowledge.engines import CachePolicy, EngineSpec, find_engine
from knowledge.errors import InvalidModelError, InvalidRequestError, InvalidSchemeError
from knowledge.ggml import GGML_TYPES
from knowledge.models import AttentionSpec, ModelSpec, StateSpec
from knowledge.schemes import QuantArgs, QuantScheme
from knowledge.values import value

_KIVI_RESIDUAL = 128
"""Newest tokens that KIVI keeps at 16 bits (arXiv 2402.02750, residual length of the experiments)."""

_STATE_BYTES_PER_ELEMENT = 4
"""Recurrent state is FP32 in llama.cpp (ggml-org/llama.cpp@0054ee8:src/llama-memory-recurrent.cpp); no engine keeps wider."""


@value
class KvPart:
    """The cache of one kind of layer, all sequences together."""

    kind: Literal["full", "sliding", "latent"]
    layers: int
    """Layers that have a cache of their own."""
    cells: int
    """Tokens kept per sequence, the rounding to blocks included."""
    elements: int
    """Keys and values of one token in one layer."""
    bytes_per_element: float
    """Scales included; of the quantized tokens where the newest stay at 16 bits."""
    bytes: int
    formula: str


@value
class KvBytes:
    """Bytes of a KV cache, and how they come about."""

    total: int
    per_token: float
    """What one more token of one sequence adds, before rounding to blocks; layers whose window is full add nothing."""
    policy: str
    """What the engine keeps, in words."""
    parts: tuple[KvPart, ...]
    workspace: int = 0
    """Further bytes while a token is generated: transformers unpacks one layer of a quantized cache at a time."""


def kv_cache_bytes(
    spec: ModelSpec, kv: QuantArgs | None, *, engine: str | None = None, context: int, batch: int = 1
) -> KvBytes:
    """Bytes of the KV cache of `batch` sequences of `context` tokens.

    Args:
        spec: the model; needs layers, and heads and their width, or the ranks of latent attention.
        kv: number format of the cache; None = 16 bits.
        engine: whose policy applies; None = every layer keeps every token, no blocks.
        context: tokens of one sequence.
        batch: sequences at once.

    Returns:
        Zero bytes for a model without attention.

    Raises:
        InvalidModelError: a fact that decides the size is missing; the message names it.
        InvalidRequestError: context or batch is below 1.
        InvalidSchemeError: the format cannot hold heads of that width.
        UnknownNameError: nobody knows the engine.
    """
    if context < 1 or batch < 1:
        raise InvalidRequestError(
            "a cache needs at least one token and one sequence", given=f"context {context}, batch {batch}", allowed="1 or more"
        )
    runs = find_engine(engine) if engine is not None else None
    policy = runs.cache if runs else CachePolicy()
    residual = 0 if kv is None else _KIVI_RESIDUAL if kv.type_name == "kivi" else policy.residual
    parts, per_token, workspace = [], 0.0, 0
    for kind, layers, heads, head_dim in _kinds(spec):
        rolls = kind == "sliding" and _rolls(spec, policy, kv)
        window = _attention(spec).window if rolls else None
        cells = _cells(policy, context, window)
        width = _element_bytes(kv, head_dim, runs)
        sides = 1 if kind == "latent" else 2
        elements = sides * heads * head_dim
        exact = min(residual, cells)
        size = round(batch * layers * elements * ((cells - exact) * width + exact * 2))
        parts.append(
            KvPart(
                kind=kind, layers=layers, cells=cells, elements=elements, bytes_per_element=width, bytes=size,
                formula=_formula(batch, layers, cells, elements, width, exact),
            )
        )  # fmt: skip
        per_token += layers * elements * width if _grows(policy, context, window) else 0.0
        if policy.residual and kv is not None:
            workspace = max(workspace, batch * elements * cells * 2)
    total = sum(part.bytes for part in parts)
    words = _policy_words(spec, runs, kv, parts, context)
    return KvBytes(total=total, per_token=per_token, policy=words, parts=tuple(parts), workspace=workspace)


def state_bytes(spec: ModelSpec, *, batch: int = 1, engine: str | None = None) -> int:
    """Bytes of the recurrent state of `batch` sequences: convolution tail and state of every recurrent layer, FP32.

    Sizes as llama.cpp allocates them (ggml-org/llama.cpp@01b77b5:src/llama-hparams.cpp, n_embd_r and n_embd_s). No engine
    keeps the state wider than FP32, so this bounds the others.

    Args:
        spec: the model.
        batch: sequences at once.
        engine: checked to exist; the figure is the same for all.

    Raises:
        InvalidModelError: the shape of the state is missing.
        UnknownNameError: nobody knows the engine.
    """
    if engine is not None:
        find_engine(engine)
    layers = layer_kinds(spec)[2]
    if not layers:
        return 0
    if spec.state is None:
        raise _missing(spec, "the shape of the recurrent state")
    return batch * layers * _state_elements(spec, spec.state) * _STATE_BYTES_PER_ELEMENT


def bytes_per_element(kv: QuantArgs | None, head_dim: int, engine: str | None = None) -> float:
    """Bytes of one key or value element, scales included.

    An engine that offers the format under that name decides; else the format itself: ggml types by their block, integers
    per token and head with 16-bit scale and zero point, groups likewise, NVFP4 with 8 bits per 16, OCP MX with 8 per 32,
    FP8 and per-tensor integers with none worth counting, KIVI with 16-bit scale and zero point per group.

    Raises:
        InvalidSchemeError: the format cannot hold heads of that width.
        UnknownNameError: nobody knows the engine.
    """
    return _element_bytes(kv, head_dim, find_engine(engine) if engine is not None else None)


def layer_kinds(spec: ModelSpec) -> tuple[int, int, int]:
    """Layers that keep every token, that have a window, and that are recurrent.

    A model without stated attention keeps every token in every layer, unless it has recurrent state: then all layers are
    recurrent where it has no heads.

    Raises:
        InvalidModelError: the number of layers is missing, or the kinds do not add up to it.
    """
    if spec.layers is None:
        raise _missing(spec, "the number of layers")
    kinds = spec.attention
    stated = kinds.full + kinds.sliding + kinds.linear + kinds.ffn_only if kinds else 0
    if kinds and stated:
        if stated != spec.layers:
            raise _missing(spec, f"the kind of every layer: {stated} of {spec.layers} are stated")
        return kinds.full, kinds.sliding, kinds.linear
    if kinds and kinds.window is not None:
        raise _missing(spec, f"which layers have the window of {kinds.window} tokens")
    if spec.state is None:
        return spec.layers, 0, 0
    if spec.heads:
        raise _missing(spec, "which layers are recurrent")
    return 0, 0, spec.layers


def rolls(spec: ModelSpec, engine: str, kv: QuantArgs | None = None) -> bool:
    """Whether `engine` keeps only the window in the windowed layers of `spec`, with a cache of that format.

    Raises:
        InvalidModelError: the kinds of layer are not known.
        UnknownNameError: nobody knows the engine.
    """
    return layer_kinds(spec)[1] > 0 and _rolls(spec, find_engine(engine).cache, kv)


def _kinds(spec: ModelSpec) -> Iterator[tuple[Literal["full", "sliding", "latent"], int, int, int]]:
    """Kinds of layer with a cache: kind, layers with a cache of their own, KV heads, width of a head."""
    full, sliding, _ = layer_kinds(spec)
    if not full + sliding:
        return
    attention = _attention(spec)
    if attention.kv_lora_rank is not None:
        if attention.qk_rope_head_dim is None:
            raise _missing(spec, "the width of the rotary part (qk_rope_head_dim)")
        yield "latent", full + sliding, 1, attention.kv_lora_rank + attention.qk_rope_head_dim
        return
    heads, head_dim = spec.kv_heads, _head_dim(spec)
    # Layers that share a cache are the last ones, and the kinds alternate, so each kind has its share of them.
    shared_full = attention.kv_shared * full // (full + sliding)
    if own := full - shared_full:
        global_heads = attention.global_kv_heads or heads
        global_dim = attention.global_head_dim or head_dim
        if global_heads is None or global_dim is None:
            raise _missing(spec, "the number and width of the KV heads")
        yield "full", own, global_heads, global_dim
    if own := sliding - (attention.kv_shared - shared_full):
        if heads is None or head_dim is None:
            raise _missing(spec, "the number and width of the KV heads")
        if attention.window is None:
            raise _missing(spec, "the length of the window")
        yield "sliding", own, heads, head_dim


def _attention(spec: ModelSpec) -> AttentionSpec:
    return spec.attention or AttentionSpec()


def _head_dim(spec: ModelSpec) -> int | None:
    if spec.head_dim is not None or not spec.hidden or not spec.heads:
        return spec.head_dim
    return spec.hidden // spec.heads if spec.hidden % spec.heads == 0 else None


def _rolls(spec: ModelSpec, policy: CachePolicy, kv: QuantArgs | None) -> bool:
    if policy.windows == "full" or (kv is not None and policy.quantized_windows == "full"):
        return False
    if policy.mixed_only and not layer_kinds(spec)[0]:
        return False
    return not policy.architectures or (spec.architecture or "").startswith(policy.architectures)


def _cells(policy: CachePolicy, context: int, window: int | None) -> int:
    """Tokens kept per sequence; `window` is None where every token is kept."""
    whole = _up(context, policy.block)
    if window is None:
        return whole
    if policy.window_share is not None:
        return min(whole, _up(ceil(policy.window_share * context), policy.block))
    kept = min(window + policy.window_extra, context)
    return min(whole, _up(kept, policy.block) + policy.window_blocks * policy.block)


def _grows(policy: CachePolicy, context: int, window: int | None) -> bool:
    if window is None or policy.window_share is not None:
        return True
    return window + policy.window_extra > context


def _up(tokens: int, block: int) -> int:
    return -(-tokens // block) * block


def _element_bytes(kv: QuantArgs | None, head_dim: int, engine: EngineSpec | None) -> float:
    if kv is None:
        return 2.0
    row = engine.find_kv(QuantScheme(kv_cache=kv).kv_name) if engine else None
    multiple = row.head_multiple if row else 32 if kv.type_name in GGML_TYPES else 1
    if head_dim % multiple:
        name = QuantScheme(kv_cache=kv).kv_name
        raise InvalidSchemeError(
            f"{name} needs heads whose width is a multiple of {multiple}",
            given=f"{head_dim} wide",
            allowed=f"a multiple of {multiple}",
        )
    if row:
        return row.bytes_per_element(head_dim)
    return _format_bytes(kv, head_dim)


def _format_bytes(kv: QuantArgs, head_dim: int) -> float:
    """Bytes per element by the format alone; scale and zero point take 2 bytes each."""
    codes = kv.num_bits / 8
    if kv.type_name in GGML_TYPES:
        return GGML_TYPES[kv.type_name].bits_per_weight / 8
    if kv.type_name and kv.type_name != "kivi":  # q8_kv and the like: one scale a row
        return codes
    if kv.dtype in ("nvfp", "mxfp"):
        return codes + 1 / (kv.group_size or 16)
    if kv.dtype == "fp":
        return codes + (1 / 16 if kv.num_bits < 8 else 0)
    if kv.strategy == "group" and kv.group_size:
        return codes + 4 / kv.group_size
    return codes + 4 / head_dim if kv.strategy in (None, "token") else codes


def _state_elements(spec: ModelSpec, state: StateSpec) -> int:
    """Elements of the convolution tail and of the state of one layer and sequence."""
    if state.kind == "delta":
        sizes = (state.key_heads, state.value_heads, state.key_head_dim, state.value_head_dim)
        if None in sizes:
            raise _missing(spec, "the heads of the delta net")
        key_heads, value_heads, key_dim, value_dim = (int(size or 0) for size in sizes)
        tail = (state.conv - 1) * (2 * key_heads * key_dim + value_heads * value_dim)
        return tail + value_heads * key_dim * value_dim
    if state.kind == "shortconv":  # LFM2 keeps the convolution's tail and nothing else
        if state.inner is None:
            raise _missing(spec, "the width of the short convolution")
        return (state.conv - 1) * state.inner
    if state.inner is None or state.state is None:
        raise _missing(spec, "inner width and size of the recurrent state")
    # Only Mamba-2 sends B and C, per group, through the convolution.
    groups = state.groups if state.kind == "mamba2" else 0
    return (state.conv - 1) * (state.inner + 2 * groups * state.state) + state.state * state.inner


def _formula(batch: int, layers: int, cells: int, elements: int, width: float, exact: int) -> str:
    text = f"{batch} x {layers} layers x {cells} tokens x {elements} elements x {width:g} bytes"
    return text + (f", the newest {exact} tokens at 2 bytes" if exact else "")


def _policy_words(spec: ModelSpec, engine: EngineSpec | None, kv: QuantArgs | None, parts: list[KvPart], context: int) -> str:
    if not parts:
        return "no KV cache: the model keeps a recurrent state of fixed size"
    words = []
    for part in parts:
        what = {"full": "keep every token", "latent": "keep one compressed vector per token"}.get(part.kind)
        if part.kind == "sliding":
            window = _attention(spec).window
            what = (
                f"keep {part.cells} tokens (window {window})" if part.cells < context else f"keep every token (window {window})"
            )
        words.append(f"{part.layers} layers {what}")
    if shared := _attention(spec).kv_shared:
        words.append(f"{shared} share another layer's cache")
    block = engine.cache.block if engine else 1
    if block > 1:
        words.append(f"in blocks of {block}")
    if engine and kv is not None and engine.find_kv(QuantScheme(kv_cache=kv).kv_name) is None:
        words.append(f"{engine.name} lists no such cache format")
    return f"{engine.name if engine else 'no engine given'}: {', '.join(words)}"


def _missing(spec: ModelSpec, what: str) -> InvalidModelError:
    return InvalidModelError(
        f"the KV cache of {spec.name} cannot be computed: {what} is not known",
        given=spec.name,
        allowed="a model whose shape is known",
        hint="give its folder or config.json, or use --online",
    )
