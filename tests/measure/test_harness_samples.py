"""The harness's sample log, in the shape that it has, as columns. Needs no torch."""

import math

import pytest

from measure.stats import bootstrap_error, expected_calibration_error
from measure.tasks.samples import add_summaries, read_columns


def sample(doc, metrics, *, name="none", options=()):
    return {
        "doc_id": doc,
        "filter": name,
        "metrics": list(metrics),
        "doc_hash": f"h{doc}",
        "filtered_resps": list(options),
    } | metrics


def by_name(columns):
    return {measurement.metric: measurement for measurement in columns.measurements}


def test_rows_are_documents_in_order():
    columns = read_columns([("b", sample(0, {"acc": 1.0})), ("a", sample(3, {"acc": 0.0})), ("a", sample(2, {"acc": 1.0}))], {})
    assert columns.samples == {"id": ["a/2", "a/3", "b/0"], "acc": [1.0, 0.0, 1.0]}
    assert columns.correct == "acc"
    assert by_name(columns)["acc"].value == pytest.approx(2 / 3)


def test_filters_have_columns_of_their_own():
    rows = [
        ("gsm8k", sample(doc, {"exact_match": value}, name=name))
        for doc in (0, 1)
        for name, value in (("strict", 0.0), ("loose", 1.0))
    ]
    columns = read_columns(rows, {"gsm8k": {"exact_match": True}})
    assert columns.samples == {
        "id": ["gsm8k/0", "gsm8k/1"], "exact_match[strict]": [0.0, 0.0], "exact_match[loose]": [1.0, 1.0],
    }  # fmt: skip
    assert columns.correct == "exact_match[strict]"


def test_rolling_likelihoods_are_weighted():
    rows = [("wiki", sample(0, {"word_perplexity": (-10.0, 5)})), ("wiki", sample(1, {"word_perplexity": (-30.0, 10)}))]
    columns = read_columns(rows, {})
    assert columns.samples["nll_per_word"] == [2.0, 3.0]
    assert by_name(columns)["nll_per_word"].value == pytest.approx(40 / 15)
    assert columns.weights == {"nll_per_word": "nll_per_word.weight"}


def test_confidence_is_the_softmax_of_the_options():
    options = [(math.log(0.3), False), (math.log(0.1), False)]
    columns = read_columns([("mc", sample(doc, {"acc": float(doc)}, options=options)) for doc in (0, 1)], {})
    assert columns.samples["confidence"] == pytest.approx([0.75, 0.75])
    assert by_name(columns)["ece"].value == pytest.approx(0.25)
    assert by_name(columns)["ece"].stderr is not None


def test_other_aggregates_come_without_an_error():
    columns = read_columns([("qa", sample(0, {"acc": 1.0, "f1": "x"}))], {})
    add_summaries(
        columns,
        {
            "results": {"qa": {"acc,none": 1.0, "acc_stderr,none": 0.1, "f1,none": 0.4, "bleu,none": math.nan, "alias": "qa"}},
            "higher_is_better": {"qa": {"f1": True}},
        },
    )
    found = by_name(columns)
    assert set(found) == {"acc", "f1"}
    assert (found["f1"].value, found["f1"].stderr, found["f1"].higher_is_better) == (0.4, None, True)


def test_bootstrap_error_of_few_rows_is_undefined():
    assert bootstrap_error(expected_calibration_error, [0.5], [1.0]) is None
    assert bootstrap_error(expected_calibration_error, [0.9, 0.9], [1.0, 1.0]) == pytest.approx(0.0, abs=1e-12)
