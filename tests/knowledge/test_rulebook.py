"""The packaged rules: what they say of typical candidates, and that compiled form, page and findings are current."""

from functools import cache

import pytest
from helpers import ROOT
from rule_candidates import holding_on

from knowledge.rule_build import compiled_text, read_checked, read_findings_without_rule
from knowledge.rule_page import rules_page
from knowledge.rules import COMPILED, RULEBOOK, load_rules

REBUILD = "run: python -m knowledge.rule_build --docs docs/reference/rules.md"

FINDINGS = {
    "li2024": [str(number) for number in range(1, 38)],
    "jin2024": [f"j{number}" for number in range(1, 10)],
    "xu2024": ["x1", "x2", "x3"],
    "kurtic2024": [f"k{number}" for number in range(1, 7)],
    "liu2025": [f"l{number}" for number in range(1, 8)],
    "sharify2024": [f"s{number}" for number in range(1, 6)],
    "dettmers2023": [f"y{number}" for number in range(1, 6)],
    "zhou2026": ["z1", "z2"],
    "kumar2024": ["p1"],
    "ouyang2024": ["u1"],
    "dutta2024": ["a1", "a2", "a3"],
    "huang2024": ["h1", "h2"],
    "zheng2025": ["q1", "q2"],
    "lee2024": ["e1", "e2"],
    "reasoning": ["m1"],
    "mekala2025": ["c1", "c2"],
    "marchisio2024": ["n1"],
    "multilingual": ["n2"],
    "fp4": ["f1", "f2", "f3"],
    "kvtuner": ["v1", "v2"],
    "modelopt": ["t1", "t2"],
    "autoround": ["b1", "b2", "b3"],
}
"""Findings of the papers read for the first rulebook; each is a rule or has a reason why not."""


@cache
def checked():
    return read_checked()


@cache
def holding(**row) -> frozenset[str]:
    """Ids of the packaged rules that hold for the plain candidate changed by `row`."""
    rules = load_rules()
    (held,) = holding_on(rules, row)
    return frozenset(rule.id for rule, holds in zip(rules, held, strict=True) if holds)


def test_every_file_is_read_and_every_check_runs():
    rules = checked()
    assert len(rules) == len(list(RULEBOOK.glob("*.yaml")))
    assert all(rule.check is not None for rule in rules)


def test_the_compiled_form_is_current():
    assert (RULEBOOK / COMPILED).read_text(encoding="utf-8") == compiled_text(checked()), REBUILD


def test_the_compiled_form_is_what_the_files_say():
    assert load_rules() == checked()


def test_the_page_is_current():
    page = (ROOT / "docs/reference/rules.md").read_text(encoding="utf-8")
    assert page == rules_page(checked(), read_findings_without_rule()), REBUILD


def test_every_finding_is_a_rule_or_has_a_reason():
    stated = {finding for rule in load_rules() for finding in rule.findings}
    without = {finding.id for finding in read_findings_without_rule()}
    expected = {f"{paper}-{number}" for paper, numbers in FINDINGS.items() for number in numbers}
    assert not stated & without
    assert expected - stated - without == set()
    assert (stated | without) - expected == {"larger-or-smaller"}  # section 4 of the reading notes, a table of their own


@pytest.mark.parametrize("rule", load_rules(), ids=lambda rule: rule.id)
def test_a_rule_is_written_for_its_reader(rule):
    assert rule.title[-1] != "."
    assert rule.why.endswith(".")
    assert (
        all(any(digit in citation.number for digit in "0123456789") for citation in rule.citations[:1])
        or rule.strength != "strong"
    )
    assert rule.effect != "refuse" or rule.strength == "strong"
    assert (rule.claim is None) == (rule.no_claim is not None)


@pytest.mark.parametrize("rule", [rule for rule in load_rules() if rule.effect == "refuse"], ids=lambda rule: rule.id)
def test_no_packaged_rule_refuses_against_the_evidence(rule):
    assert rule.check.status == "supported"


