"""`qadvisor refresh` as a user calls it: from files to another answer, once, with everything refused accounted for."""

import csv
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers import run_cli

from knowledge.database import read_parquet
from knowledge.versions import PACKAGED

ROW = {
    "source": "mine", "ref": "this week", "model": "mistral-7b", "family": "mistral", "method": "gptq", "w_bits": 4,
    "w_dtype": "int", "w_group": 128, "a_bits": 16, "kv_bits": 16, "task": "arc_easy", "task_type": "emergent",
    "ability": "reasoning", "metric": "acc", "higher_is_better": 1, "baseline": 80, "score": 79,
}  # fmt: skip


def table(path: Path, *rows: dict[str, Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(ROW | row for row in rows)
    return path


def test_rows_are_taken_once_and_refused_ones_are_accounted_for(fresh_home: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "mine.csv", {}, {"score": 78}, {"score": 78}, {"score": 900})
    first = run_cli("refresh", path)
    assert first.code == 0
    words = [" ".join(line.split()) for line in first.out.splitlines()]
    assert words[:5] == ["read 1 table", "taken 2 scores", "known already 1", "no evidence 0", "refused 1"]
    assert "is in use; before: packaged (`qadvisor knowledge rollback packaged`)" in words[-1]
    again = run_cli("refresh", path, "--json").json
    assert (again["status"], again["scores"], again["known"]) == ("nothing_new", 0, 3)
    assert again["version"] == again["before"] == run_cli("doctor", "--json").json["version_id"]
    (refused,) = read_parquet(Path(again["quarantine"]))
    assert (Path(refused["file"]).name, refused["row"]) == ("mine.csv", 5)
    assert "900" in refused["reason"]
    found = run_cli("evidence", "--model", "mistral-7b", "--task", "arc_easy", "--json", "-n", "500").json["evidence"]
    assert sorted(row["score"] for row in found if row["own"]) == [78, 79]


def test_a_dry_run_says_the_same_and_changes_nothing(fresh_home: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "mine.csv", {})
    answer = run_cli("refresh", path, "--dry-run", "--json").json
    assert (answer["status"], answer["scores"], answer["version"], answer["before"]) == ("dry_run", 1, None, PACKAGED)
    assert "a dry run changes nothing" in run_cli("refresh", path, "--dry-run").out
    assert not (fresh_home / "runs").exists()
    assert run_cli("knowledge", "log", "--json").json["current"] == PACKAGED


def test_nothing_but_refused_rows_exits_3(fresh_home: Path, tmp_path: Path) -> None:
    result = run_cli("refresh", table(tmp_path / "mine.csv", {"score": 900}), "--json")
    assert result.code == 3
    assert (result.json["status"], sum(result.json["refused"].values())) == ("nothing_taken", 1)
    assert Path(result.json["quarantine"]).is_file()


def test_files_in_an_object_store_are_taken(fresh_home: Path, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/team/mine.csv", table(tmp_path / "mine.csv", {}).read_bytes())
    try:
        assert run_cli("refresh", "memory://team", "--json").json["scores"] == 1
    finally:
        store.rm("/team", recursive=True)


@pytest.mark.parametrize("path", ["no-such-file.csv", "no-such-folder/*.json", "nosuch://bucket"])
def test_paths_that_lead_nowhere_exit_2(fresh_home: Path, path: str) -> None:
    result = run_cli("refresh", path, "--json")
    assert result.code == 2
    assert path in result.json["error"]["message"]


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QADVISOR_HOME", str(tmp_path / "file" / "home"))
    result = run_cli("refresh", table(tmp_path / "mine.csv", {}), "--json")
    assert result.code == 1
    assert result.json["error"]["hint"] == "set QADVISOR_HOME to a writable folder"
    assert run_cli("refresh", table(tmp_path / "mine.csv", {}), "--dry-run", "--json").json["status"] == "dry_run"


def test_an_empty_home_has_nothing_to_refresh_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QADVISOR_HOME", str(tmp_path / "new"))
    result = run_cli("refresh", "--json")
    assert (result.code, result.json["status"], result.json["read"]) == (0, "nothing_new", {})
