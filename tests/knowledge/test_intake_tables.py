"""Tables of figures on their way into evidence: CSV and Parquet, forgiving in form and strict in content."""

import csv
from pathlib import Path

import duckdb
import pytest

from knowledge.errors import InvalidRequestError
from knowledge.evidence import BATCH_COLUMNS, EFFICIENCY_BATCH_COLUMNS, evidence_path
from knowledge.intake import Intake, take_in

ROW = {
    "source": "lab", "ref": "table 1", "model": "Llama-2-7B", "method": "gptq", "w_bits": "4", "w_group": "128",
    "task": "hellaswag", "metric": "acc", "score": "74", "baseline": "75",
}  # fmt: skip
SPEED = {"source": "lab", "ref": "t", "model": "llama-2-7b", "method": "gptq", "w_bits": "4", "decode_tok_s": "100"}


def write_table(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(intake: Intake) -> list[dict[str, object]]:
    return [dict(zip(BATCH_COLUMNS, values, strict=True)) for values in intake.rows]


def test_what_a_table_leaves_out_comes_from_the_catalogues(tmp_path: Path) -> None:
    (row,) = rows_of(take_in([write_table(tmp_path / "mine.csv", ROW)]))
    expected = {
        "source": "own:lab", "licence": "none stated", "own": True, "model": "llama-2-7b", "family": "llama", "method": "gptq",
        "scheme": "w4a16-g128", "a_bits": 16, "kv_bits": 16, "task_type": "basic-nlp", "ability": "commonsense", "items": 10042,
        "higher_is_better": True, "loss": 0.02, "learnable": True, "weight": 1.0, "checkpoint": None, "key": None,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["file"] == str(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({"scheme": "gguf:q4_k_m", "w_bits": "", "w_group": "", "method": "gguf"}, "scheme", "gguf:q4_k_m"),
        ({"source": "own:lab"}, "source", "own:lab"),
        ({"source": "kivi"}, "licence", "MIT"),
        ({"source": "kivi"}, "own", False),
        ({"source": ""}, "source", "own:mine"),
        ({"model": "my-model", "family": "llama", "params_b": "3"}, "model", "my-model"),
        ({"note": "suspect"}, "reason", "suspect"),
        ({"method": "none", "w_bits": "16", "w_group": "", "score": "75"}, "reason", "baseline"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_forms(tmp_path: Path, change: dict[str, str], column: str, value: object) -> None:
    intake = take_in([write_table(tmp_path / "mine.csv", ROW | change)])
    assert list(intake.quarantined) == []
    assert rows_of(intake)[0][column] == value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score": "740"}, "outside 0 … 100"),
        ({"score": "nan"}, "score: Input should be a finite number"),
        ({"score": "1e999"}, "score: Input should be a finite number"),
        ({"baseline": ""}, "baseline: Field required"),
        ({"task": "hellaswagg"}, "unknown task"),
        ({"method": "magic"}, "unknown method"),
        ({"w_bits": "77"}, "77 bits cannot be"),
        ({"metric": "vibes"}, "unknown metric"),
        ({"model": "my-model"}, "family: Field required"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"higher_is_better": "0"}, "does not fit metric acc"),
        ({"scheme": "w3a16-g128", "method": "none"}, "method none"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_right_is_quarantined_with_its_row(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    intake = take_in([write_table(tmp_path / "mine.csv", ROW | {"colour": ""}, ROW | change)])
    (refused,) = intake.quarantined
    assert reason in refused.reason
    assert (refused.row, refused.file) == (3, str(tmp_path / "mine.csv"))
    assert "model=" in refused.content
    assert len(intake.rows) == 1


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    table = write_table(tmp_path / "mine.csv", ROW, ROW | {"score": "73.25", "w_bits": "3", "note": "seed 2"})
    parquet = tmp_path / "mine.parquet"
    with duckdb.connect() as connection:
        connection.read_csv(str(table)).write_parquet(str(parquet))
    one, other = rows_of(take_in([table])), rows_of(take_in([parquet]))
    assert len(one) == 2
    assert [row | {"file": None} for row in one] == [row | {"file": None} for row in other]
    assert take_in([table, parquet]).known == 2


def test_packaged_rows_are_known(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        wanted = (
            "source, ref, model, family, params_b, tuned, method, scheme, bpw, task, task_type, ability, shots, context,"
            " metric, higher_is_better, score, baseline, baseline_dtype, note"
        )
        query = f"SELECT {wanted} FROM '{evidence_path()}' WHERE source IN ('kivi', 'quanto') AND scheme NOT LIKE '%kivi%'"
        connection.sql(query).write_csv(str(tmp_path / "again.csv"))
        count = len(connection.sql(query).fetchall())
    intake = take_in([tmp_path / "again.csv"])
    assert (intake.known, len(intake.rows)) == (count, 0), intake.quarantined[:3]
    assert count > 20


def test_speeds_have_a_place_of_their_own(tmp_path: Path) -> None:
    table = write_table(tmp_path / "speeds.csv", SPEED, SPEED | {"decode_tok_s": "-1"})
    intake = take_in([table])
    (row,) = (dict(zip(EFFICIENCY_BATCH_COLUMNS, values, strict=True)) for values in intake.efficiency)
    assert (row["source"], row["decode_tok_s"]) == ("own:lab", 100.0)
    assert [item.reason for item in intake.quarantined] == ["row: Value error, decode_tok_s -1 cannot be measured"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no row"),
        (b"source,model\nlab,x\n", "no table of figures"),
        (b"source,size_bytes\nlab,5\n", "sizes of files are computed"),
        (b"score,score\n1,2\n", "twice in the header"),
        (b"score,model\n1,2,3\n", "3 cells in a row of a table with 2 columns"),
        (b"model,score\n\xff\xfe,1\n", "is not UTF-8 text"),
        (b'model,score\n"' + b"x" * 200_000 + b'",1\n', "field larger than field limit"),
    ],
    ids=["empty", "other table", "sizes", "twice", "ragged", "bytes", "giant cell"],
)
def test_broken_tables(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "broken.csv").write_bytes(content)
    intake = take_in([tmp_path / "broken.csv"])
    assert list(intake.rows) == []
    assert any(reason in item.reason for item in intake.quarantined), intake.quarantined


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1"], ids=["empty", "cut", "hollow"])
def test_broken_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.parquet").write_bytes(content)
    (refused,) = take_in([tmp_path / "broken.parquet"]).quarantined
    assert refused.reason.startswith("cannot be read on: ")


@pytest.mark.parametrize("path", ["nowhere", "nowhere/*.csv"])
def test_a_path_that_leads_nowhere_is_an_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidRequestError, match="nowhere"):
        take_in([tmp_path / path])


def test_folders_are_searched_once_and_hidden_files_left_alone(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    write_table(tmp_path / "deep" / "er" / "mine.csv", ROW)
    write_table(tmp_path / ".hidden.csv", ROW | {"score": "50"})
    (tmp_path / "notes.txt").write_text("nothing")
    intake = take_in([tmp_path, tmp_path / "deep"])
    assert (len(intake.rows), intake.known, intake.read) == (1, 0, {"table": 1})
