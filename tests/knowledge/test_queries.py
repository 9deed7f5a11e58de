"""Named questions: filters, order, value types; values of users stay values."""

from collections.abc import Iterator

import numpy as np
import pytest

from knowledge.catalogue import find_model
from knowledge.queries import (
    EvidenceFilter,
    browse_evidence,
    counts_by_bits,
    evidence_for,
    nearest_evidence,
    source_rows,
)
from knowledge.recipes import parse_recipe
from knowledge.sources import all_sources
from knowledge.store import KnowledgeStore, open_store
from knowledge.task_catalogue import find_task


@pytest.fixture(scope="module")
def store() -> Iterator[KnowledgeStore]:
    with open_store() as opened:
        yield opened


def test_evidence_for_a_model_and_tasks(store: KnowledgeStore) -> None:
    found = evidence_for(store, "mistral-7b-v0.1", ["gsm8k", "mmlu"])
    assert set(found["task"]) == {"gsm8k", "mmlu"}
    assert np.isfinite(found["loss"]).all()
    assert "none" not in found["method"]
    assert (np.diff(found["evidence_id"]) > 0).all()
    assert evidence_for(store, "no-such-model", ["mmlu"])["loss"].size == 0
    assert evidence_for(store, "mistral-7b-v0.1", [])["loss"].size == 0


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (EvidenceFilter(model="llama-2-7b"), lambda row: row.model == "llama-2-7b"),
        (EvidenceFilter(family="opt", w_bits=3), lambda row: row.family == "opt" and row.scheme.startswith("w3")),
        (EvidenceFilter(task="gsm8k", method="gptq"), lambda row: row.task == "gsm8k" and row.method == "gptq"),
        (
            EvidenceFilter(task_type="long-context", kv_bits=8),
            lambda row: row.task_type == "long-context" and "kv8" in row.scheme,
        ),
        (EvidenceFilter(ability="math", a_bits=8), lambda row: row.ability == "math" and "a16" not in row.scheme),
        (EvidenceFilter(scheme="nf4"), lambda row: row.scheme == "nf4"),
        (EvidenceFilter(source="kivi", learnable=True), lambda row: row.source == "kivi" and row.reason is None),
        (EvidenceFilter(learnable=False), lambda row: row.reason is not None),
    ],
    ids=[
        "model",
        "family and bits",
        "task and method",
        "type and cache",
        "ability and activations",
        "scheme",
        "source",
        "not learned",
    ],
)
def test_browsing_with_filters(store: KnowledgeStore, wanted: EvidenceFilter, holds) -> None:
    rows = browse_evidence(store, wanted)
    assert 0 < len(rows) <= 100
    assert all(map(holds, rows))


def test_limit_and_order(store: KnowledgeStore) -> None:
    rows = browse_evidence(store, EvidenceFilter(limit=7))
    assert len(rows) == 7
    assert [(row.model, row.task, row.evidence_id) for row in rows] == sorted(
        (row.model, row.task, row.evidence_id) for row in rows
    )


def test_rows_are_plain_values(store: KnowledgeStore) -> None:
    wanted = EvidenceFilter(source="kivi", task="longbench_qasper", scheme="w16a16-kivi2", model="mistral-7b-instruct-v0.2")
    (row,) = browse_evidence(store, wanted)
    assert isinstance(row.evidence_id, int)
    assert row.shots is None
    assert row.context is None
    assert isinstance(row.score, float)
    assert row.loss == pytest.approx((row.baseline - row.score) / row.baseline)
    assert row.licence == "MIT"


@pytest.mark.parametrize("text", ["x' OR '1'='1", "'; DROP TABLE evidence; --", "llama-2-7b'"])
def test_values_of_users_are_never_read_as_sql(store: KnowledgeStore, text: str) -> None:
    assert browse_evidence(store, EvidenceFilter(model=text)) == []
    assert evidence_for(store, text, [text])["loss"].size == 0


@pytest.mark.parametrize(
    ("model", "params_b", "recipe", "task"),
    [
        ("mistral-7b-v0.1", 7.24, "w4a16-g128-asym:awq", "mmlu"),
        ("llama-2-70b", 69.0, "w3a16-g128-asym:gptq", "wikitext2"),
        ("vicuna-7b-v1.5-16k", 6.74, "w16a16-kv4g128", "longeval"),
    ],
)
def test_nearest_rows_come_first(store: KnowledgeStore, model: str, params_b: float, recipe: str, task: str) -> None:
    spec = find_model(model)
    rows = nearest_evidence(store, spec, parse_recipe(recipe), find_task(task), params_b=params_b, limit=20)
    assert len(rows) == 20
    assert all(row.learnable for row in rows)
    assert rows[0].task == task
    assert rows[0].family == spec.family
    assert any(row.model == model and row.task == task for row in rows[:8])


def test_nearest_without_a_size(store: KnowledgeStore) -> None:
    rows = nearest_evidence(store, find_model("mistral-7b"), parse_recipe("nf4"), find_task("gsm8k"), params_b=None, limit=3)
    assert [row.task for row in rows] == ["gsm8k"] * 3


def test_sources_with_their_share(store: KnowledgeStore) -> None:
    rows = {row.id: row for row in source_rows(store)}
    assert rows.keys() == all_sources().keys()
    assert sum(row.share for row in rows.values()) == pytest.approx(1)
    assert rows["li2024"].n_accuracy == 5215
    assert rows["li2024"].n_learnable < rows["li2024"].n_accuracy
    assert (rows["autoawq"].n_accuracy, rows["autoawq"].n_efficiency) == (0, 59)


def test_counts_by_bits_cover_every_quantized_row(store: KnowledgeStore) -> None:
    found = counts_by_bits(store)
    assert found["n"].sum() == store.rows("SELECT count(*) FROM evidence WHERE method <> 'none'")[0][0]
    assert (found["n_learnable"] <= found["n"]).all()
