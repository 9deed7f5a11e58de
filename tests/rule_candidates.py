"""Builders for tests of rules: candidate relations, rule files, rules."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from knowledge.database import scratch_connection
from knowledge.rule_columns import CANDIDATE_COLUMNS, About
from knowledge.rule_conditions import whole_condition
from knowledge.rule_evaluation import hold
from knowledge.rules import Citation, Rule

PLAIN: dict[str, object] = {
    "candidate_id": 1, "scheme": "w4a16-g128", "method": "rtn", "format": "compressed-tensors", "engine": "vllm",
    "w_bits": 4.0, "w_dtype": "int", "w_group": 128, "w_sym": None, "a_bits": 16.0, "a_dtype": None,
    "kv_bits": 16.0, "kv_dtype": "none", "kv_name": "kv16", "bits_per_weight": 4.125, "calibration": "none", "method_rank": 0,
    "weights_bytes": 4 * 10**9, "kv_cache_bytes": 10**9, "state_bytes": 0, "buffers_bytes": 10**9, "total_bytes": 6 * 10**9,
    "budget_bytes": 16 * 10**9, "fits": True, "model": "mistral-7b-v0.1", "family": "mistral", "params_b": 7.24,
    "active_params_b": 7.24, "moe": False, "tuned": False, "reasoning": False, "gqa_ratio": 4.0, "attention_bias": False,
    "has_kv_cache": True, "task": "mmlu", "task_type": "emergent", "ability": "knowledge", "metric": "acc", "context": 4096,
    "batch": 1, "hardware": None, "vendor": "nvidia", "compute_capability": 8.9, "fp8_hardware": True, "fp4_hardware": False,
    "objective": "balanced",
}  # fmt: skip
"""A 7B model in 4-bit groups, 16-bit cache, on a knowledge test: no rule refuses or avoids it."""

_ARRAYS = {"INTEGER": np.float64, "BIGINT": np.float64, "DOUBLE": np.float64, "VARCHAR": object, "BOOLEAN": object}

RULE_TEXT = """\
id: test-1
title: A rule
kind: candidate
effect: avoid
strength: medium
when: w_bits < 4 AND method = 'rtn'
why: Because.
citations:
- {paper: Someone 2025, where: table 1, number: 12 %, url: "https://arxiv.org/abs/2501.00000"}
check:
  claim: It loses a tenth.
  sources: [li2024]
  unit: share
  at_least: 0.1
  min_n: 2
  query: SELECT median(loss) AS value, count(*) AS n FROM evidence WHERE w_bits < 4
"""


def candidate_rows(*rows: Mapping[str, object], about: tuple[str, ...] = get_args(About)) -> dict[str, Any]:
    """Columns of the candidate relation (those about `about`): `PLAIN` changed as each of `rows` says."""
    full = [PLAIN | {"candidate_id": number} | dict(row) for number, row in enumerate(rows, start=1)]
    columns: dict[str, Any] = {}
    for name, column in CANDIDATE_COLUMNS.items():
        if column.about in about:
            kind = _ARRAYS[column.sort]
            columns[name] = np.array(
                [np.nan if row[name] is None and kind is np.float64 else row[name] for row in full], dtype=kind
            )
    return columns


def holding_on(rules: Sequence[Rule], *rows: Mapping[str, object]) -> list[list[bool]]:
    """For each row whether each rule holds, its condition taken as a whole."""
    with scratch_connection() as connection:
        whole = [whole_condition(rule.when, rule.must) for rule in rules]
        found: list[list[bool]] = hold(connection, whole, candidate_rows(*rows)).tolist()
        return found


def make_rule(when: str, **changes: Any) -> Rule:
    """A rule with the predicate `when`."""
    fields: dict[str, Any] = {
        "id": "test-1", "title": "A rule", "kind": "candidate", "effect": "avoid", "strength": "medium", "why": "Because.",
        "citations": (Citation(paper="Someone 2025", where="table 1", number="12 %", url="https://arxiv.org/abs/2501.00000"),),
    }  # fmt: skip
    return Rule(**(fields | {"when": when} | changes))


def write_rule(folder: Path, *changes: tuple[str, str], name: str = "test-1") -> Path:
    """Write `RULE_TEXT`, with each (old, new) of `changes` replaced, as `<name>.yaml`."""
    text = RULE_TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path
