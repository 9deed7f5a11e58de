"""From tables to packaged files: every row is taken or refused out loud; the page about sources is current."""

import csv
import re
from pathlib import Path

import duckdb
import pytest

from knowledge.errors import DataError
from knowledge.evidence import COLUMNS, EFFICIENCY_COLUMNS
from knowledge.publish import main, publish, read_accuracy
from knowledge.readings import ODD
from knowledge.sources_page import sources_page

ROOT = Path(__file__).parents[2]
ACCURACY = {
    "source": "kivi", "ref": "table 1", "model": "llama-2-7b", "family": "llama", "params_b": "7", "tuned": "0",
    "method": "gptq", "w_bits": "4", "w_dtype": "int", "w_group": "128", "w_sym": "1", "a_bits": "16", "a_dtype": "",
    "a_gran": "", "kv_bits": "16", "kv_dtype": "", "kv_group": "", "format": "", "bpw": "", "task": "mmlu",
    "task_type": "emergent", "ability": "knowledge", "shots": "5", "context": "", "metric": "acc",
    "higher_is_better": "1", "score": "44", "baseline": "45", "baseline_dtype": "fp16", "note": "",
}  # fmt: skip
EFFICIENCY = {
    "source": "kivi", "ref": "table 2", "model": "llama-2-7b", "params_b": "7", "method": "gptq", "w_bits": "4",
    "a_bits": "16", "kv_bits": "16", "format": "", "engine": "vllm", "hardware": "A100", "n_gpus": "1", "batch": "1",
    "prompt_len": "", "gen_len": "", "prefill_tok_s": "", "decode_tok_s": "100", "latency_ms_per_token": "",
    "peak_mem_gb": "", "weights_gb": "", "note": "",
}  # fmt: skip


