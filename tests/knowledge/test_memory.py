"""The whole estimate: parts, policies, and buffers against those that llama.cpp was measured to allocate."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge import buffers
from knowledge.buffers import CUDA_CONTEXT, MIB, buffer_parts, prefill_chunk
from knowledge.catalogue import find_model
from knowledge.errors import InvalidModelError, InvalidRequestError, UnknownNameError
from knowledge.kv_cache import kv_cache_bytes
from knowledge.memory import MemoryEstimate, estimate_memory, runtime_bytes, weights_bytes
from knowledge.models import AttentionSpec, ExpertSpec, ModelSpec, StateSpec
from knowledge.schemes import parse_kv, parse_scheme


def _estimate(model: str = "mistral-7b-v0.1", scheme: str = "w4a16-g128", **options: object) -> MemoryEstimate:
    options = {"context": 8192} | options
    return estimate_memory(find_model(model), parse_scheme(scheme), **options)  # type: ignore[arg-type]


def test_llama_3_8b_by_hand() -> None:
    """8,192 tokens at 131,072 bytes each beside 5.7 GB of AWQ weights, on vLLM."""
    found = _estimate("llama-3-8b", method="awq", engine="vllm")
    assert found.format == "awq"
    assert found.weights_bytes == 6_979_321_856 // 2 + 6_979_321_856 // 128 * 5 // 2 + 2 * (2 * 525_336_576 + 65 * 4096)
    assert found.kv_cache_bytes == 8192 * 131_072
    assert found.state_bytes == 0
    activations = 2048 * (3 * 14336 + 2 * 4096) * 2
    assert found.buffers_bytes == CUDA_CONTEXT + 205 * MIB + activations + 4 * 128_256


@pytest.mark.parametrize("engine", [None, "vllm", "llama.cpp", "transformers", "sglang", "mlx"])
@pytest.mark.parametrize("model", ["mistral-7b-v0.1", "deepseek-v3", "gemma-2-9b", "qwen3-next-80b-a3b-instruct"])
def test_parts_add_up(model: str, engine: str | None) -> None:
    found = _estimate(model, "gguf:q4_k_m" if engine == "llama.cpp" else "w4a16-g128", engine=engine, batch=2)
    assert found.total_bytes == sum(part.bytes for part in found.parts)
    assert found.total_bytes == found.weights_bytes + found.kv_cache_bytes + found.state_bytes + found.buffers_bytes
    assert all(part.bytes > 0 and part.formula for part in found.parts if part.name != "unpacked cache")
    assert found.policy
    assert {"CUDA context", "activations", "logits"} <= {part.name for part in found.parts}


def test_the_policy_of_the_engine_is_stated() -> None:
    """Mistral-7B-v0.1 at 32k: 4.29 GB with a full cache, 0.54 GB in its window of 4,096 tokens."""
    full = _estimate(context=32768)
    window = _estimate(context=32768, engine="transformers")
    assert full.kv_cache_bytes == 32 * 32768 * 2 * 8 * 128 * 2
    assert round(window.kv_cache_bytes / 1e9, 2) == 0.54
    assert "every token" in full.policy
    assert "4096" in window.policy


def test_state_is_counted_apart() -> None:
    found = _estimate("mamba-130m", "w16a16", context=100_000)
    assert found.kv_cache_bytes == 0
    assert found.state_bytes == 24 * 4 * (3 * 1536 + 16 * 1536)


def test_libraries_that_unpack_need_room_for_a_matrix() -> None:
    parts = {part.name: part.bytes for part in _estimate(scheme="nf4").parts}
    assert parts["unpacked matrix"] == 2 * 4096 * 14336


def test_quantized_cache_of_transformers_unpacks_one_layer() -> None:
    parts = {part.name: part.bytes for part in _estimate("llama-3-8b", "w4a16-g128-kv4g64", engine="transformers").parts}
    assert parts["unpacked cache"] == 2 * 8192 * 2 * 8 * 128


@pytest.mark.parametrize(
    ("engine", "context", "batch", "tokens"),
    [("vllm", 8192, 1, 2048), ("llama.cpp", 8192, 4, 512), ("transformers", 8192, 4, 32768), (None, 1000, 1, 1000)],
)
def test_prompt_tokens_at_once(engine: str | None, context: int, batch: int, tokens: int) -> None:
    assert prefill_chunk(engine, context, batch)[0] == tokens


def _model(
    name: str, architecture: str, hidden: int, intermediate: int | None, layers: int, heads: int, **more: object
) -> ModelSpec:
    return ModelSpec(
        name=name, family="test", source="unslothai/unsloth pull request 11043", architecture=architecture, hidden=hidden,
        intermediate=intermediate, layers=layers, heads=heads, tied_embeddings=True, **more,  # type: ignore[arg-type]
    )  # fmt: skip


_DELTA = StateSpec(kind="delta", conv=4, key_heads=16, value_heads=32, key_head_dim=128, value_head_dim=128)
_MEASURED_MODELS = {
    "Llama-3.2-1B": _model("a", "LlamaForCausalLM", 2048, 8192, 16, 32, kv_heads=8, head_dim=64, vocab=128256),
    "Qwen3-8B": _model("b", "Qwen3ForCausalLM", 4096, 12288, 36, 32, kv_heads=8, head_dim=128, vocab=151936),
    "Qwen3.5-4B": _model(
        "c", "Qwen3_5ForCausalLM", 2560, 9216, 32, 16, kv_heads=4, head_dim=256, vocab=248320, state=_DELTA,
        attention=AttentionSpec(full=8, linear=24),
    ),
    "Qwen3.6-35B-A3B": _model(
        "d", "Qwen3_5MoeForCausalLM", 2048, None, 40, 16, kv_heads=2, head_dim=256, vocab=248320, state=_DELTA,
        attention=AttentionSpec(full=10, linear=30),
        experts=ExpertSpec(count=256, per_token=8, intermediate=512, shared_intermediate=512),
    ),
    "Gemma-4-12B": _model(
        "e", "Gemma4ForCausalLM", 3840, 15360, 48, 16, kv_heads=8, head_dim=256, vocab=262144,
        attention=AttentionSpec(full=8, sliding=40, window=1024, global_kv_heads=1, global_head_dim=512),
    ),
    "GLM-4.7-Flash": _model(
        "f", "Glm4MoeLiteForCausalLM", 2048, 10240, 47, 20, vocab=154880,
        attention=AttentionSpec(full=47, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=192, v_head_dim=256),
        experts=ExpertSpec(count=64, per_token=4, intermediate=1536, shared=1, dense_layers=1),
    ),
}  # fmt: skip
_MEASURED = [
    ("Llama-3.2-1B", 256, 32768, None, 46.01),
    ("Llama-3.2-1B", 512, 32768, None, 92.01),
    ("Llama-3.2-1B", 512, 131072, None, 188.01),
    ("Llama-3.2-1B", 512, 131072, "kvq8_0", 400.04),
    ("Llama-3.2-1B", 2048, 131072, "kvq8_0", 832.07),
    ("Qwen3-8B", 512, 32768, None, 128.01),
    ("Qwen3-8B", 2048, 131072, None, 896.04),
    ("Qwen3-8B", 512, 131072, "kvq8_0", 672.09),
    ("Qwen3.5-4B", 512, 32768, None, 96.02),
    ("Qwen3.5-4B", 2048, 131072, "kvq8_0", 1224.34),
    ("Qwen3.6-35B-A3B", 256, 32768, None, 66.02),
    ("Qwen3.6-35B-A3B", 512, 131072, "kvq8_0", 436.31),
    ("Gemma-4-12B", 512, 32768, None, 154.52),
    ("Gemma-4-12B", 512, 131072, "kvq8_0", 436.80),
    ("GLM-4.7-Flash", 512, 32768, None, 110.01),
    ("GLM-4.7-Flash", 2048, 131072, None, 824.04),
    ("GLM-4.7-Flash", 512, 131072, "kvq8_0", 358.90),
]
"""llama-server's "CUDA0 compute buffer size" in MiB: model, micro-batch, context, cache format."""


