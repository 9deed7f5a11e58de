import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.errors import DataError
from knowledge.measurements import (
    ComparabilityKey,
    Comparison,
    Environment,
    Measurement,
    ModelFacts,
    RunError,
    RunRecord,
    RunSpec,
    load_record,
    record_from_json,
)

SPEC = RunSpec(
    model="org/tiny", model_fingerprint="f00d", recipe="w4a16-g128-asym:gptq", task="perplexity", task_hash="beef",
    options={"limit": 8},
)  # fmt: skip
FACTS = ModelFacts(family="llama", architecture="LlamaForCausalLM", parameters=1000, fingerprint="f00d")
HERE = Environment(tool_version="0.1.0", python="3.11.7", platform="Linux-x86_64", device="cpu")
METRIC = Measurement(
    metric="acc", value=0.5, stderr=0.1, n=2, unit="share of items", higher_is_better=True, per_sample="acc",
    against_baseline=Comparison(baseline=0.75, delta=-0.25, lower=-0.5, upper=0.0, n=2, flips=0.5),
)  # fmt: skip


def make_record(**changes):
    values = {
        "key": SPEC.key, "spec": SPEC, "status": "ok", "started": "2026-01-01T00:00:00+00:00", "model": FACTS,
        "environment": HERE, "measurements": [METRIC], "samples": {"id": ["a/1", "a/2"], "acc": [0, 1.0]},
    }  # fmt: skip
    return RunRecord(**(values | changes))


def test_record_round_trips():
    record = make_record()
    assert record_from_json(record.to_json()) == record


@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    column=st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)), max_size=4),
    options=st.dictionaries(
        st.text(max_size=5), st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)), max_size=3
    ),
)
def test_any_finite_content_round_trips(value, column, options):
    spec = replace(SPEC, options=options)
    record = make_record(spec=spec, key=spec.key, measurements=[replace(METRIC, value=value)], samples={"id": column})
    assert record_from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d["spec"].update(surprise=1), "spec.surprise"),
        (lambda d: d["measurements"][0].update(surprise=1), "measurements.0.surprise"),
        (lambda d: d.pop("environment"), "Field required at environment"),
        (lambda d: d.update(schema_version=99), "schema version 99"),
        (lambda d: d.update(key="0" * 16), "key does not belong"),
        (lambda d: d.update(status="failed"), "failed record has an error"),
        (lambda d: d["samples"].update(acc=[1]), "different length"),
        (lambda d: d["measurements"][0].update(value="high"), "measurements.0.value"),
    ],
    ids=["unknown field", "in spec", "in measurement", "missing", "version", "key", "status", "lengths", "type"],
)
def test_broken_records_are_refused(edit, message):
    document = json.loads(make_record().to_json())
    edit(document)
    with pytest.raises(DataError, match=message):
        record_from_json(json.dumps(document))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(DataError, match="Invalid JSON"):
        record_from_json('{"schema_version": 1, "key"')


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*none\.json"):
        load_record(tmp_path / "none.json")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_measurements_are_finite(number):
    with pytest.raises(DataError, match="not finite"):
        replace(METRIC, value=number)


@pytest.mark.parametrize(
    ("change", "same"),
    [({"model": "other/name"}, True), ({"recipe": "nf4"}, False), ({"seed": 1}, False), ({"options": {"limit": 9}}, False),
     ({"device": "cuda"}, False), ({"task_hash": "x"}, False), ({"calibration": "c"}, False)],
    ids=lambda value: str(value),
)  # fmt: skip
def test_key_is_what_decides_the_result(change, same):
    assert (replace(SPEC, **change).key == SPEC.key) is same


def test_stem_is_a_plain_file_name():
    spec = replace(SPEC, model="a/b c:d", task="../../etc/passwd")
    assert spec.stem == f"b-c-d__w4a16-g128-asym-gptq__etc-passwd__{spec.key}"


def test_comparability_names_what_differs():
    one = ComparabilityKey(task="mmlu", model_fingerprint="a", shots=5)
    assert one.differences(one) == []
    assert one.differences(replace(one, shots=0, limit=10)) == ["shots", "limit"]


def test_failed_record_keeps_its_error():
    record = make_record(status="failed", error=RunError(code="out_of_memory", message="m"), measurements=[], samples={})
    assert record_from_json(record.to_json()).error == RunError(code="out_of_memory", message="m")
