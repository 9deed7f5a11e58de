"""Run records packaged as a published source: the rows of a refresh under another name, everything else left as it was."""

import shutil
from pathlib import Path

import pytest
from run_records import make_record

from knowledge.database import read_parquet
from knowledge.errors import DataError, UnknownNameError
from knowledge.evidence import evidence_path
from knowledge.publish_records import NOT_LEARNED, main, rows_of
from knowledge.record_archive import pack, unpack

ARCHIVE = Path(__file__).parents[1] / "data" / "pocket" / "records.jsonl.xz"
HALF = [1] * 50 + [0] * 50


@pytest.fixture
def records():
    return [make_record(), make_record("w4a16-g128", hits=HALF)]


def test_an_archive_gives_back_its_records_and_the_same_bytes(tmp_path, records):
    one, two = tmp_path / "one.xz", tmp_path / "two.xz"
    pack(records, one)
    pack(reversed(records), two)
    assert one.read_bytes() == two.read_bytes()
    assert sorted(unpack(one), key=lambda record: record.key) == sorted(records, key=lambda record: record.key)


@pytest.mark.parametrize("content", [None, b"no xz", "truncated"])
def test_what_is_no_archive_is_refused(tmp_path, records, content):
    file = tmp_path / "records.xz"
    if content == "truncated":
        pack(records, file)
        file.write_bytes(file.read_bytes()[:-20])
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match="cannot read"):
        unpack(file)


def test_rows_carry_the_source_its_licence_and_why_they_are_not_learned_from(records):
    rows = rows_of(records, "own-pocket")
    assert [(row["method"], row["reason"]) for row in rows] == [("none", "baseline"), ("rtn", NOT_LEARNED["own-pocket"])]
    for row in rows:
        assert (row["source"], row["licence"]) == ("own-pocket", "Apache-2.0")
        assert (row["own"], row["learnable"], row["weight"]) == (False, False, 0.0)
    assert rows[1]["loss"] == pytest.approx((70 - 50) / (70 - 25))


def test_a_source_that_is_learned_from_keeps_its_weights(records):
    rows = rows_of(records, "kivi")
    assert [(row["learnable"], row["weight"] > 0) for row in rows] == [(False, False), (True, True)]


def test_nothing_of_a_packaged_source_is_left_out_in_silence(records):
    with pytest.raises(DataError, match="cannot be packaged"):
        rows_of([records[1]], "own-pocket")
    with pytest.raises(UnknownNameError, match="own-pockets"):
        rows_of(records, "own-pockets")


def test_the_packaged_rows_are_those_of_the_archive(tmp_path):
    target = tmp_path / "accuracy.parquet"
    shutil.copy(evidence_path(), target)
    before = list(read_parquet(target))
    assert main([str(ARCHIVE), "--source", "own-pocket", "--target", str(target)]) == 0
    assert list(read_parquet(target)) == before
    assert {row["model"] for row in before if row["source"] == "own-pocket"} == {"pocket-s", "pocket-m", "pocket-l"}


def test_the_command_says_what_is_wrong(tmp_path, caplog):
    assert main([str(tmp_path / "none.xz"), "--source", "own-pocket", "--target", str(tmp_path / "a.parquet")]) != 0
    assert "cannot read" in caplog.text
