"""Tensors from the shape: parameter counts against published ones, and what makes a shape complete."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.catalogue import all_models, find_model
from knowledge.errors import InvalidModelError
from knowledge.models import AttentionSpec, ExpertSpec, ModelSpec, StateSpec
from knowledge.tensor_rules import LAYOUTS, MIXTURES
from knowledge.tensors import is_tied, missing_facts, params_active, params_total, tensors

LLAMA = ModelSpec(
    name="llama-2-7b", family="llama", source="test", architecture="LlamaForCausalLM", layers=32, hidden=4096,
    intermediate=11008, heads=32, kv_heads=32, head_dim=128, vocab=32000, tied_embeddings=False,
)  # fmt: skip

PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "mistral-7b-v0.1": 7_241_732_096,
    "llama-3-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "mixtral-8x7b": 46_702_792_704,
    "gemma-7b": 8_537_680_896,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-1b-it": 999_885_952,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "deepseek-v3": 671_026_419_200,
    "deepseek-v2-lite": 15_706_484_224,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "falcon-7b": 7_217_189_760,
    "falcon-40b": 41_835_970_560,
    "bloom": 176_247_271_424,
    "bloom-560m": 559_214_592,
    "opt-6.7b": 6_658_473_984,
    "phi-2": 2_779_683_840,
    "phi-3-mini-4k-instruct": 3_821_079_552,
    "stablelm-2-1.6b": 1_644_515_328,
    "starcoder2-7b": 7_173_923_840,
    "olmo-2-1124-13b-instruct": 13_716_198_400,
    "internlm2.5-7b-chat": 7_737_708_544,
    "glm-4-9b-0414": 9_400_279_040,
    "mamba-130m": 129_135_360,
    "qwen3-next-80b-a3b-instruct": 79_674_391_296,
}
"""Published counts of the language model alone, rotary buffers left out."""


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items(), ids=PUBLISHED.keys())
def test_parameter_count_is_the_published_one(name: str, count: int) -> None:
    assert params_total(find_model(name)) == count


@pytest.mark.parametrize(
    ("name", "count"),
    [("mixtral-8x7b", 12_879_925_248), ("llama-2-7b", 6_738_415_616), ("qwen3-30b-a3b", 3_353_032_704)],
    ids=["two of eight experts", "dense", "eight of 128 experts"],
)
def test_active_parameters_leave_out_idle_experts(name: str, count: int) -> None:
    assert params_active(find_model(name)) == count


def test_mamba_2_8b_by_hand() -> None:
    """64 layers of 42.2 million: arXiv 2312.00752, state-spaces/mamba-2.8b."""
    mamba = ModelSpec(
        name="mamba-2.8b", family="mamba", source="test", architecture="MambaForCausalLM", layers=64, hidden=2560, vocab=50280,
        state=StateSpec(kind="mamba", conv=4, inner=5120, state=16, dt_rank=160),
    )  # fmt: skip
    layer = 2560 * 10240 + 5120 * 4 + 5120 + 5120 * 192 + 160 * 5120 + 5120 + 5120 * 16 + 5120 + 5120 * 2560 + 2560
    assert params_total(mamba) == 64 * layer + 50280 * 2560 + 2560 == 2_768_345_600


def test_latent_attention_by_hand() -> None:
    attention = AttentionSpec(
        full=2, q_lora_rank=8, kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=6, v_head_dim=5,
    )  # fmt: skip
    experts = ExpertSpec(count=4, per_token=2, intermediate=10, shared=1, dense_layers=1)
    spec = replace(
        LLAMA, architecture="DeepseekV2ForCausalLM", layers=2, hidden=32, heads=2, kv_heads=None, vocab=100, intermediate=64,
        attention=attention, experts=experts,
    )  # fmt: skip
    block = 8 * 32 + 8 + 2 * 10 * 8 + 20 * 32 + 16 + 2 * 11 * 16 + 32 * 10
    dense, sparse = 3 * 64 * 32, 4 * 32 + 4 * 3 * 10 * 32 + 3 * 10 * 32
    assert params_total(spec) == 2 * (block + 2 * 32) + dense + sparse + 2 * 100 * 32 + 32
    assert params_active(spec) == params_total(spec) - 2 * 3 * 10 * 32  # type: ignore[operator]


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"architecture": None}, ("architecture",)),
        ({"architecture": "SomethingNew"}, ("architecture",)),
        ({"kv_heads": None}, ("kv_heads",)),
        ({"hidden": None, "vocab": None}, ("hidden", "vocab")),
        ({"architecture": "MixtralForCausalLM"}, ("experts",)),
        ({"architecture": "MambaForCausalLM"}, ("state",)),
        ({"architecture": "OPTForCausalLM"}, ("max_context",)),
        ({"architecture": "DeepseekV3ForCausalLM", "experts": ExpertSpec(count=8, per_token=2, intermediate=64)},
         ("attention.kv_lora_rank", "attention.qk_rope_head_dim", "attention.qk_nope_head_dim", "attention.v_head_dim")),
    ],
    ids=["no class", "unknown class", "heads", "two", "experts", "state", "positions", "latent"],
)  # fmt: skip
def test_missing_facts_are_named(change: dict[str, object], missing: tuple[str, ...]) -> None:
    spec = replace(LLAMA, **change)  # type: ignore[arg-type]
    assert missing_facts(spec) == missing
    assert params_total(spec) is None
    assert params_active(spec) is None
    with pytest.raises(InvalidModelError, match=missing[0]):
        tensors(spec)


def test_open_facts_follow_the_published_count() -> None:
    """StableLM-2-1.6B has Q, K and V biases, StableLM-3B has none; both leave it to the config."""
    open_bias = replace(LLAMA, architecture="StableLmForCausalLM", attention_bias=None, tied_embeddings=None)
    plain = params_total(replace(open_bias, attention_bias=False, tied_embeddings=False))
    biased = params_total(replace(open_bias, attention_bias=True, tied_embeddings=True))
    assert params_total(replace(open_bias, params_published=biased, params_exact=True)) == biased != plain
    assert is_tied(replace(open_bias, params_published=biased, params_exact=True))
    assert params_total(open_bias) == plain


def test_a_stated_fact_is_not_overruled() -> None:
    stated = replace(LLAMA, tied_embeddings=False, params_published=6_607_343_616, params_exact=True)
    assert params_total(stated) == 6_738_415_616


def test_every_mixture_has_a_layout() -> None:
    assert not MIXTURES - LAYOUTS.keys()


def test_layers_of_a_tensor_are_within_the_model() -> None:
    for spec in all_models():
        if not missing_facts(spec):
            for tensor in tensors(spec):
                assert all(0 <= i < (spec.layers or 0) for i in tensor.layers), (spec.name, tensor.role)
                assert not tensor.parts or sum(rows for _, rows in tensor.parts) == tensor.rows, (spec.name, tensor.role)


@given(layers=st.integers(1, 96), heads=st.sampled_from([1, 2, 4, 8]), vocab=st.integers(1, 300_000))
def test_count_grows_by_one_layer_at_a_time(layers: int, heads: int, vocab: int) -> None:
    spec = replace(LLAMA, layers=layers, kv_heads=heads, vocab=vocab)
    layer = 2 * 4096 * 4096 + 2 * heads * 128 * 4096 + 3 * 11008 * 4096 + 2 * 4096
    assert params_total(spec) == layers * layer + 2 * vocab * 4096 + 4096