@pytest.mark.parametrize(("model", "chunk", "context", "kv", "measured"), _MEASURED)
def test_compute_buffers_of_llama_cpp(
    model: str, chunk: int, context: int, kv: str | None, measured: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(buffers._CHUNKS, "llama.cpp", (chunk, ""))
    spec, args = _MEASURED_MODELS[model], parse_kv(kv) if kv else None
    cache = kv_cache_bytes(spec, args, engine="llama.cpp", context=context)
    parts = buffer_parts(spec, args, cache, engine="llama.cpp", context=context, batch=1)
    found = sum(part.bytes for part in parts if part.name != "CUDA context") / MIB
    dense = model in ("Llama-3.2-1B", "Qwen3-8B")
    assert measured * 0.99 <= found <= measured * (1.011 if dense else 1.15)


def test_pieces_are_those_of_the_whole() -> None:
    spec, scheme = find_model("mistral-7b-v0.1"), parse_scheme("w4a16-g128-kv8")
    weights = weights_bytes(spec, scheme, method="gptq")
    runtime = runtime_bytes(spec, scheme.kv_cache, format="gptq", engine="vllm", context=4096, batch=3)
    whole = estimate_memory(spec, scheme, method="gptq", engine="vllm", context=4096, batch=3)
    assert whole.total_bytes == weights.total + runtime.total


@given(context=st.integers(1, 200_000), batch=st.integers(1, 16), engine=st.sampled_from([None, "vllm", "llama.cpp"]))
def test_more_tokens_never_need_less(context: int, batch: int, engine: str | None) -> None:
    first, longer, wider = (
        _estimate(context=c, batch=b, engine=engine).total_bytes
        for c, b in ((context, batch), (context + 100, batch), (context, batch + 1))
    )
    assert first <= longer
    assert first < wider


@pytest.mark.parametrize(("context", "batch"), [(0, 1), (1, 0), (-5, 1)])
def test_impossible_sizes_are_refused(context: int, batch: int) -> None:
    with pytest.raises(InvalidRequestError, match="at least 1"):
        _estimate(context=context, batch=batch)


def test_a_cache_that_cannot_be_computed_says_why() -> None:
    spec = replace(find_model("llama-2-7b"), kv_heads=None, params_published=6_738_415_616)
    assert not weights_bytes(spec, parse_scheme("w4a16-g128")).exact
    with pytest.raises(InvalidModelError, match="KV"):
        estimate_memory(spec, parse_scheme("w4a16-g128"), context=4096)


def test_unknown_engine() -> None:
    with pytest.raises(UnknownNameError, match="vlm"):
        _estimate(engine="vlm")


def test_a_spec_of_an_unknown_class_still_has_weights_and_cache() -> None:
    spec = replace(find_model("llama-2-7b"), architecture="SomethingNew", params_published=6_738_415_616)
    found = estimate_memory(spec, parse_scheme("w8a8"), context=4096)
    assert found.kv_cache_bytes == 4096 * 32 * 2 * 4096 * 2
    assert "architecture" in " ".join(found.notes)
