"""Candidates: what each engine and device runs, that every one is sound, and why others are not among them."""

import math
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.candidates import Candidate, CandidateSet, generate_candidates, matches, scheme_columns
from advisor.offers import all_offers
from knowledge.engines import all_engines, find_engine, find_formats
from knowledge.errors import UnknownNameError
from knowledge.hardware import find_hardware
from knowledge.models import AttentionSpec, ExpertSpec, ModelSpec, StateSpec
from knowledge.recipes import parse_recipe
from knowledge.schemes import parse_scheme
from knowledge.weight_formats import CONTAINERS


def make_model(name: str, **facts: object) -> ModelSpec:
    return ModelSpec(name=name, family=name.split("-")[0], source="test", **facts)  # type: ignore[arg-type]


LLAMA = make_model("llama-3-8b", layers=32, hidden=4096, intermediate=14336, heads=32, kv_heads=8, head_dim=128)
FALCON = make_model("falcon-7b", layers=32, hidden=4544, intermediate=18176, heads=71, kv_heads=1, head_dim=64)
PHI = make_model("phi-2", layers=32, hidden=2560, intermediate=10240, heads=32, kv_heads=32, head_dim=80)
MIXTRAL = make_model(
    "mixtral-8x7b", layers=32, hidden=4096, intermediate=14336, heads=32, kv_heads=8, head_dim=128,
    experts=ExpertSpec(count=8, per_token=2, intermediate=14336),
)  # fmt: skip
DEEPSEEK = make_model(
    "deepseek-v3", layers=61, hidden=7168, heads=128, attention=AttentionSpec(kv_lora_rank=512, qk_rope_head_dim=64)
)
GEMMA_3 = make_model(
    "gemma-3-27b", architecture="Gemma3ForConditionalGeneration", layers=62, hidden=5376, heads=32, kv_heads=16, head_dim=128,
    attention=AttentionSpec(full=10, sliding=52, window=1024),
)  # fmt: skip
MAMBA = make_model("mamba-2.8b", layers=64, hidden=2560, state=StateSpec(kind="mamba", conv=4, inner=5120, state=16))
MODELS = (LLAMA, FALCON, PHI, MIXTRAL, DEEPSEEK, GEMMA_3, MAMBA)
DEVICES = (
    None,
    "rtx-4090",
    "rtx-3090",
    "t4",
    "h200",
    "b200",
    "rtx-5090",
    "mi300x",
    "m2-max",
    "arc-a770",
    "gaudi2",
    "cpu",
    "p40",
)
ENGINES = (None, *(engine.name for engine in all_engines()))


@cache
def candidates(model: ModelSpec, engine: str | None = None, device: str | None = None) -> CandidateSet:
    return generate_candidates(model, engine=engine, hardware=find_hardware(device) if device else None)


def names(found: CandidateSet, *, method: str | None = None) -> set[str]:
    return {candidate.scheme_name for candidate in found.candidates if method in (None, candidate.method.name)}


def check(candidate: Candidate) -> None:
    """What must hold of every candidate."""
    assert candidate.scheme.name == candidate.scheme_name
    assert parse_scheme(candidate.scheme_name) == candidate.scheme
    assert parse_recipe(candidate.recipe.name) == candidate.recipe or candidate.method.name == "none"
    assert candidate.format in CONTAINERS or candidate.format in ("safetensors", "gguf")
    assert candidate.penalty >= 1
    for engine in candidate.engines:
        assert find_formats(engine, candidate.format, candidate.scheme)
        assert find_engine(engine).find_kv(candidate.scheme.kv_name)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_candidate_is_sound(model: ModelSpec) -> None:
    found = candidates(model).candidates
    for candidate in found:
        check(candidate)
    keys = [(c.scheme_name, c.method.name, c.format) for c in found]
    assert len(set(keys)) == len(keys)


def test_a_request_has_a_few_hundred_to_a_few_thousand() -> None:
    assert 1000 <= len(candidates(LLAMA).candidates) <= 3000
    assert 300 <= len(candidates(LLAMA, "vllm").candidates) <= 1000


@given(model=st.sampled_from(MODELS), engine=st.sampled_from(ENGINES), device=st.sampled_from(DEVICES))
def test_an_engine_or_a_device_only_takes_candidates_away(model: ModelSpec, engine: str | None, device: str | None) -> None:
    found = candidates(model, engine, device)
    assert names(found) <= names(candidates(model, engine))
    if engine:
        assert all(candidate.engines == (engine,) for candidate in found.candidates)
        # A format that stands in for another is offered where the other is not at hand.
        stand_ins = {offer.scheme.weights_name for offer in all_offers() if offer.instead}
        assert {
            name for name in names(found) - names(candidates(model)) if parse_scheme(name).weights_name not in stand_ins
        } == set()
    assert found.candidates or found.rejected
    assert all(rejection.reason and rejection.limit in ("engine", "hardware", "stored") for rejection in found.rejected)


