"""Files are anyone's: whatever was done to them, each gives rows, known rows, things left out or refusals, never an error.

Valid files of every kind are mutated: values replaced by others of every type, fields taken away, bytes overwritten.
"""

import csv
import io
import json
import math
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from harness_files import make_old_results, make_results
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from run_records import accuracy, make_record

from knowledge.batches import write_batch, write_quarantine
from knowledge.evidence import BATCH_COLUMNS
from knowledge.intake import Intake, take_in

HITS = [1] * 12 + [0] * 4
RECORD = json.loads(make_record("w4a16-g128:gptq", hits=HITS, measurements=[accuracy(HITS, HITS)]).to_json())
TABLE = [
    {"source": "lab", "ref": "t", "model": "llama-2-7b", "method": "gptq", "w_bits": "4", "w_group": "128", "task": "hellaswag",
     "metric": "acc", "score": "74", "baseline": "75", "shots": "0", "context": "", "note": "n"},
    {"source": "lab", "ref": "t", "model": "llama-2-7b", "method": "gptq", "w_bits": "3", "w_group": "128", "task": "wikitext2",
     "metric": "ppl", "score": "6.1", "baseline": "5.5", "shots": "", "context": "2048", "note": ""},
]  # fmt: skip
HARNESS = [
    make_results(),
    make_results(arguments="load_in_4bit=True"),
    make_results("TheBloke/Llama-2-7B-GPTQ"),
    make_old_results(),
    make_results(task="mmlu_anatomy", group_subtasks={"mmlu": ["mmlu_anatomy"]}),
]
NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(10**30), max_value=10**30),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=12),
    st.sampled_from(
        ["", "\0", "\ud800", "-1", "1e999", "nan", "../../etc/passwd", "none", "w4a16-g128", "*", "a" * 3000, "𝔘", "=1+1"]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a JSON value something stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for name, inner in items for place in places(inner, (*at, name)))]


def mutated(document: Any, place: tuple[Any, ...], value: Any, *, remove: bool) -> Any:
    if not place:
        return value
    changed = deepcopy(document)
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    if remove:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def taken(content: bytes, name: str) -> Intake:
    """What comes of a file with that content; it can be stored, whatever it is."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / name).write_bytes(content)
        intake = take_in([folder])
        (folder / "store").mkdir()
        if intake.rows:
            write_batch(folder / "store", "evidence", intake.rows)
        write_quarantine(folder / "store", [(item.file, item.row, item.reason, item.content) for item in intake.quarantined])
    for row in intake.rows:
        values = dict(zip(BATCH_COLUMNS, row, strict=True))
        assert all(math.isfinite(value) for value in values.values() if isinstance(value, float)), values
        assert values["model"]
        assert values["task"]
    assert len(intake.rows) + len(intake.quarantined) + intake.known + sum(intake.left_out.values()) >= 1
    assert all(item.reason for item in intake.quarantined)
    return intake


def test_the_files_are_good_before_they_are_spoilt() -> None:
    assert len(taken(json.dumps(RECORD).encode(), "record.json").rows) == 1
    assert [len(taken(json.dumps(document).encode(), "results.json").rows) for document in HARNESS] == [2, 0, 0, 2, 2]
    assert len(taken(as_csv(TABLE), "table.csv").rows) == 2


@QUICK
@given(place=st.sampled_from(places(RECORD)), value=NASTY, remove=st.booleans())
@example(place=("measurements", 0, "value"), value=float("nan"), remove=False)
@example(place=("measurements", 0, "n"), value=-5, remove=False)
@example(place=("samples", "acc"), value=["x"] * 16, remove=False)
@example(place=("samples",), value={}, remove=False)
@example(place=("samples", "id"), value=None, remove=True)
@example(place=("measurements", 0, "against_baseline", "level"), value=1.0, remove=False)
def test_run_records(place: tuple[Any, ...], value: Any, remove: bool) -> None:
    taken(json.dumps(mutated(RECORD, place, value, remove=remove)).encode(), "record.json")


@QUICK
@given(document=st.sampled_from(HARNESS), value=NASTY, remove=st.booleans(), data=st.data())
def test_harness_output(document: dict[str, Any], value: Any, remove: bool, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(places(document)))
    taken(json.dumps(mutated(document, place, value, remove=remove)).encode(), "results.json")


def as_csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


@QUICK
@given(row=st.integers(0, 1), column=st.sampled_from(sorted(TABLE[0])), value=NASTY)
@example(row=0, column="baseline", value="25")
@example(row=1, column="score", value="0")
@example(row=0, column="model", value="\0")
def test_cells_of_tables(row: int, column: str, value: Any) -> None:
    rows = deepcopy(TABLE)
    rows[row][column] = str(value)
    taken(as_csv(rows), "table.csv")


@QUICK
@given(
    content=st.sampled_from([json.dumps(RECORD).encode(), json.dumps(HARNESS[0]).encode(), as_csv(TABLE)]),
    cut=st.integers(0, 600), junk=st.binary(max_size=8), name=st.sampled_from(["a.json", "a.csv", "a.parquet"]),
)  # fmt: skip
def test_bytes(content: bytes, cut: int, junk: bytes, name: str) -> None:
    taken(content[:cut] + junk + content[cut + len(junk) :], name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"),
        (b"9" * 10_000, "no JSON"),
        (b'{"x": ' + b"9" * 10_000 + b"}", "no JSON"),
        (b"\xff\xfe{}", "no JSON"),
        (b"\x00" * 100, "no JSON"),
        (b"", "no JSON"),
        (b"null", "no JSON object but a NoneType"),
        (b'{"tensors": [], "facts": {}}', "give it to `qadvisor recommend --probe`"),
        (b'{"hello": "world"}', "neither a run record"),
    ],
    ids=["brackets", "objects", "number", "long number", "bytes", "zeros", "empty", "null", "probe", "other"],
)
def test_hostile_json_is_refused_in_words(content: bytes, reason: str) -> None:
    (refused,) = taken(content, "a.json").quarantined
    assert reason in refused.reason


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(40 << 20)  # sparse: it takes no room
    (refused,) = take_in([tmp_path]).quarantined
    assert "are more than a JSON file may have" in refused.reason
