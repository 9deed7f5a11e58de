"""The model catalogue: its file, every way to write a name, and parameter counts against published ones."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge import catalogue
from knowledge.catalogue import all_models, find_model, match_model, model_names
from knowledge.errors import DataError, UnknownNameError
from knowledge.models import ModelSpec
from knowledge.tensors import params_total

ROWS: list[Mapping[str, Any]] = [json.loads(line) for line in catalogue.CATALOGUE.read_text(encoding="utf-8").splitlines()]
EVIDENCE_NAMES = Path(__file__).parents[1] / "data" / "models" / "evidence_names.txt"

SEEDS = {
    "opt": ["opt-125m", "opt-350m", "opt-1.3b", "opt-2.7b", "opt-6.7b", "opt-13b", "opt-30b", "opt-66b", "opt-175b"],
    "llama": ["llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-2-7b-chat", "llama-2-13b-chat", "llama-2-70b-chat"],
    "falcon": ["falcon-7b", "falcon-40b", "falcon-180b", "falcon-7b-instruct", "falcon-40b-instruct", "falcon-180b-chat"],
    "bloom": ["bloom-560m", "bloom-1b1", "bloom-1b7", "bloom-3b", "bloom-7b1", "bloom-176b"],
    "bloomz": ["bloomz-560m", "bloomz-1b1", "bloomz-1b7", "bloomz-3b", "bloomz-7b1", "bloomz-176b"],
    "mistral": [
        "mistral-7b-v0.1", "mistral-7b-v0.2", "mistral-7b-v0.3", "mistral-7b-instruct-v0.1", "mistral-7b-instruct-v0.2",
        "mistral-7b-instruct-v0.3", "mixtral-8x7b", "mixtral-8x22b", "mixtral-8x7b-instruct-v0.1",
    ],
    "chatglm": ["chatglm2-6b", "chatglm3-6b", "chatglm2-6b-32k", "chatglm3-6b-32k"],
    "vicuna": ["vicuna-7b-v1.5", "vicuna-13b-v1.5", "vicuna-7b-v1.5-16k", "vicuna-13b-v1.5-16k"],
    "longchat": ["longchat-7b-16k", "longchat-13b-16k", "longchat-7b-v1.5-32k"],
    "stablelm": ["stablelm-3b-4e1t", "stablelm-zephyr-3b", "stablelm-2-1.6b"],
    "gemma": ["gemma-2b", "gemma-7b", "gemma-2b-it", "gemma-7b-it"],
    "mamba": ["mamba-130m", "mamba-370m", "mamba-790m", "mamba-1.4b", "mamba-2.8b"],
}  # fmt: skip

BUFFERS = "the file holds rotary frequencies: 64 a layer"
MASKS = "the file holds attention masks, a buffer of the class"
TWICE = "the file holds the tied head a second time"
FP8_SCALES = "the count includes the scales of FP8 blocks"
MXFP4 = "the count is of packed bytes and scales; the model card says 20.91 and 116.83 billion"
BIASES = "the count leaves out the routers' 32-bit biases"
CONTRADICTIONS: dict[str, tuple[int, str]] = {
    "llama-1-7b": (2048, BUFFERS),
    "llama-1-30b": (3840, BUFFERS),
    "glm-4-9b-chat": (32, "the file holds the rotary frequencies"),
    "moonlight-16b-a3b-instruct": (1728, "64 a layer beyond the shape, a buffer"),
    "gpt-neo-1.3b": (50_331_648, MASKS),
    "gpt-neo-2.7b": (67_108_864, MASKS),
    "gpt2-xl": (50_331_648, MASKS),
    "pythia-2.8b": (134_218_048, MASKS),
    "pythia-6.9b": (134_218_240, MASKS),
    "pythia-12b": (150_995_520, MASKS),
    "qwen3-0.6b": (155_582_464, TWICE),
    "qwen3-1.7b": (311_164_928, TWICE),
    "gemma-4-26b-a4b-it": (1_310_989_586, TWICE + ", and the vision tower"),
    "gemma-4-31b-it": (1_985_027_316, TWICE + ", and the vision tower"),
    "qwen3-235b-a22b": (-512, "the source's figure is rounded"),
    "kimi-k2-instruct": (62_498_608, FP8_SCALES),
    "minimax-m2": (13_880_064, FP8_SCALES),
    "deepseek-v3.2": (41_591_584, FP8_SCALES),
    "kimi-k2.5": (32_181_188_080, "the count is of packed 4-bit words and scales, and the vision tower"),
    "gpt-oss-20b": (597_196_800, MXFP4),
    "gpt-oss-120b": (3_583_180_800, MXFP4),
    "lfm2-8b-a1b": (-704, BIASES),
    "nemotron-3-nano-30b-a3b": (-2944, BIASES),
}
"""Sources that contradict the shape: published minus computed, and why the source is not believed."""

ORDER = [
    "name", "family", "hf_id", "base", "architecture", "layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim",
    "vocab", "embed_dim", "max_context", "tied_embeddings", "attention_bias", "qk_norm", "attention", "experts", "state",
    "params_published", "params_exact", "params_outside", "params_active_published", "tuned", "reasoning", "training_tokens_b",
    "aliases", "notes", "source",
]  # fmt: skip
"""Order of the facts on a line."""

NAMES = [
    ("mistral-7b-v0.1", "mistral-7b-v0.1"),
    ("Mistral-7B-v0.1", "mistral-7b-v0.1"),
    ("mistralai/Mistral-7B-v0.1", "mistral-7b-v0.1"),
    ("mistral_7b_v0.1", "mistral-7b-v0.1"),
    ("  Mistral 7B v0.1 ", "mistral-7b-v0.1"),
    ("mistral-7b", "mistral-7b-v0.1"),
    ("mixtral-8x7b", "mixtral-8x7b"),
    ("mistralai/Mixtral-8x7B-v0.1", "mixtral-8x7b"),
    ("llama-3-8b", "llama-3-8b"),
    ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
    ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
    ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
    ("llama-2-7b-chat-hf", "llama-2-7b-chat"),
    ("llama2-7b", "llama-2-7b"),
    ("llama3.1:8b", "llama-3.1-8b-instruct"),
    ("llama3.1:8b-instruct-q4_K_M", "llama-3.1-8b-instruct"),
    ("llama2:13b", "llama-2-13b-chat"),
    ("gemma2:9b", "gemma-2-9b-it"),
    ("qwen2_5-7b", "qwen2.5-7b"),
    ("qwen1_5-7b-chat", "qwen1.5-7b-chat"),
    ("microsoft/phi-1_5", "phi-1.5"),
    ("stabilityai/stablelm-2-1_6b", "stablelm-2-1.6b"),
    ("bloom", "bloom-176b"),
    ("bigscience/bloomz", "bloomz-176b"),
    ("mamba-2.8b", "mamba-2.8b"),
    ("TheBloke/Llama-2-7B-AWQ", "llama-2-7b"),
    ("TheBloke/Mistral-7B-v0.1-GPTQ", "mistral-7b-v0.1"),
    ("neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b-instruct"),
    ("bartowski/Qwen2.5-7B-Instruct-GGUF", "qwen2.5-7b-instruct"),
    ("Meta-Llama-3.1-8B-Instruct-Q4_K_M", "llama-3.1-8b-instruct"),
    ("codellama-7b-instruct", "codellama-7b-instruct"),
    ("seed-oss-36b", "seed-oss-36b-instruct"),
    ("deepseek-r1:7b", "deepseek-r1-distill-qwen-7b"),
    ("gpt-oss:20b", "gpt-oss-20b"),
    ("qwen3:8b", "qwen3-8b"),
]


@pytest.mark.parametrize(("text", "name"), NAMES, ids=[text.strip() for text, _ in NAMES])
def test_name_is_found_as_people_write_it(text: str, name: str) -> None:
    assert find_model(text).name == name


@given(st.data())
def test_case_separators_and_organisation_do_not_matter(data: st.DataObject) -> None:
    """Except that `_` between digits is a decimal point."""
    name = data.draw(st.sampled_from(model_names()))
    separators = ["-", " "] if re.search(r"\d-\d", name) else ["-", "_", " "]
    written = data.draw(st.sampled_from(separators)).join(
        data.draw(st.sampled_from([part, part.upper(), part.title()])) for part in name.split("-")
    )
    assert find_model(data.draw(st.sampled_from(["", "org/", "some-org/"])) + written).name == name


@pytest.mark.parametrize("name", EVIDENCE_NAMES.read_text(encoding="utf-8").split(), ids=str)
def test_every_model_of_the_evidence_is_known(name: str) -> None:
    assert find_model(name).source


@pytest.mark.parametrize(("family", "names"), SEEDS.items(), ids=SEEDS.keys())
def test_families_of_the_seed_study_have_shapes(family: str, names: list[str]) -> None:
    for name in names:
        spec = find_model(name)
        assert (spec.name, spec.family) == (name, family)
        assert params_total(spec), name


@pytest.mark.parametrize("text", ["mistrol-7b-v0.1", "gpt-5", "", "   ", "llama-9-7b", "gpt-oss-1"], ids=str)
def test_unknown_name_lists_the_nearest(text: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown model") as caught:
        find_model(text)
    assert caught.value.allowed
    assert caught.value.hint


def test_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*mistral-7b-v0.1"):
        find_model("mistrel-7b-v0.1")


def test_incomplete_name_is_refused_rather_than_guessed() -> None:
    with pytest.raises(UnknownNameError, match=r"not complete: .* models begin so") as caught:
        find_model("vicuna")
    assert "vicuna-7b-v1.5" in (caught.value.allowed or [])


def test_a_name_that_says_how_it_is_packed_carries_a_note() -> None:
    assert "unquantized" in find_model("TheBloke/Llama-2-7B-AWQ").notes[-1]
    assert not find_model("meta-llama/Llama-2-7b-hf").notes
    assert match_model("vicuna") is None


def test_file_is_in_its_canonical_form() -> None:
    """One line a model, sorted, every key in one order: so that a diff shows facts and nothing else."""
    assert [(row["family"], row["name"]) for row in ROWS] == sorted((row["family"], row["name"]) for row in ROWS)
    for row, line in zip(ROWS, catalogue.CATALOGUE.read_text(encoding="utf-8").splitlines(), strict=True):
        assert line == json.dumps(row, ensure_ascii=False), row["name"]
        assert None not in row.values(), row["name"]
        assert sorted(row, key=ORDER.index) == list(row), row["name"]
        assert row["source"].strip(), row["name"]


def test_no_two_models_share_a_spelling() -> None:
    owners: dict[str, str] = {}
    for key, name in catalogue._keys():
        assert owners.setdefault(key, name) == name, key


def test_finetunes_point_to_a_model_that_is_there() -> None:
    names = {row["name"] for row in ROWS}
    assert {row["base"] for row in ROWS if "base" in row} <= names


@pytest.mark.parametrize("spec", all_models(), ids=lambda spec: spec.name)
def test_facts_agree_with_each_other(spec: ModelSpec) -> None:
    attention, experts = spec.attention, spec.experts
    assert spec.name == spec.name.lower()
    if attention is not None:
        assert attention.full + attention.sliding + attention.linear + attention.ffn_only == spec.layers
        assert (attention.window is not None) == bool(attention.sliding)
        assert bool(attention.linear) >= (spec.state is not None)
    if spec.heads and spec.kv_heads:
        assert spec.heads % spec.kv_heads == 0
    if experts is not None:
        assert 1 <= experts.per_token <= experts.count
        assert bool(experts.shared) == bool(experts.shared_intermediate)
    if spec.max_context is not None and attention is not None and attention.window is not None:
        assert attention.window < spec.max_context


def _counted() -> list[ModelSpec]:
    """Models whose row states an exact count and whose shape gives one."""
    own = {row["name"] for row in ROWS if row.get("params_exact")}
    return [spec for spec in all_models() if spec.name in own and params_total(spec)]


@pytest.mark.parametrize("spec", _counted(), ids=lambda spec: spec.name)
def test_computed_count_is_the_published_one(spec: ModelSpec) -> None:
    difference, _reason = CONTRADICTIONS.get(spec.name, (0, ""))
    assert spec.params_published is not None
    assert spec.params_published - (spec.params_outside or 0) - (params_total(spec) or 0) == difference


def test_most_models_are_checked_by_their_count() -> None:
    assert len(_counted()) >= 120
    assert set(CONTRADICTIONS) <= {spec.name for spec in _counted()}


@pytest.mark.parametrize("spec", [spec for spec in all_models() if not spec.params_exact], ids=lambda spec: spec.name)
def test_rounded_sizes_are_near_the_computed_count(spec: ModelSpec) -> None:
    computed = params_total(spec)
    if spec.params_published and computed:
        assert computed == pytest.approx(spec.params_published, rel=0.05)


def test_a_finetune_inherits_the_shape_and_says_where_from() -> None:
    spec = find_model("longchat-7b-v1.5-32k")
    assert (spec.base, spec.layers, spec.max_context, spec.family) == ("llama-2-7b", 32, 32768, "longchat")
    assert "shape of llama-2-7b" in spec.source
    assert spec.training_tokens_b == 2000


def test_a_changed_vocabulary_does_not_inherit_the_count() -> None:
    base, finetune = find_model("llama-2-7b"), find_model("chinese-llama-2-7b")
    assert base.params_exact
    assert finetune.params_published is None
    assert params_total(finetune) == (params_total(base) or 0) + 2 * 4096 * (55296 - 32000)


BROKEN = [
    ({"a": {"name": "a", "family": "x", "source": "s", "base": "b"}}, "b"),
    ({"a": {"name": "a", "family": "x", "source": "s", "base": "a"}}, "a"),
    ({"a": {"name": "a", "family": "x", "source": "s", "wings": 2}}, "a"),
]


@pytest.mark.parametrize(("rows", "name"), BROKEN, ids=["unknown base", "circle of bases", "unknown fact"])
def test_a_wrong_row_is_refused(rows: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_rows", lambda: rows)
    with pytest.raises(DataError, match=f"catalogue row {name!r} is wrong"):
        catalogue._spec.__wrapped__("a")
