"""Losses by hand, weights, and what must hold for every packaged row."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.catalogue import find_model
from knowledge.columns import columns_of, kv_kind, recipe_of
from knowledge.database import Columns
from knowledge.errors import DataError
from knowledge.evidence import (
    MAX_SOURCE_SHARE,
    above_chance,
    efficiency_path,
    evidence_path,
    loss_of,
    score_se,
    weigh,
)
from knowledge.recipes import find_method
from knowledge.schemes import parse_scheme
from knowledge.snapshot import STORED_COLUMNS
from knowledge.sources import all_sources
from knowledge.store import open_store
from knowledge.task_catalogue import find_task
from knowledge.tasks import METRICS


@pytest.mark.parametrize(
    ("task", "metric", "score", "baseline", "chance", "kind", "unit", "value"),
    [
        ("mmlu", "acc", 62.72, 64.0, 25.0, "relative", "share of above-chance performance", (64 - 62.72) / 39),
        ("gsm8k", "acc", 50.0, 40.0, 0.0, "relative", "share of above-chance performance", -0.25),
        ("piqa", "acc", 40.0, 80.0, 50.0, "relative", "share of above-chance performance", 40 / 30),
        ("mt_bench", "score10", 5.5, 7.0, 1.0, "relative", "share of above-chance performance", 0.25),
        ("hle", "acc", 5.0, 7.0, None, "relative", "share of above-chance performance", None),
        ("arc_easy", "acc", 24.0, 24.9, 25.0, "relative", "share of above-chance performance", None),
        ("wikitext2", "ppl", 5.5, 5.0, None, "delta_nll", "nats per token", math.log(1.1)),
        ("wikitext", "ppl", 11.0, 10.0, None, "delta_nll", "nats per word", math.log(1.1)),
        ("c4", "word_perplexity", 11.0, 10.0, None, "delta_nll", "nats per word", math.log(1.1)),
        ("c4", "byte_perplexity", 2.0, 1.6, None, "delta_nll", "nats per byte", math.log(1.25)),
        ("lambada_openai", "ppl", 4.0, 5.0, None, "delta_nll", "nats per word", math.log(0.8)),
        ("wikitext2", "nll", 1.75, 1.5, None, "delta_nll", "nats per token", 0.25),
        ("wikitext2", "kl", 0.02, 0.0, None, None, None, None),
        ("bbq_ambiguous", "bias", 3.0, 2.0, None, None, None, None),
    ],
)
def test_loss_worked_by_hand(
    task: str,
    metric: str,
    score: float,
    baseline: float,
    chance: float | None,
    kind: str | None,
    unit: str | None,
    value: float | None,
) -> None:
    loss = loss_of(find_task(task), metric, score, baseline, chance=chance)
    assert (loss.kind, loss.unit) == (kind, unit)
    assert loss.value == (None if value is None else pytest.approx(value))


def test_standard_error_of_a_loss() -> None:
    loss = loss_of(find_task("mmlu"), "acc", 50.0, 65.0, chance=25.0, items=10_000)
    assert loss.se == pytest.approx(0.5 / 40, rel=1e-3), "sqrt(0.5 · 0.5 / 10000) = 0.5 points over 40 points above chance"
    assert loss_of(find_task("mmlu"), "acc", 50.0, 65.0, chance=25.0).se is None
    assert loss_of(find_task("wikitext2"), "ppl", 6.0, 5.0, chance=None, items=62).se is None
    assert loss_of(find_task("mt_bench"), "score10", 6.0, 7.0, chance=1.0).se == pytest.approx(0.2 / 6)


def test_no_score_is_certain() -> None:
    assert (score_se("acc", 0.0, 50) or 0) > 1
    assert (score_se("acc", 100.0, 50) or 0) > 1


@pytest.mark.parametrize(
    ("metric", "baseline", "chance", "items", "enough"),
    [
        ("acc", 26.0, 25.0, 14042, False),
        ("acc", 29.9, 25.0, 14042, False),
        ("acc", 31.0, 25.0, 14042, True),
        ("acc", 20.0, 0.0, 50, False),
        ("acc", 40.0, 0.0, 50, True),
        ("acc", 6.0, 0.0, None, True),
        ("score10", 1.4, 1.0, 80, False),
        ("score10", 2.0, 1.0, 80, True),
    ],
)
def test_baseline_must_be_above_chance(metric: str, baseline: float, chance: float, items: int | None, enough: bool) -> None:
    assert above_chance(metric, baseline, chance, items) is enough


@pytest.mark.parametrize(
    ("metric", "score", "message"), [("accuracy", 1, "unknown metric 'accuracy'"), ("ppl", 0, "must be positive")]
)
def test_scores_that_cannot_be(metric: str, score: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        loss_of(find_task("wikitext2"), metric, score, 5.0, chance=None)


def test_rows_about_one_thing_share_one_weight() -> None:
    cells = ["a", "a", "a", "a", "b", "c", "d", "e", "f", "g"]
    sources = ["one", "one", "one", "one", "two", "three", "four", "five", "six", "seven"]
    weights = weigh(cells, sources, ["mmlu"] * 10)
    assert weights[:4] == pytest.approx([0.25] * 4)
    assert weights[4:] == pytest.approx([1] * 6)


def test_tests_with_little_say_count_less() -> None:
    tasks = ["mmlu", "adv_mnli", "truthfulqa_mc2", "truthfulqa_mc1", "mmlu", "gsm8k", "gsm8k"]
    assert weigh(list("abcdefg"), list("tuvwxyz"), tasks) == pytest.approx([1, 0.25, 0.25, 1, 1, 1, 1])


@given(st.lists(st.integers(1, 400), min_size=5, max_size=12))
def test_no_source_has_more_than_its_share(sizes: list[int]) -> None:
    sources = [f"source {number}" for number, size in enumerate(sizes) for _ in range(size)]
    weights = weigh(range(len(sources)), sources, ["mmlu"] * len(sources))
    totals: dict[str, float] = defaultdict(float)
    for source, weight in zip(sources, weights, strict=True):
        totals[source] += weight
    assert all(0 < weight <= 1 for weight in weights)
    assert max(totals.values()) <= MAX_SOURCE_SHARE * sum(totals.values()) * (1 + 1e-9)


@pytest.fixture(scope="module")
def rows() -> Columns:
    with open_store() as store:
        return store.columns("SELECT * FROM evidence ORDER BY evidence_id")


def test_packaged_files_are_small() -> None:
    assert evidence_path().stat().st_size + efficiency_path().stat().st_size < 1_500_000


def test_columns_are_the_documented_ones(rows: Columns) -> None:
    assert list(rows) == list(STORED_COLUMNS)
    assert rows["evidence_id"].tolist() == list(range(1, len(rows["model"]) + 1))


def test_scores_lie_on_their_scales(rows: Columns) -> None:
    for metric, spec in METRICS.items():
        chosen = rows["metric"] == metric
        if spec.maximum is not None:
            for name in ("score", "baseline"):
                assert ((rows[name][chosen] >= 0) & (rows[name][chosen] <= spec.maximum)).all(), metric
        if spec.loss == "delta_nll":
            assert (rows["score"][chosen] >= 1).all()
    assert set(rows["metric"]) <= METRICS.keys()


def test_names_are_canonical(rows: Columns) -> None:
    assert all(find_model(name).name == name for name in set(rows["model"]))
    assert all(find_task(name).name == name for name in set(rows["task"]))
    assert all(find_method(name).name == name for name in set(rows["method"]))
    assert all(parse_scheme(name).name == name for name in set(rows["scheme"]))


def test_families_are_the_catalogue_s(rows: Columns) -> None:
    assert {(find_model(model).name, find_model(model).family) for model in set(rows["model"])} == set(
        zip(rows["model"].tolist(), rows["family"].tolist(), strict=True)
    )


def test_format_columns_follow_from_the_scheme(rows: Columns) -> None:
    names = ("method", "scheme", "w_bits", "w_dtype", "w_group", "a_bits", "kv_bits", "kv_dtype", "kv_name")
    for method, scheme_name, w_bits, w_dtype, w_group, a_bits, kv_bits, kv_dtype, kv_name in set(
        zip(*(map(_or_none, rows[name].tolist()) for name in names), strict=True)
    ):
        scheme = parse_scheme(scheme_name)
        columns = columns_of(scheme, method)
        assert recipe_of(columns) == (scheme, method)
        assert (columns["w_bits"], columns["w_dtype"], columns["w_group"]) == (w_bits, w_dtype, w_group)
        assert (columns["a_bits"], columns["kv_bits"]) == (a_bits, kv_bits)
        assert (kv_kind(scheme.kv_cache), scheme.kv_name) == (kv_dtype, kv_name)


def test_losses_are_those_of_their_scores(rows: Columns) -> None:
    names = ("source", "task", "metric", "score", "baseline", "chance", "items", "loss_kind", "unit", "loss", "loss_se")
    for source, task, metric, score, baseline, chance, items, kind, unit, value, error in zip(
        *(map(_or_none, rows[name].tolist()) for name in names), strict=True
    ):
        expected = loss_of(find_task(task), metric, score, baseline, chance=chance, items=None if items is None else int(items))
        assert (kind, unit) == (expected.kind, expected.unit)
        assert value == (None if expected.value is None else pytest.approx(expected.value))
        if source == "own-pocket":  # measured here, item by item against the baseline
            assert error is None or error >= 0
        else:
            assert error == (None if expected.se is None else pytest.approx(expected.se))


def test_chance_levels_are_the_catalogue_s(rows: Columns) -> None:
    for task, metric, chance, note in set(
        zip(*(map(_or_none, rows[name].tolist()) for name in ("task", "metric", "chance", "note")), strict=True)
    ):
        if METRICS[metric].loss != "relative":
            assert chance is None
        elif "chance level mapped to 0" in (note or ""):
            assert chance == 0
        else:
            assert chance == find_task(task).chance


def test_what_is_learned_from_is_sound(rows: Columns) -> None:
    learned = rows["learnable"].astype(bool)
    assert np.isfinite(rows["loss"][learned]).all()
    assert not rows["suspect"][learned].any()
    assert not rows["is_average"][learned].any()
    assert not (rows["method"][learned] == "none").any()
    assert (rows["weight"][learned] > 0).all()
    assert (rows["weight"][~learned] == 0).all()
    assert (rows["weight"] <= 1).all()
    assert all((reason is None) == bool(ok) for reason, ok in zip(rows["reason"].tolist(), learned.tolist(), strict=True))


def test_no_source_drowns_the_others(rows: Columns) -> None:
    totals: Counter[str] = Counter()
    for source, weight in zip(rows["source"].tolist(), rows["weight"].tolist(), strict=True):
        totals[source] += weight
    assert max(totals.values()) <= MAX_SOURCE_SHARE * totals.total()


def test_single_cells_of_one_test_count_as_a_few_rows(rows: Columns) -> None:
    cells = np.char.startswith(rows["task"].astype(str), "oneruler_niah") & rows["learnable"].astype(bool)
    totals: Counter[tuple[str, str, str]] = Counter()
    for key in zip(*(rows[name][cells].tolist() for name in ("model", "scheme", "method", "weight")), strict=True):
        totals[key[:3]] += key[3]
    assert cells.sum() > 3000
    assert max(totals.values()) <= 8.001, "two tests at four lengths"


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("note LIKE '%suspect:%'", "suspect"),
        ("source = 'zheng2025' AND note LIKE '%copy error%'", "suspect"),
        ("source = 'zheng2025' AND method = 'awq' AND w_group = 128 AND w_bits IN (3, 4)", "suspect"),
        ("note LIKE 'first figure of a pair%'", "mean of other rows"),
        ("task = 'avg'", "mean of other rows"),
        ("task = 'longeval_position'", "part of longeval"),
        ("source = 'jin2024' AND task = 'mmlu_stem'", "part of mmlu"),
        ("source = 'greenbit' AND model = 'llama-3-70b' AND method = 'gptq' AND w_bits = 4", "printed by another source"),
        ("metric IN ('acc_drop', 'bias', 'kl')", "metric has no loss"),
        ("note LIKE '%list keeps only models with%'", "selected by result"),
    ],
)
def test_rows_that_are_shown_but_not_learned_from(condition: str, reason: str) -> None:
    with open_store() as store:
        found = store.rows(f"SELECT DISTINCT reason, learnable FROM evidence WHERE method <> 'none' AND {condition}")
    assert reason in {row[0] for row in found}
    assert not any(row[1] for row in found)


def test_every_row_has_its_source_and_licence(rows: Columns) -> None:
    licences = {source.id: source.licence for source in all_sources().values()}
    assert all(licences[source] == licence for source, licence in set(zip(rows["source"], rows["licence"], strict=True)))
    with open_store() as store:
        used = {row[0] for row in store.rows("SELECT source FROM evidence UNION SELECT source FROM efficiency")}
    assert used == licences.keys(), "a source that nothing comes from is not listed"


def _or_none(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
