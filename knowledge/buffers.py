"""Memory beside weights and cache: what the engine's runtime takes, activations of the prompt, logits, unpacking scratch.

These are estimates with a stated formula, unlike weights and cache, which are exact. llama.cpp's are those of its own
allocator (checked against 27 measured buffers, see the tests); the others follow from the widest block of a layer.
"""

from knowledge.kv_cache import KvBytes
from knowledge.models import AttentionSpec, ModelSpec
from knowledge.schemes import QuantArgs
from knowledge.tensors import find_layout, tensors
from knowledge.values import value

MIB = 2**20

CUDA_CONTEXT = 320 * MIB
"""Driver context with lazily loaded kernels: 320 MB for plain CUDA (pytorch/pytorch issue 28394), about 300 MB for PyTorch
since CUDA 11.7 (issue 107667); what unslothai/unsloth@015bdef reserves for llama.cpp."""

FRAMEWORK = 205 * MIB
"""Memory of a serving process outside the allocator (kernel libraries, communication): 0.16 and 0.20 GiB in vLLM's own profile
(vllm-project/vllm pull requests 12126 and 14447); taken for the other servers too."""

_SERVERS = ("vllm", "sglang", "tgi", "lmdeploy", "tensorrt-llm")
_GGML = ("llama.cpp", "ollama")
_CHUNK = 2048
_CHUNKS: dict[str, tuple[int, str]] = {
    "vllm": (2048, "vllm/engine/arg_utils.py, max_num_batched_tokens of the server below 70 GiB"),
    "sglang": (2048, "sglang/srt/server_args.py, chunked_prefill_size below 35 GiB"),
    "lmdeploy": (8192, "lmdeploy/messages.py, max_prefill_token_num"),
    "mlx": (2048, "mlx_lm/generate.py, prefill_step_size"),
    "llama.cpp": (512, "llama.cpp --ubatch-size"),
    "ollama": (512, "llama.cpp --ubatch-size"),
}
"""Prompt tokens that go through the model at once, and where the default was read; others 2048."""

_UNPACKING = ("bitsandbytes", "hqq", "quanto")
"""Formats whose library unpacks a whole matrix to 16 bits before it multiplies a prompt."""


@value
class MemoryPart:
    """One named part of a memory estimate."""

    name: str
    bytes: int
    formula: str
    source: str = ""
    exact: bool = False
    """Computed to the byte rather than estimated."""


def buffer_parts(
    spec: ModelSpec,
    kv: QuantArgs | None,
    cache: KvBytes,
    *,
    format: str = "safetensors",
    engine: str | None,
    context: int,
    batch: int,
) -> tuple[MemoryPart, ...]:
    """Runtime, activations, logits and scratch of one engine.

    Args:
        spec: the model; where its shape is incomplete, only what can be computed is counted.
        kv: number format of the KV cache; None = 16 bits.
        cache: the cache itself, for its size in tokens and its workspace.
        format: checkpoint format of the weights.
        engine: canonical engine name; None = a prompt in chunks of 2,048 tokens and no server.
        context: tokens of one sequence.
        batch: sequences at once.
    """
    parts = list(_runtime(engine))
    if spec.hidden and spec.layers and find_layout(spec):
        parts += _ggml(spec, kv, cache, context, batch) if engine in _GGML else _torch(spec, engine, context, batch)
    if spec.vocab:
        parts.append(
            MemoryPart(
                name="logits", bytes=4 * batch * spec.vocab, formula=f"{batch} last tokens x {spec.vocab} entries x 4 bytes",
                source="logits are computed for the last token of each sequence only",
            )
        )  # fmt: skip
    if cache.workspace:
        text = "one layer of the quantized cache at 16 bits while a token is generated"
        parts.append(
            MemoryPart(
                name="unpacked cache",
                bytes=cache.workspace,
                formula=text,
                source="transformers src/transformers/cache_utils.py",
            )
        )
    if format in _UNPACKING and (largest := _largest_matrix(spec)):
        parts.append(
            MemoryPart(
                name="unpacked matrix", bytes=2 * largest, formula=f"the largest matrix, {largest} elements x 2 bytes",
                source=f"{format} dequantizes a matrix before multiplying more than one token",
            )
        )  # fmt: skip
    return tuple(parts)


def prefill_chunk(engine: str | None, context: int, batch: int) -> tuple[int, str]:
    """Prompt tokens that go through the model at once, and why."""
    if engine == "transformers":
        return batch * context, "transformers passes the whole prompt"
    chunk, source = _CHUNKS.get(engine or "", (_CHUNK, "default of vLLM, SGLang and mlx-lm"))
    return min(chunk, batch * context), source


def _runtime(engine: str | None) -> tuple[MemoryPart, ...]:
    context = MemoryPart(
        name="CUDA context", bytes=CUDA_CONTEXT, formula="measured: 300 to 320 MB",
        source="pytorch/pytorch issues 28394, 107667; unslothai/unsloth@015bdef",
    )  # fmt: skip
    if engine not in _SERVERS:
        return (context,)
    framework = MemoryPart(
        name="framework", bytes=FRAMEWORK, formula="measured in vLLM: 0.16 to 0.20 GiB",
        source="vllm-project/vllm pull requests 12126, 14447",
    )  # fmt: skip
    return context, framework