GROUPS = [
    pytest.param({}, {"li2024-2"}, {"li2024-3", "li2024-17"}, id="plain W4 on knowledge"),
    pytest.param({"w_bits": 2.0}, {"li2024-4"}, {"huang2024-2bit"}, id="W2 by rounding"),
    pytest.param({"w_bits": 2.0, "method": "gptq", "method_rank": 1}, {"li2024-36"}, {"li2024-4"}, id="W2 by GPTQ"),
    pytest.param(
        {"w_bits": 2.0, "w_dtype": "codebook", "method": "imatrix", "method_rank": 1, "format": "gguf", "calibration": "data"},
        {"huang2024-2bit"},
        {"li2024-4", "li2024-36"},
        id="IQ2 with importance matrix",
    ),
    pytest.param(
        {"w_bits": 2.0, "method": "autoround", "method_rank": 2, "calibration": "data"},
        {"huang2024-2bit"},
        {"li2024-4", "li2024-36"},
        id="W2 by AutoRound",
    ),
    pytest.param({"w_bits": 3.0}, {"li2024-3", "li2024-8"}, {"li2024-35"}, id="W3 by rounding"),
    pytest.param(
        {"w_bits": 3.0, "method": "awq", "method_rank": 1, "calibration": "data"},
        {"li2024-35", "jin2024-j3"},
        {"li2024-3"},
        id="W3 by AWQ",
    ),
    pytest.param(
        {"w_bits": 3.0, "w_dtype": "kquant", "format": "gguf"}, set(), {"li2024-3", "li2024-8", "jin2024-j3"}, id="Q3_K"
    ),
    pytest.param({"a_bits": 4.0, "a_dtype": "int"}, {"li2024-5"}, {"fp4-f1"}, id="W4A4 by rounding"),
    pytest.param(
        {"a_bits": 4.0, "a_dtype": "int", "method": "quarot", "method_rank": 2}, set(), {"li2024-5"}, id="W4A4 rotated"
    ),
    pytest.param(
        {"a_bits": 4.0, "a_dtype": "nvfp", "w_dtype": "nvfp", "w_group": 16}, {"fp4-f3"}, {"li2024-5", "fp4-f1"}, id="NVFP4"
    ),
    pytest.param(
        {"a_bits": 4.0, "a_dtype": "mxfp", "w_dtype": "mxfp", "w_group": 32}, {"fp4-f1"}, {"liu2025-l7"}, id="MXFP4 by rounding"
    ),
    pytest.param(
        {"a_bits": 4.0, "a_dtype": "mxfp", "w_dtype": "mxfp", "reasoning": True},
        {"fp4-f1", "liu2025-l7"},
        set(),
        id="MXFP4, reasoning",
    ),
    pytest.param({"w_dtype": "mxfp", "reasoning": True}, set(), {"fp4-f1", "liu2025-l7"}, id="MXFP4 weights only, as gpt-oss"),
    pytest.param(
        {"w_bits": 3.0, "method": "gptq", "method_rank": 1, "reasoning": True}, {"liu2025-l2"}, set(), id="W3, reasoning"
    ),
    pytest.param({"context": 131072, "w_dtype": "nf"}, {"mekala2025-c1"}, {"mekala2025-c1-4bit"}, id="NF4 at 128k"),
    pytest.param({"context": 8192, "w_dtype": "nf"}, set(), {"mekala2025-c1"}, id="NF4 at 8k"),
    pytest.param(
        {"w_bits": 8.0, "w_dtype": "fp", "a_bits": 8.0, "a_dtype": "fp"},
        {"kurtic2024-k1"},
        {"li2024-10"},
        id="FP8 on FP8 hardware",
    ),
    pytest.param(
        {"w_bits": 8.0, "w_dtype": "fp", "a_bits": 8.0, "a_dtype": "fp", "fp8_hardware": False},
        set(),
        {"kurtic2024-k1"},
        id="FP8 elsewhere",
    ),
    pytest.param({"params_b": 1.2}, {"li2024-11", "zheng2025-q2"}, {"li2024-2"}, id="1B at four bits"),
    pytest.param(
        {"params_b": 1.2, "w_dtype": "kquant", "format": "gguf"}, set(), {"li2024-11", "zheng2025-q2"}, id="1B as Q4_K"
    ),
    pytest.param({"task": "gsm8k", "ability": "math"}, {"li2024-17", "li2024-16"}, {"li2024-2"}, id="W4 on arithmetic"),
    pytest.param({"task": "gsm8k", "ability": "math", "params_b": 70.0}, set(), {"li2024-17"}, id="W4 on arithmetic at 70B"),
    pytest.param({"moe": True}, {"li2024-33"}, set(), id="mixture of experts"),
    pytest.param(
        {"task": "adv_sst2", "task_type": "trustworthiness", "ability": "robustness"}, {"li2024-22"}, set(), id="AdvGLUE"
    ),
    pytest.param({"task": "truthfulqa_mc2"}, {"li2024-21"}, set(), id="TruthfulQA"),
    pytest.param(
        {"objective": "speed", "batch": 64, "compute_capability": 9.0}, {"modelopt-t1"}, {"kurtic2024-k2"}, id="speed, batch 64"
    ),
    pytest.param({"objective": "speed"}, {"kurtic2024-k2"}, {"modelopt-t1"}, id="speed, batch 1"),
]