def _table(folder: Path, name: str, base: dict[str, str], *changes: dict[str, str]) -> Path:
    rows = [base | change for change in changes]
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder with one good row of either kind."""
    folder = tmp_path / "tables"
    folder.mkdir()
    _table(folder, "accuracy_kivi.csv", ACCURACY, {})
    return _table(folder, "efficiency_kivi.csv", EFFICIENCY, {})


def test_a_row_arrives_with_what_follows_from_it(tables: Path, tmp_path: Path) -> None:
    assert publish(tables, tmp_path) == []
    with duckdb.connect() as connection:
        found = connection.from_parquet(str(tmp_path / "accuracy.parquet"))
        (row,) = (dict(zip(found.columns, values, strict=True)) for values in found.fetchall())
        speeds = connection.from_parquet(str(tmp_path / "efficiency.parquet")).fetchall()
    expected = {
        "evidence_id": 1, "licence": "MIT", "model": "llama-2-7b", "params_b": 6.738416, "method": "gptq",
        "scheme": "w4a16-g128-sym", "kv_dtype": "none", "kv_name": "kv16", "task": "mmlu", "chance": 25.0,
        "items": 14042, "loss_kind": "relative", "loss": 0.05, "learnable": True, "reason": None, "weight": 1.0,
        "own": False, "suspect": False, "is_average": False,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["loss_se"] == pytest.approx(0.419 / 20, rel=1e-2)
    assert len(speeds) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metric": "accuracy"}, "unknown metric 'accuracy'"),
        ({"score": "101"}, "score 101 is outside 0 … 100 of metric acc"),
        ({"baseline": "-1"}, "baseline -1 is outside"),
        ({"score": "nan"}, "score: Input should be a finite number"),
        ({"score": "high"}, "score: Input should be a valid number"),
        ({"score": ""}, "score: Field required"),
        ({"metric": "ppl", "higher_is_better": "0", "score": "0.5", "baseline": "5"}, "score 0.5 cannot be a perplexity"),
        ({"higher_is_better": "0"}, "higher_is_better=0 does not fit metric acc"),
        ({"task_type": "hard"}, "task_type: Input should be 'basic-nlp'"),
        ({"w_bits": "17"}, "w_bits: Input should be less than or equal to 16"),
        ({"w_bits": ""}, "w_bits: Field required"),
        ({"model": ""}, "model: Field required"),
        ({"extra": "1"}, "extra: Extra inputs are not permitted"),
        ({"task": "mmul"}, "unknown task 'mmul'; did you mean mmlu"),
        ({"method": "gtpq"}, "unknown method 'gtpq'; did you mean gptq"),
        ({"a_bits": "8", "a_gran": "row"}, "a_gran 'row' is none of"),
        ({"format": "gguf:q8_0"}, "w_bits 4 contradicts the format, which has 8 bits"),
        ({"source": "qserve"}, "source 'qserve' is not the file's"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_rows_that_cannot_be_right_are_refused_with_place_and_reason(tables: Path, change: dict[str, str], reason: str) -> None:
    _table(tables, "accuracy_kivi.csv", ACCURACY, {}, change, {})
    readings, refused = read_accuracy(tables)
    assert len(readings) == 2
    assert [(item.file, item.row) for item in refused] == [("accuracy_kivi.csv", 3)]
    assert reason in str(refused[0])


def test_unknown_source_is_refused(tables: Path) -> None:
    _table(tables, "accuracy_nobody.csv", ACCURACY, {"source": "nobody"})
    _, refused = read_accuracy(tables)
    assert len(refused) == 1
    assert str(refused[0]).startswith("accuracy_nobody.csv, row 2: unknown source 'nobody'")


def test_nothing_is_written_when_rows_are_refused(tables: Path, tmp_path: Path) -> None:
    _table(tables, "efficiency_kivi.csv", EFFICIENCY, {}, {"decode_tok_s": "-3"})
    with pytest.raises(
        DataError, match=r"1 rows are refused:\nefficiency_kivi.csv, row 3: .*decode_tok_s -3 cannot be measured"
    ):
        publish(tables, tmp_path)
    assert not list(tmp_path.glob("*.parquet"))
    refused = publish(tables, tmp_path, allow_refused=True)
    assert len(refused) == 1
    assert len(list(tmp_path.glob("*.parquet"))) == 2


KL = {"metric": "kl", "higher_is_better": "0", "task": "wikitext2", "score": "0.1", "baseline": "0"}
BASE = {"method": "none", "w_bits": "16", "w_dtype": "", "w_group": "", "w_sym": "", "score": "45"}


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([BASE, {}], ["baseline", None]),
        ([{"note": "suspect: too good"}], ["suspect"]),
        ([{"note": "row equals the 1.7b row: a copy error, do not use"}], ["suspect"]),
        ([{"baseline": "27", "score": "26"}], ["baseline near chance"]),
        ([{"task": "hle"}], ["chance level unknown"]),
        ([{"task": "avg"}], ["mean of other rows"]),
        ([KL], ["metric has no loss"]),
        ([{"note": "list keeps only models with under 1% drop"}], ["selected by result"]),
        ([{}, {"task": "mmlu_stem"}], [None, "part of mmlu"]),
        ([{"task": "mmlu_stem"}], [None]),
        ([{"note": "reprinted by the source from the method's paper"}], [None]),
        ([{}, {}, {"baseline": "60"}], [None, None, ODD]),
        ([{}, {}, {"baseline": "45.4"}], [None, None, None]),
        ([{}, {}, {"baseline": "60", "note": "round1; judge"}], [None, None, None]),
    ],
    ids=[
        "baseline", "suspect", "do not use", "near chance", "no chance level", "mean", "no loss", "selected", "part and whole",
        "part alone", "reprint alone", "odd baseline", "noise of a baseline", "another round",
    ],
)  # fmt: skip
def test_reasons(tables: Path, rows: list[dict[str, str]], reasons: list[str | None]) -> None:
    _table(tables, "accuracy_kivi.csv", ACCURACY, *rows)
    readings, refused = read_accuracy(tables)
    assert refused == []
    assert [reading.reason for reading in readings] == reasons
    assert [reading.weight > 0 for reading in readings] == [reason is None for reason in reasons]


def test_reprints_of_another_source_do_not_count_twice(tables: Path) -> None:
    _table(
        tables,
        "accuracy_greenbit.csv",
        ACCURACY,
        {"source": "greenbit", "note": "reprinted by the source from the method's paper"},
    )
    readings, _ = read_accuracy(tables)
    assert {reading.row.source: reading.reason for reading in readings} == {
        "greenbit": "printed by another source",
        "kivi": None,
    }


def test_chance_and_items_that_a_row_states_itself(tables: Path) -> None:
    changes = [{"note": "leaderboard-v2 scale: chance level mapped to 0"}, {"note": "language da, 50 examples"}]
    _table(tables, "accuracy_kivi.csv", ACCURACY, *changes)
    readings, _ = read_accuracy(tables)
    assert [(reading.chance, reading.items) for reading in readings] == [(0.0, 14042), (25.0, 50)]


def test_model_facts_are_the_catalogue_s(tables: Path) -> None:
    _table(tables, "accuracy_kivi.csv", ACCURACY, {"model": "Llama-2-7b-hf"}, {"model": "nobodys-model-3b"})
    readings, _ = read_accuracy(tables)
    assert [reading.model for reading in readings] == ["llama-2-7b", "nobodys-model-3b"]


def test_command_line(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "sources.md"
    assert main([str(tables), "--target", str(tmp_path), "--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8").startswith("# Sources of the published figures")
    assert main([str(tmp_path / "nothing"), "--target", str(tmp_path)]) == 1
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "give a folder, --page FILE, or both" in capsys.readouterr().err


def test_page_about_sources_is_current() -> None:
    written = (ROOT / "docs" / "reference" / "sources.md").read_text(encoding="utf-8")
    assert written == sources_page(), "run: python -m knowledge.publish --page docs/reference/sources.md"


def test_every_column_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "table-columns.md").read_text(encoding="utf-8")
    going_in, _, coming_out = page.partition("## The relation `evidence`")
    named_in, named_out = (set(re.findall(r"[a-z_]{3,}", part)) for part in (going_in, coming_out))
    assert ACCURACY.keys() <= named_in
    assert COLUMNS.keys() | EFFICIENCY_COLUMNS.keys() <= named_out
