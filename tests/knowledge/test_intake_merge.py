"""Another knowledge base merges by the hashes of its rows, and a row that was changed is refused."""

from pathlib import Path

import duckdb
import pytest
from run_records import make_record, write_records

from knowledge.batches import write_batch
from knowledge.evidence import BATCH_COLUMNS
from knowledge.intake import Intake, take_in
from knowledge.refresh import publish, stage

FEWER = [1] * 60 + [0] * 40


@pytest.fixture
def other_home(tmp_path: Path) -> Path:
    """The home folder of a colleague with two records taken in."""
    home = tmp_path / "colleague"
    write_records(home / "runs", make_record(), make_record("w4a16-g128:gptq", hits=FEWER))
    with stage(home=home) as staged:
        publish(staged)
    return home


def rows_of(intake: Intake) -> list[tuple[object, ...]]:
    """Rows without the file that they came from, in one order."""
    place = list(BATCH_COLUMNS).index("file")
    return sorted(((*row[:place], *row[place + 1 :]) for row in intake.rows), key=str)


def test_a_home_folder_gives_its_rows_once(other_home: Path) -> None:
    intake = take_in([other_home])
    assert intake.read == {"batch": 1, "run record": 2}
    assert (len(intake.rows), intake.known, list(intake.quarantined)) == (2, 2, [])


def test_a_batch_alone_says_the_same_as_its_records(other_home: Path) -> None:
    records = take_in([other_home / "runs"])
    for file in (other_home / "runs").glob("*.json"):
        file.unlink()
    batch = take_in([other_home])
    assert batch.read == {"batch": 1}
    assert rows_of(batch) == rows_of(records)


def test_rows_that_were_rolled_back_there_stay_there(other_home: Path) -> None:
    from knowledge.refresh import rollback

    rollback("packaged", home=other_home)
    for file in (other_home / "runs").glob("*.json"):
        file.unlink()
    assert len(take_in([other_home]).rows) == 0


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("score", "99.0", "does not match its row_hash"),
        ("score", "4711.0", "outside 0 … 100"),
        ("scheme", "'w99'", "w99"),
        ("task", "'nonsense'", "unknown task"),
        ("row_hash", "'0000000000000000'", "does not match its row_hash"),
        ("model", "NULL", "model: Input should be a valid string"),
    ],
)
def test_changed_rows_are_refused(other_home: Path, column: str, value: str, reason: str) -> None:
    (batch,) = (other_home / "runs" / "batches").glob("*.parquet")
    for file in (other_home / "runs").glob("*.json"):
        file.unlink()
    with duckdb.connect() as connection:
        changed = connection.sql(f"SELECT * REPLACE ({value} AS {column}) FROM '{batch}' WHERE method = 'gptq'").fetchall()
    batch.unlink()
    write_batch(batch.parent, "evidence", changed).rename(batch)
    (refused,) = take_in([other_home]).quarantined
    assert reason in refused.reason
    assert refused.row == 1


def test_other_parquet_in_a_batch_folder_is_refused(other_home: Path) -> None:
    (batch,) = (other_home / "runs" / "batches").glob("*.parquet")
    batch.write_bytes(b"PAR1 no parquet")
    reasons = [item.reason for item in take_in([other_home]).quarantined]
    assert [reason.startswith("cannot be read on") for reason in reasons] == [True]