def test_the_order_is_fixed() -> None:
    first = candidates(LLAMA, None, "rtx-4090")
    again = generate_candidates(LLAMA, hardware=find_hardware("rtx-4090"))
    assert first == again


@pytest.mark.parametrize(
    ("engine", "device", "scheme", "method", "there"),
    [
        ("vllm", None, "w4a16-g128", "gptq", True),
        ("vllm", None, "w3a16-g128", "gptq", True),
        ("vllm", None, "w4a16-g128-asym-kvfp8", "awq", True),
        ("vllm", None, "w4a16-g128-asym-kv8", "awq", True),
        ("vllm", None, "w4a16-g128-asym-kvq8_0", "awq", False),
        ("vllm", "rtx-4090", "fp8-channel", "rtn", True),
        ("vllm", "rtx-3090", "fp8-channel", "rtn", False),
        ("vllm", "rtx-3090", "fp8a16-channel", "rtn", True),
        ("vllm", "rtx-4090", "nvfp4", "rtn", False),
        ("vllm", "rtx-4090", "nvfp4a16", "rtn", True),
        ("vllm", "b200", "nvfp4-kvnvfp4", "rtn", True),
        ("vllm", "rtx-5090", "nvfp4", "rtn", True),
        ("vllm", "rtx-5090", "nvfp4-kvnvfp4", "rtn", False),
        ("vllm", None, "exl2:4.0bpw", "exl2", False),
        ("llama.cpp", "m2-max", "gguf:q4_k_m-kvq8_0", "rtn", True),
        ("llama.cpp", None, "gguf:q4_k_m", "imatrix", True),
        ("llama.cpp", None, "gguf:iq2_xxs", "imatrix", True),
        ("llama.cpp", None, "gguf:iq2_xxs", "rtn", False),
        ("llama.cpp", None, "gguf:bf16", "none", True),
        ("llama.cpp", None, "gguf:tq1_0", "rtn", False),
        ("llama.cpp", None, "gguf:iq4_kt", "rtn", False),
        ("ollama", None, "gguf:q4_k_m-kvq5_1", "rtn", False),
        ("transformers", None, "gguf:q4_k_m", "rtn", False),
        ("transformers", None, "nf4-dq-kv4g64", "rtn", True),
        ("transformers", None, "w8a8-channel", "llm.int8", True),
        ("transformers", None, "w2a16-g128-asym", "quanto", True),
        ("tensorrt-llm", "h200", "fp8-tensor-astatic-kvfp8", "rtn", True),
        ("tensorrt-llm", "h200", "w4a16-g128-asym", "awq", True),
        ("tensorrt-llm", "b200", "w4a16-g128-asym", "awq", False),
        ("exllamav2", None, "exl2:4.0bpw-kvq4_0", "exl2", True),
        ("exllamav3", None, "exl3:3.0bpw-kv6g32", "exl3", True),
        ("mlx", "m2-max", "mlx:q4-kv8g64", "rtn", True),
        ("lmdeploy", "v100-32gb", "w4a16-g128-asym-kv4", "awq", True),
        (None, "mi300x", "fp8-channel", "rtn", True),
        (None, "mi300x", "exl2:4.0bpw", "exl2", False),
        (None, "cpu", "gguf:q4_k_m", "rtn", True),
    ],
)
def test_what_runs(engine: str | None, device: str | None, scheme: str, method: str, there: bool) -> None:
    assert (scheme in names(candidates(LLAMA, engine, device), method=method)) is there


@pytest.mark.parametrize(
    ("model", "engine", "schemes", "there"),
    [
        pytest.param(MAMBA, None, {"w16a16-kvfp8", "gguf:q4_k_m-kvq8_0"}, False, id="no cache, no cache formats"),
        pytest.param(MAMBA, None, {"w16a16", "gguf:q4_k_m"}, True, id="weights without a cache"),
        pytest.param(DEEPSEEK, "vllm", {"w16a16-kvfp8"}, True, id="latent attention in FP8"),
        pytest.param(
            DEEPSEEK, "vllm", {"w16a16-kv8", "w16a16-kv4", "w16a16-kvnvfp4"}, False, id="latent attention has no heads"
        ),
        pytest.param(PHI, "llama.cpp", {"gguf:q4_k_m-kvq8_0"}, False, id="heads of 80 do not fill blocks of 32"),
        pytest.param(GEMMA_3, "mlx", {"mlx:q4-kv8g64"}, False, id="a rolling cache is not quantized in MLX"),
        pytest.param(GEMMA_3, "mlx", {"mlx:q4"}, True, id="but the weights are"),
        pytest.param(LLAMA, "llama.cpp", {"gguf:mxfp4"}, False, id="MXFP4 files are for experts"),
        pytest.param(MIXTRAL, "llama.cpp", {"gguf:mxfp4"}, True, id="of which Mixtral has some"),
    ],
)
def test_what_the_model_allows(model: ModelSpec, engine: str | None, schemes: set[str], there: bool) -> None:
    found = names(candidates(model, engine))
    assert schemes <= found if there else not schemes & found