def _torch(spec: ModelSpec, engine: str | None, context: int, batch: int) -> tuple[MemoryPart, ...]:
    """Widest moment of a layer at 16 bits: gate, up and product of the FFN, or Q, K, V and output, with the residual."""
    tokens, source = prefill_chunk(engine, context, batch)
    width = max(_ffn_width(spec, 3), _mixer_width(spec)) + 2 * (spec.hidden or 0)
    text = f"{tokens} tokens x {width} elements x 2 bytes"
    return (MemoryPart(name="activations", bytes=2 * tokens * width, formula=text, source=source),)


def _ggml(spec: ModelSpec, kv: QuantArgs | None, cache: KvBytes, context: int, batch: int) -> tuple[MemoryPart, ...]:
    """llama.cpp's compute buffer with flash attention: F32 activations, F16 mask, F16 copy of a quantized layer's cache.

    The terms and widths were read off the buffers that unslothai/unsloth pull request 11043 measured (llama.cpp b10909):
    three inner widths and three hidden ones a token in a dense SwiGLU model, four inner ones in Gemma, within 11 % elsewhere.
    """
    tokens, source = prefill_chunk("llama.cpp", context, batch)
    hidden = spec.hidden or 0
    gemma = _architecture(spec).startswith("gemma")
    ffn = _ffn_width(spec, 4) if gemma else _ffn_width(spec, 3) + 3 * hidden
    activations = 4 * tokens * max(ffn, _mixer_width(spec))
    measured = "tensors of llama.cpp's graph; agrees with unslothai/unsloth pull request 11043"
    parts = [
        MemoryPart(
            name="activations",
            bytes=activations,
            formula=f"{tokens} tokens x {activations // (4 * tokens)} elements x 4 bytes",
            source=source,
        )
    ]
    cells = sum({part.kind: part.cells for part in cache.parts}.values()) * batch
    if cells:
        parts.append(
            MemoryPart(
                name="attention mask", bytes=2 * tokens * cells, formula=f"{tokens} x {cells} cells x 2 bytes", source=measured
            )
        )
    if kv is not None and cache.parts:
        copy = max(2 * part.elements * part.cells * batch for part in cache.parts)
        extra = max(0, copy + 4 * tokens * _query_width(spec) - activations)
        text = "an F16 copy of the widest layer's cache, beyond the activations whose place it takes"
        parts.append(MemoryPart(name="unpacked cache", bytes=extra, formula=text, source=measured))
    return tuple(parts)


def _architecture(spec: ModelSpec) -> str:
    layout = find_layout(spec)
    return layout.gguf if layout else ""


def _ffn_width(spec: ModelSpec, copies: int) -> int:
    """Elements of one token in the FFN: `copies` of the inner width; with experts also their inputs and outputs."""
    layout = find_layout(spec)
    dense = spec.intermediate or (layout.ffn_ratio or 0 if layout else 0) * (spec.hidden or 0)
    if layout and layout.ffn_halved:
        dense //= 2
    experts = spec.experts
    if experts is None:
        return copies * dense
    shared = experts.shared_intermediate if experts.shared_intermediate is not None else experts.shared * experts.intermediate
    sparse = experts.per_token * (2 * (spec.hidden or 0) + 3 * experts.intermediate) + 3 * shared
    return max(sparse, copies * dense if experts.dense_layers or experts.every > 1 else 0)


def _mixer_width(spec: ModelSpec) -> int:
    """Elements of one token in attention (Q, K, V and its output) or in a linear layer (its inputs, twice)."""
    heads, head_dim = spec.heads or 0, spec.head_dim or (spec.hidden or 0) // (spec.heads or 1)
    attention, state = spec.attention or AttentionSpec(), spec.state
    if attention.kv_lora_rank:
        head_dim = (attention.qk_nope_head_dim or 0) + (attention.qk_rope_head_dim or 0)
        widths = [3 * heads * head_dim]
    else:
        widths = [2 * heads * head_dim + 2 * (spec.kv_heads or heads) * head_dim]
    if state and state.kind == "delta":
        key, value = (state.key_heads or 0) * (state.key_head_dim or 0), (state.value_heads or 0) * (state.value_head_dim or 0)
        widths.append(2 * (2 * key + 2 * value))
    elif state and state.inner:
        widths.append(4 * state.inner)
    return max(widths)


def _query_width(spec: ModelSpec) -> int:
    """Elements of one token in llama.cpp while attention reads the unpacked cache: residual, queries and their output."""
    layout, attention = find_layout(spec), spec.attention or AttentionSpec()
    hidden, heads = spec.hidden or 0, spec.heads or 0
    if attention.kv_lora_rank:  # queries are absorbed into the latent space
        return 2 * hidden + 4 * heads * (attention.kv_lora_rank + (attention.qk_rope_head_dim or 0))
    head_dim = max(attention.global_head_dim or 0, spec.head_dim or (hidden // heads if heads else 0))
    return 2 * hidden + (5 if layout and layout.out_gate else 2) * heads * head_dim


def _largest_matrix(spec: ModelSpec) -> int:
    """Elements of the largest quantized matrix; 0 where the shape is incomplete."""
    if not find_layout(spec):
        return 0
    from knowledge.tensors import missing_facts

    if missing_facts(spec):
        return 0
    return max((tensor.rows * tensor.cols for tensor in tensors(spec) if tensor.kind in ("linear", "expert")), default=0)
