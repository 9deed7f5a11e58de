"""What a model needs on its device: weights, KV cache, recurrent state and buffers, part by part.

Weights, cache and state are exact for a known shape; buffers and runtime are estimates and say so. Each piece depends on
less than the whole candidate and is cached or cheap, so that a caller with thousands of candidates computes `weights_bytes`
once per weight format, and `kv_cache_bytes` and `buffer_parts` once per cache format.
"""

from functools import lru_cache

from knowledge.buffers import MemoryPart, buffer_parts
from knowledge.engines import find_engine
from knowledge.errors import InvalidRequestError
from knowledge.kv_cache import KvBytes, kv_cache_bytes, state_bytes
from knowledge.models import ModelSpec
from knowledge.schemes import QuantArgs, QuantScheme
from knowledge.values import value
from knowledge.weights import WeightBytes, weights_bytes

__all__ = ["MemoryEstimate", "MemoryPart", "RuntimeBytes", "WeightBytes", "estimate_memory", "runtime_bytes", "weights_bytes"]


@value
class RuntimeBytes:
    """Everything but the weights, for one cache format, engine, context and batch."""

    cache: KvBytes
    state: int
    buffers: tuple[MemoryPart, ...]

    @property
    def buffers_bytes(self) -> int:
        """All buffers, the runtime included."""
        return sum(part.bytes for part in self.buffers)

    @property
    def total(self) -> int:
        """Cache, state and buffers."""
        return self.cache.total + self.state + self.buffers_bytes


@value
class MemoryEstimate:
    """Memory of one model under one scheme; all in bytes. `total_bytes` is the sum of the parts."""

    weights_bytes: int
    kv_cache_bytes: int
    state_bytes: int
    buffers_bytes: int
    """Activations, logits, scratch, and the runtime (CUDA context, framework)."""
    total_bytes: int
    parts: tuple[MemoryPart, ...]
    """Every part with its formula, in the order weights, cache, state, buffers."""
    policy: str
    """What the engine keeps in its cache, in words."""
    format: str
    """Checkpoint format that the weights were counted in."""
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def runtime_bytes(
    spec: ModelSpec, kv: QuantArgs | None, *, format: str = "safetensors", engine: str | None, context: int, batch: int = 1
) -> RuntimeBytes:
    """KV cache, state and buffers of `batch` sequences of `context` tokens.

    Args:
        spec: the model.
        kv: number format of the cache; None = 16 bits.
        format: checkpoint format of the weights (some libraries unpack a matrix at a time).
        engine: whose cache policy and buffers apply; None = a full cache and no server.
        context: tokens of one sequence.
        batch: sequences at once.

    Raises:
        InvalidModelError: the cache or state cannot be computed; names the missing fact.
        InvalidSchemeError: the cache format does not fit the heads.
        UnknownNameError: nobody knows the engine.
    """
    name = find_engine(engine).name if engine else None
    cache = kv_cache_bytes(spec, kv, engine=name, context=context, batch=batch)
    buffers = buffer_parts(spec, kv, cache, format=format, engine=name, context=context, batch=batch)
    return RuntimeBytes(cache=cache, state=state_bytes(spec, batch=batch, engine=name), buffers=buffers)


def estimate_memory(
    spec: ModelSpec,
    scheme: QuantScheme,
    *,
    method: str = "rtn",
    format: str | None = None,
    engine: str | None = None,
    context: int,
    batch: int = 1,
) -> MemoryEstimate:
    """Memory that `spec` takes on its device under `scheme`.

    Without an engine the cache keeps every token of every layer, as transformers' own cache does for models without
    windows; that is the upper bound of all engines' policies.

    Args:
        spec: the model.
        scheme: number formats of weights, activations and KV cache.
        method: a name of `knowledge.recipes`; decides the checkpoint format where `format` is None.
        format: checkpoint format (`gptq`, `awq`, `gguf`, …).
        engine: whose cache policy and buffers apply.
        context: tokens of one sequence.
        batch: sequences at once.

    Raises:
        InvalidModelError: the shape is incomplete; the message names what is missing.
        InvalidRequestError: context or batch is below 1.
        InvalidSchemeError: the format does not fit the model.
        UnknownNameError: nobody knows the format or engine.
    """
    if context < 1 or batch < 1:
        raise InvalidRequestError(
            "context and batch must be at least 1", given=f"context {context}, batch {batch}", allowed="1 or more"
        )
    weights = weights_bytes(spec, scheme, format, method=method)
    runtime = runtime_bytes(spec, scheme.kv_cache, format=weights.format, engine=engine, context=context, batch=batch)
    parts = (*_weight_parts(weights), *_cache_parts(runtime), *runtime.buffers)
    return MemoryEstimate(
        weights_bytes=weights.total,
        kv_cache_bytes=runtime.cache.total,
        state_bytes=runtime.state,
        buffers_bytes=runtime.buffers_bytes,
        total_bytes=sum(part.bytes for part in parts),
        parts=parts,
        policy=runtime.cache.policy,
        format=weights.format,
        notes=(*weights.notes, *spec.notes),
    )


def _weight_parts(weights: WeightBytes) -> tuple[MemoryPart, ...]:
    beside = "header and tokenizer" if weights.format == "gguf" else "scales, zero points, indices"
    kept = (
        "norms, routers" if weights.format == "gguf" else "embedding, head, norms, biases, routers where the format leaves them"
    )
    found = (
        ("quantized weights", weights.quantized, f"codes of the {weights.format} layout, tensor by tensor"),
        ("scales and indices" if weights.format != "gguf" else "file header", weights.overhead, beside),
        ("unquantized weights", weights.kept16, kept),
    )
    return tuple(MemoryPart(name=name, bytes=size, formula=text, exact=weights.exact) for name, size, text in found if size)


def _cache_parts(runtime: RuntimeBytes) -> tuple[MemoryPart, ...]:
    parts = [
        MemoryPart(
            name=f"KV cache ({part.kind} layers)",
            bytes=part.bytes,
            formula=part.formula,
            source=runtime.cache.policy,
            exact=True,
        )
        for part in runtime.cache.parts
    ]
    if runtime.state:
        text = "convolution tail and state of every recurrent layer at 4 bytes, per sequence"
        parts.append(
            MemoryPart(
                name="recurrent state", bytes=runtime.state, formula=text, source="llama.cpp src/llama-hparams.cpp", exact=True
            )
        )
    return tuple(parts)