def test_groups_divide_the_input() -> None:
    found = names(candidates(FALCON, "vllm"), method="awq")
    assert {"w4a16-g64-asym", "w4a16-g32-asym"} <= found
    assert "w4a16-g128-asym" not in found  # 4544 = 71 x 64
    assert any("4544 input features" in rejection.reason for rejection in candidates(FALCON, "vllm").rejected)


def test_engines_are_ordered_by_kernel_then_catalogue() -> None:
    gguf = next(c for c in candidates(LLAMA).candidates if c.scheme_name == "gguf:q4_k_m")
    assert gguf.engines[0] == "llama.cpp"
    assert gguf.engines[-1] == "vllm"
    assert gguf.kernel == "fast"
    int8 = next(c for c in candidates(LLAMA, "transformers").candidates if c.method.name == "llm.int8")
    assert (int8.kernel, round(int8.penalty, 1)) == ("slow", 10.5)


def test_a_quantized_cache_beside_plain_weights_is_rounding() -> None:
    found = {c.scheme_name: c.method.name for c in candidates(LLAMA, "vllm").candidates if c.format == "safetensors"}
    assert found["w16a16"] == "none"
    assert {method for name, method in found.items() if name != "w16a16"} == {"rtn"}


@pytest.mark.parametrize(
    ("engine", "device", "text", "limit"),
    [
        ("vllm", "rtx-3090", "needs compute capability 8.9, rtx-3090 has 8.6", "hardware"),
        ("vllm", None, "vllm does not run such weights", "engine"),
        ("exllamav2", "m2-max", "exllamav2 runs on nvidia, not on apple", "hardware"),
        (None, "m2-max", "no engine of the catalogue runs such weights on apple", "hardware"),
        ("tensorrt-llm", "t4", "tensorrt-llm needs compute capability 8.0, t4 has 7.5", "hardware"),
    ],
)
def test_rejections_say_why(engine: str | None, device: str | None, text: str, limit: str) -> None:
    found = candidates(LLAMA, engine, device).rejected
    assert any(text in rejection.reason and rejection.limit == limit for rejection in found), found
    assert len(found) <= 8


def test_whole_formats_come_first_and_long_lists_are_counted() -> None:
    rejection = next(entry for entry in candidates(LLAMA, "vllm").rejected if entry.limit == "engine")
    assert rejection.scheme.startswith("quanto, exl2, exl3, mlx, ")
    assert " more" in rejection.scheme


STORED = [
    pytest.param("gguf:q4_k_m", "rtn", "gguf", id="gguf"),
    pytest.param("w4a16-g128", "gptq", "gptq", id="gptq"),
    pytest.param("w4a16-g128-asym", "awq", "awq", id="awq"),
    pytest.param("fp8-block", "rtn", "compressed-tensors", id="fp8"),
    pytest.param("nf4", "rtn", "bitsandbytes", id="nf4"),
    pytest.param("exl2:4.25bpw", "exl2", "exl2", id="exl2"),
    pytest.param("gguf:ud-q4_k_xl", "rtn", "gguf", id="a publisher's own mix"),
]


@pytest.mark.parametrize(("scheme", "method", "checkpoint"), STORED)
def test_a_quantized_checkpoint_keeps_its_weights(scheme: str, method: str, checkpoint: str) -> None:
    stored = parse_scheme(scheme)
    model = make_model(
        "stored-7b", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, stored_scheme=stored, stored_method=method
    )
    found = candidates(model)
    assert found.candidates
    assert len({c.scheme_name for c in found.candidates}) == len(found.candidates) > 1
    for candidate in found.candidates:
        assert candidate.scheme.with_kv(None) == stored
        assert (candidate.method.name, candidate.format) == (method, checkpoint)
        assert candidate.scheme.w_bits <= stored.w_bits
    assert found.rejected[0].limit == "stored"


def test_a_stored_format_that_nobody_reads() -> None:
    model = make_model("stored-7b", layers=2, kv_heads=2, head_dim=64, stored_scheme=parse_scheme("gguf:iq4_kt"))
    found = candidates(model)
    assert not found.candidates
    assert any("no engine" in rejection.reason for rejection in found.rejected)