@pytest.mark.parametrize(("row", "hold", "not_hold"), GROUPS)
def test_rules_on_typical_candidates(row, hold, not_hold):
    found = holding(**row)
    assert hold <= found
    assert not not_hold & found


RETRIEVAL = {"task": "longeval", "task_type": "long-context", "ability": "retrieval", "context": 16384}


@pytest.mark.parametrize(
    ("cache", "hold", "not_hold"),
    [
        pytest.param({"kv_bits": 8.0, "kv_dtype": "int"}, {"li2024-1-kv"}, {"li2024-27", "li2024-29"}, id="kv8"),
        pytest.param({"kv_bits": 8.0, "kv_dtype": "fp"}, set(), {"li2024-27", "li2024-1-kv"}, id="kvfp8"),
        pytest.param({"kv_bits": 4.0, "kv_dtype": "int"}, {"li2024-27", "li2024-29", "li2024-30"}, {"li2024-32"}, id="kv4"),
        pytest.param({"kv_bits": 4.0, "kv_dtype": "block"}, {"li2024-27", "li2024-29"}, {"li2024-32"}, id="kvq4_0"),
        pytest.param({"kv_bits": 4.0, "kv_dtype": "kivi"}, {"kivi-v1"}, {"li2024-27", "li2024-29", "li2024-30"}, id="kivi4"),
        pytest.param({"kv_bits": 2.0, "kv_dtype": "kivi"}, {"kivi-v1"}, {"li2024-32", "li2024-kv2"}, id="kivi2"),
        pytest.param({"kv_bits": 3.0, "kv_dtype": "int"}, {"li2024-27", "li2024-32"}, {"li2024-kv2"}, id="kv3"),
        pytest.param({"kv_bits": 2.0, "kv_dtype": "int"}, {"li2024-32", "li2024-kv2"}, set(), id="kv2"),
        pytest.param({"kv_bits": 4.0, "kv_dtype": "int", "w_bits": 8.0}, {"li2024-31"}, set(), id="w8kv4"),
        pytest.param(
            {"kv_bits": 4.0, "kv_dtype": "int", "has_kv_cache": False}, set(), {"li2024-27", "li2024-30"}, id="no cache"
        ),
        pytest.param(
            {"kv_bits": 4.0, "kv_dtype": "int", "task": "longbench_qasper"},
            {"li2024-29"},
            {"li2024-27"},
            id="kv4, not exact retrieval",
        ),
        pytest.param(
            {"kv_bits": 4.0, "kv_dtype": "int", "task": "litm", "ability": "multi-document-qa", "context": 6000},
            {"li2024-28"},
            {"li2024-27", "li2024-29"},
            id="kv4, documents at 6k",
        ),
    ],
)
def test_rules_on_kv_caches_for_long_retrieval(cache, hold, not_hold):
    found = holding(**(RETRIEVAL | cache))
    assert hold <= found
    assert not not_hold & found


@pytest.mark.parametrize(
    ("model", "holds"),
    [
        pytest.param({"model": "qwen2.5-7b-instruct", "attention_bias": True, "params_b": 7.6}, True, id="biases"),
        pytest.param({"model": "qwen2.5-7b-instruct", "attention_bias": None, "params_b": 7.6}, True, id="biases not stated"),
        pytest.param({"model": "qwen3-8b", "attention_bias": None, "params_b": 8.2}, False, id="qwen3"),
        pytest.param({"model": "qwen2.5-32b", "attention_bias": True, "params_b": 32.8}, False, id="large"),
    ],
)
def test_qwen_with_biases_keeps_an_8_bit_cache(model, holds):
    assert ("liu2025-l5" in holding(family="qwen", kv_bits=4.0, kv_dtype="int", **model)) is holds
