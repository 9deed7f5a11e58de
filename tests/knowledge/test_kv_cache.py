"""KV-cache and state bytes against values worked out by hand from the published shapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.engines import all_engines
from knowledge.errors import InvalidModelError, InvalidRequestError, InvalidSchemeError, UnknownNameError
from knowledge.kv_cache import bytes_per_element, kv_cache_bytes, layer_kinds, rolls, state_bytes
from knowledge.models import AttentionSpec, ModelSpec, StateSpec
from knowledge.schemes import parse_kv


def make_model(name: str, **facts: object) -> ModelSpec:
    return ModelSpec(name=name, family=name.split("-")[0], source="test", **facts)  # type: ignore[arg-type]


LLAMA = make_model("llama-3-8b", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128)
FALCON = make_model("falcon-7b", layers=32, hidden=4544, heads=71, kv_heads=1, head_dim=64)
MISTRAL = make_model(
    "mistral-7b-v0.1", layers=32, heads=32, kv_heads=8, head_dim=128, attention=AttentionSpec(sliding=32, window=4096)
)
GEMMA = make_model(
    "gemma-2-9b", layers=42, heads=16, kv_heads=8, head_dim=256, attention=AttentionSpec(full=21, sliding=21, window=4096)
)
GEMMA_3 = make_model(
    "gemma-3-27b", architecture="Gemma3ForConditionalGeneration", layers=62, heads=32, kv_heads=16, head_dim=128,
    attention=AttentionSpec(full=10, sliding=52, window=1024),
)  # fmt: skip
GEMMA_4 = make_model(
    "gemma-4-31b", layers=60, heads=32, kv_heads=16, head_dim=256,
    attention=AttentionSpec(full=10, sliding=50, window=1024, global_kv_heads=4, global_head_dim=512),
)  # fmt: skip
GEMMA_3N = make_model(
    "gemma-3n-e4b", layers=35, heads=8, kv_heads=2, head_dim=256,
    attention=AttentionSpec(full=7, sliding=28, window=512, kv_shared=15),
)  # fmt: skip
DEEPSEEK = make_model(
    "deepseek-v3", layers=61, heads=128, kv_heads=128,
    attention=AttentionSpec(kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128),
)  # fmt: skip
DELTA = StateSpec(kind="delta", conv=4, key_heads=16, value_heads=32, key_head_dim=128, value_head_dim=128)
QWEN_NEXT = make_model(
    "qwen3-next-80b", layers=48, heads=16, kv_heads=2, head_dim=256, attention=AttentionSpec(full=12, linear=36), state=DELTA
)
MAMBA = make_model(
    "mamba-2.8b", layers=64, hidden=2560, state=StateSpec(kind="mamba", conv=4, inner=5120, state=16, dt_rank=160)
)
MAMBA_2 = make_model(
    "nemotron-h", layers=8, heads=32, kv_heads=2, head_dim=128, attention=AttentionSpec(full=1, linear=4, ffn_only=3),
    state=StateSpec(kind="mamba2", conv=4, inner=4096, state=128, groups=8),
)  # fmt: skip
ALL = (LLAMA, FALCON, MISTRAL, GEMMA, GEMMA_3, GEMMA_4, GEMMA_3N, DEEPSEEK, QWEN_NEXT, MAMBA, MAMBA_2)

# Llama-3-8B has 2 x 8 x 128 x 32 = 65536 elements a token.
TOTALS = [
    pytest.param(LLAMA, "kv16", None, 8192, 1_073_741_824, id="llama-3-8b: 131072 B a token"),
    pytest.param(LLAMA, "kv16", "llama.cpp", 8192, 1_073_741_824, id="llama-3-8b f16"),
    pytest.param(LLAMA, "kvq8_0", "llama.cpp", 8192, 570_425_344, id="llama-3-8b q8_0: 34 B per 32"),
    pytest.param(LLAMA, "kvq5_1", "llama.cpp", 8192, 402_653_184, id="llama-3-8b q5_1: 24 B per 32"),
    pytest.param(LLAMA, "kvq4_0", "llama.cpp", 8192, 301_989_888, id="llama-3-8b q4_0: 18 B per 32"),
    pytest.param(LLAMA, "kvfp8", "vllm", 8192, 536_870_912, id="llama-3-8b fp8"),
    pytest.param(LLAMA, "kv8", "vllm", 8192, 553_648_128, id="llama-3-8b int8 per token and head: 132 B per 128"),
    pytest.param(LLAMA, "kv4", "vllm", 8192, 285_212_672, id="llama-3-8b int4 per token and head: 68 B per 128"),
    pytest.param(LLAMA, "kvnvfp4", "vllm", 8192, 301_989_888, id="llama-3-8b nvfp4: 9 B per 16"),
    pytest.param(LLAMA, "kvnvfp4", "sglang", 8192, 301_989_888, id="sglang fp4: 3.56 times the tokens of bf16"),
    pytest.param(LLAMA, "kv8", "lmdeploy", 8192, 553_648_128, id="lmdeploy int8: 1.03125 B"),
    pytest.param(LLAMA, "kv4", "lmdeploy", 8192, 285_212_672, id="lmdeploy int4: 0.53125 B"),
    pytest.param(LLAMA, "kv4g64", "transformers", 8192, 314_048_512, id="quanto: 8064 x 0.5625 + 128 x 2 B"),
    pytest.param(LLAMA, "kv4g64", "transformers", 100, 13_107_200, id="quanto: short prompts stay at 16 bits"),
    pytest.param(LLAMA, "kv3g64", "transformers", 8192, 261_200_282, id="hqq: 8064 x (0.4 + 0.0625) + 128 x 2 B"),
    pytest.param(LLAMA, "kivi2", None, 8192, 214_958_080, id="kivi: 8064 x 0.375 + 128 x 2 B"),
    pytest.param(LLAMA, "kv8g64", "mlx", 8192, 570_425_344, id="mlx 8 bits"),
    pytest.param(LLAMA, "kvq8_0", "exllamav2", 8192, 570_425_344, id="exllamav2 Q8"),
    pytest.param(LLAMA, "kv6g32", "exllamav2", 8192, 436_207_616, id="exllamav2 Q6: keys 1.0625, values 0.5625"),
    pytest.param(LLAMA, "kvq4_0", "exllamav2", 8192, 301_989_888, id="exllamav2 Q4"),
    pytest.param(LLAMA, "kv3g32", "exllamav3", 8192, 234_881_024, id="exllamav3 3 bits: 3/8 + 2/32"),
    pytest.param(LLAMA, "kvmxfp4", None, 8192, 285_212_672, id="mxfp4: 17 B per 32"),
    pytest.param(FALCON, "kv16", None, 2048, 16_777_216, id="falcon-7b: one head, 8192 B a token"),
    pytest.param(MISTRAL, "kv16", None, 32768, 4_294_967_296, id="mistral, no engine: every token"),
    pytest.param(MISTRAL, "kv16", "llama.cpp", 32768, 4_294_967_296, id="mistral, llama.cpp ignores the window"),
    pytest.param(MISTRAL, "kv16", "transformers", 32768, 536_739_840, id="mistral, transformers: 4095 tokens"),
    pytest.param(MISTRAL, "kv16", "vllm", 32768, 807_403_520, id="mistral, vllm: 385 blocks of 16"),
    pytest.param(MISTRAL, "kv4g64", "transformers", 32768, 1_220_018_176, id="mistral, a quantized cache keeps every token"),
    pytest.param(GEMMA, "kv16", "llama.cpp", 8192, 2_202_009_600, id="gemma-2-9b: 21 x 8192 + 21 x 4608 tokens"),
    pytest.param(GEMMA, "kv16", None, 8192, 2_818_572_288, id="gemma-2-9b, no engine"),
    pytest.param(GEMMA, "kv16", "sglang", 8192, 8192 * 21 * (8192 + 6554), id="gemma-2-9b, sglang: 0.8 of the tokens"),
    pytest.param(GEMMA_3, "kv16", "mlx", 32768, 8192 * (10 * 32768 + 52 * 1024), id="gemma-3, mlx rolls"),
    pytest.param(GEMMA_4, "kv16", "transformers", 8192, 10 * 8192 * 8192 + 50 * 1023 * 16384, id="gemma-4: full layers differ"),
    pytest.param(GEMMA_3N, "kv16", None, 4096, 20 * 4096 * 2048, id="gemma-3n: 20 of 35 layers have a cache"),
    pytest.param(DEEPSEEK, "kv16", "vllm", 32768, 2_302_672_896, id="deepseek-v3: 576 elements a layer, 70272 B a token"),
    pytest.param(DEEPSEEK, "kvq8_0", "llama.cpp", 8192, 61 * 612 * 8192, id="deepseek-v3 q8_0: 612 B a row"),
    pytest.param(DEEPSEEK, "kvq4_0", "llama.cpp", 8192, 61 * 324 * 8192, id="deepseek-v3 q4_0: 324 B a row"),
    pytest.param(QWEN_NEXT, "kv16", "vllm", 32768, 805_306_368, id="qwen3-next: 12 of 48 layers, 24576 B a token"),
    pytest.param(MAMBA, "kv16", None, 32768, 0, id="mamba: none"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "kv", "engine", "context", "total"), TOTALS)
def test_total(model: ModelSpec, kv: str, engine: str | None, context: int, total: int) -> None:
    assert kv_cache_bytes(model, parse_kv(kv), engine=engine, context=context).total == total


@pytest.mark.parametrize(
    ("engine", "cells"),
    [(None, 8193), ("transformers", 8193), ("sglang", 8193), ("vllm", 8208), ("tensorrt-llm", 8224), ("lmdeploy", 8256)]
    + [(name, 8448) for name in ("llama.cpp", "ollama", "exllamav2", "exllamav3", "mlx")],
)
def test_cells_are_rounded_up_to_the_engines_blocks(engine: str | None, cells: int) -> None:
    assert kv_cache_bytes(LLAMA, None, engine=engine, context=8193).parts[0].cells == cells


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param(MAMBA, 64 * (3 * 5120 + 16 * 5120) * 4, id="mamba-2.8b: 24.9 MB"),
        pytest.param(QWEN_NEXT, 36 * (3 * (2 * 2048 + 4096) + 32 * 128 * 128) * 4, id="gated delta net: 79.0 MB"),
        pytest.param(MAMBA_2, 4 * (3 * (4096 + 2 * 8 * 128) + 128 * 4096) * 4, id="mamba-2: B and C in the convolution"),
        pytest.param(LLAMA, 0, id="attention only"),
    ],
)
def test_state(model: ModelSpec, expected: int) -> None:
    assert state_bytes(model) == expected
    assert state_bytes(model, batch=3, engine="llama.cpp") == 3 * expected


@pytest.mark.parametrize(
    ("kv", "head_dim", "engine", "expected"),
    [
        ("kv16", 128, None, 2.0),
        ("kv8", 128, None, 1.03125),
        ("kv8", 64, None, 1.0625),
        ("kv8tensor", 128, None, 1.0),
        ("kv4g64", 128, None, 0.5625),
        ("kv4g64", 128, "mlx", 0.5625),
        ("kv4g32", 128, None, 0.625),
        ("kv5g32", 128, "exllamav3", 0.6875),
        ("kvfp8", 128, None, 1.0),
        ("kvfp4", 128, None, 0.5625),
        ("kvnvfp4", 128, None, 0.5625),
        ("kvq8_kv", 128, None, 1.0),
        ("kviq4_nl", 128, "llama.cpp", 0.5625),
        ("kivi4", 128, None, 0.625),
    ],
)
def test_bytes_per_element(kv: str, head_dim: int, engine: str | None, expected: float) -> None:
    assert bytes_per_element(parse_kv(kv), head_dim, engine) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("model", "engine", "context", "text"),
    [
        pytest.param(MISTRAL, None, 32768, "no engine given: 32 layers keep every token", id="full"),
        pytest.param(MISTRAL, "vllm", 32768, "vllm: 32 layers keep 6160 tokens (window 4096), in blocks of 16", id="rolling"),
        pytest.param(DEEPSEEK, "vllm", 8192, "one compressed vector per token", id="latent"),
        pytest.param(GEMMA_3N, None, 8192, "15 share another layer's cache", id="shared"),
        pytest.param(MAMBA, "vllm", 8192, "no KV cache", id="state"),
    ],
)
def test_policy_says_what_is_kept(model: ModelSpec, engine: str | None, context: int, text: str) -> None:
    assert text in kv_cache_bytes(model, None, engine=engine, context=context).policy


def test_policy_says_that_an_engine_lacks_the_format() -> None:
    assert "vllm lists no such cache format" in kv_cache_bytes(LLAMA, parse_kv("kvq8_0"), engine="vllm", context=64).policy


def test_per_token_counts_growing_layers_only() -> None:
    assert kv_cache_bytes(LLAMA, None, context=64).per_token == 131072
    assert kv_cache_bytes(GEMMA, None, engine="llama.cpp", context=8192).per_token == 21 * 8192
    assert kv_cache_bytes(GEMMA, None, engine="llama.cpp", context=1024).per_token == 42 * 8192


def test_a_quantized_transformers_cache_unpacks_one_layer() -> None:
    assert (
        kv_cache_bytes(LLAMA, parse_kv("kv4g64"), engine="transformers", context=8192, batch=2).workspace == 2 * 2048 * 8192 * 2
    )
    assert kv_cache_bytes(LLAMA, None, engine="transformers", context=8192).workspace == 0


@pytest.mark.parametrize(
    ("engine", "kv", "expected"),
    [
        ("mlx", "kv16", True),
        ("llama.cpp", "kv16", True),
        ("transformers", "kv16", True),
        ("transformers", "kv4g64", False),
        ("lmdeploy", "kv16", False),
    ],
)
def test_rolls(engine: str, kv: str, expected: bool) -> None:
    assert rolls(GEMMA_3, engine, parse_kv(kv)) is expected
    assert not rolls(LLAMA, engine)


@pytest.mark.parametrize(
    ("facts", "match"),
    [
        pytest.param({"heads": 8, "kv_heads": 8}, "number of layers", id="layers"),
        pytest.param({"layers": 2, "hidden": 256, "heads": 8}, "number and width of the KV heads", id="kv heads"),
        pytest.param({"layers": 2, "kv_heads": 2}, "number and width of the KV heads", id="head width"),
        pytest.param(
            {"layers": 2, "kv_heads": 2, "hidden": 100, "heads": 8}, "width of the KV heads", id="width does not divide"
        ),
        pytest.param({"layers": 4, "attention": AttentionSpec(full=3)}, "3 of 4 are stated", id="kinds do not add up"),
        pytest.param(
            {"layers": 4, "attention": AttentionSpec(window=128)}, "which layers have the window", id="window of no layer"
        ),
        pytest.param(
            {"layers": 2, "attention": AttentionSpec(kv_lora_rank=512)}, "rotary part", id="latent without rotary part"
        ),
        pytest.param(
            {"layers": 2, "kv_heads": 2, "head_dim": 64, "attention": AttentionSpec(sliding=2)},
            "length of the window",
            id="window",
        ),
        pytest.param({"layers": 2, "heads": 4, "state": DELTA}, "which layers are recurrent", id="hybrid of unknown kinds"),
    ],
)
def test_missing_facts_are_named(facts: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidModelError, match=match) as caught:
        kv_cache_bytes(make_model("unknown-1b", **facts), None, context=8)
    assert caught.value.hint


def test_missing_state_is_named() -> None:
    with pytest.raises(InvalidModelError, match="shape of the recurrent state"):
        state_bytes(make_model("hybrid-1b", layers=2, attention=AttentionSpec(full=1, linear=1)))
    with pytest.raises(InvalidModelError, match="inner width"):
        state_bytes(make_model("mamba-1b", layers=2, state=StateSpec(kind="mamba", conv=4)))
    with pytest.raises(InvalidModelError, match="heads of the delta net"):
        state_bytes(make_model("delta-1b", layers=2, state=StateSpec(kind="delta", conv=4)))


@pytest.mark.parametrize(("context", "batch"), [(0, 1), (-5, 1), (8, 0)])
def test_context_and_batch_are_positive(context: int, batch: int) -> None:
    with pytest.raises(InvalidRequestError, match="at least one token"):
        kv_cache_bytes(LLAMA, None, context=context, batch=batch)


def test_block_types_need_heads_of_whole_blocks() -> None:
    with pytest.raises(InvalidSchemeError, match="multiple of 32"):
        bytes_per_element(parse_kv("kvq8_0"), 80, "llama.cpp")


def test_unknown_engine() -> None:
    with pytest.raises(UnknownNameError, match="unknown engine"):
        kv_cache_bytes(LLAMA, None, engine="vlm", context=8)
    with pytest.raises(UnknownNameError, match="unknown engine"):
        state_bytes(LLAMA, engine="vlm")


def test_layer_kinds() -> None:
    assert [layer_kinds(model) for model in (LLAMA, GEMMA, QWEN_NEXT, MAMBA)] == [
        (32, 0, 0),
        (21, 21, 0),
        (12, 0, 36),
        (0, 0, 64),
    ]


_ENGINES = (None, *(engine.name for engine in all_engines()))
_NAMES = ("kv16", "kv8", "kvfp8", "kv4", "kv4g64", "kvnvfp4", "kivi2")


@given(
    model=st.sampled_from(ALL), engine=st.sampled_from(_ENGINES), name=st.sampled_from(_NAMES),
    context=st.integers(1, 200_000), more=st.integers(0, 5000), batch=st.integers(1, 16),
)  # fmt: skip
def test_more_tokens_or_sequences_never_take_less(
    model: ModelSpec, engine: str | None, name: str, context: int, more: int, batch: int
) -> None:
    kv = parse_kv(name)
    size = kv_cache_bytes(model, kv, engine=engine, context=context, batch=batch)
    longer = kv_cache_bytes(model, kv, engine=engine, context=context + more, batch=batch)
    wider = kv_cache_bytes(model, kv, engine=engine, context=context, batch=batch + 1)
    assert size.total <= longer.total
    assert size.total <= wider.total
    assert size.total == sum(part.bytes for part in size.parts)
    assert all(part.cells < context + 256 for part in size.parts)


@given(model=st.sampled_from(ALL), context=st.integers(1, 100_000))
def test_fewer_bits_never_take_more(model: ModelSpec, context: int) -> None:
    totals = [kv_cache_bytes(model, parse_kv(name), context=context).total for name in ("kv16", "kv8g64", "kv4g64", "kv2g64")]
    assert totals == sorted(totals, reverse=True)