def test_an_unquantized_file_is_like_any_model() -> None:
    model = make_model("stored-7b", layers=2, kv_heads=2, head_dim=64, stored_scheme=parse_scheme("gguf:f16"))
    assert len(candidates(model).candidates) > 1000


@pytest.mark.parametrize(
    ("architecture", "engines", "formats"),
    [
        ("OPTForCausalLM", {"llama.cpp", "exllamav2"}, {"gguf", "exl2"}),
        ("FalconForCausalLM", {"exllamav2"}, {"exl2"}),
        ("LlamaForCausalLM", set(), set()),
        ("StableLmForCausalLM", set(), set()),
        ("NobodyKnowsForCausalLM", set(), set()),
    ],
)
def test_engines_that_cannot_read_the_architecture_are_left_out_with_the_formats_that_they_make(
    architecture: str, engines: set[str], formats: set[str]
) -> None:
    every, found = candidates(LLAMA), candidates(replace(LLAMA, architecture=architecture))
    kept = [(c.scheme_name, c.method.name, set(c.engines) - engines) for c in every.candidates if c.format not in formats]
    assert {(name, method) for name, method, left in kept if left} == {(c.scheme_name, c.method.name) for c in found.candidates}
    assert not engines & {engine for c in found.candidates for engine in c.engines}
    told = {rejection.scheme for rejection in found.rejected if "alone makes such files" in rejection.reason}
    assert told == formats


def test_a_file_that_was_made_is_read_whatever_the_list_says() -> None:
    model = replace(LLAMA, architecture="OPTForCausalLM", stored_scheme=parse_scheme("gguf:q4_k_m"), stored_method="rtn")
    assert "llama.cpp" in {engine for c in candidates(model).candidates for engine in c.engines}


def test_a_model_of_unknown_shape_still_has_candidates() -> None:
    assert len(candidates(make_model("mystery-7b")).candidates) > 1000


def test_unknown_engine() -> None:
    with pytest.raises(UnknownNameError, match="unknown engine"):
        generate_candidates(LLAMA, engine="nobody")


def test_columns() -> None:
    found = candidates(LLAMA, None, "rtx-4090").candidates
    columns = scheme_columns(found)
    rows = {name: values.tolist() for name, values in columns.items()}
    at = [c.scheme_name for c in found].index("w4a16-g128-asym-kv8")
    assert {name: values[at] for name, values in rows.items()} == {
        "scheme": "w4a16-g128-asym-kv8", "method": "awq", "format": "awq", "engine": "vllm",
        "w_bits": 4.0, "w_dtype": "int", "w_group": 128, "w_sym": False, "a_bits": 16.0, "a_dtype": None,
        "kv_bits": 8.0, "kv_dtype": "int", "kv_name": "kv8",
        "bits_per_weight": 4.15625, "calibration": "data", "method_rank": 1,
    }  # fmt: skip
    plain = [c.scheme_name for c in found].index("w16a16")
    assert (rows["w_bits"][plain], rows["w_sym"][plain], rows["kv_name"][plain]) == (16.0, None, "kv16")
    assert math.isnan(rows["w_group"][plain])
    channel = [c.scheme_name for c in found].index("w8a8-channel")
    assert rows["w_group"][channel] == -1
    assert set(rows["kv_dtype"]) == {"none", "int", "fp", "block"}
    assert {len(values) for values in columns.values()} == {len(found)}


@pytest.mark.parametrize(
    ("asked", "offered", "expected"),
    [
        ("fp8", "fp8-channel", True),
        ("fp8", "fp8-tensor-astatic", False),
        ("fp8-astatic", "fp8-tensor-astatic", True),
        ("w8a8", "w8a8-channel", True),
        ("w4a16-g128", "w4a16-g128-asym", True),
        ("w4a16-g128-asym", "w4a16-g128", False),
        ("w4a16", "w4a16-g32-asym", True),
        ("w4a16-g64", "w4a16-g128", False),
        ("w4a16-g128-kv8", "w4a16-g128-asym-kv8", True),
        ("w4a16-g128-kv8", "w4a16-g128-asym-kvfp8", False),
        ("nf4", "nf4-dq", False),
        ("gguf:q4_k_m", "gguf:q4_k_m", True),
        ("gguf:q4_k_m", "gguf:q4_k_s", False),
        ("w16a16", "w4a16-g128", False),
    ],
)
def test_matches(asked: str, offered: str, expected: bool) -> None:
    assert matches(parse_scheme(asked), parse_scheme(offered)) is expected
