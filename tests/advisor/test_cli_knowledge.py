"""`qadvisor knowledge` as a user calls it."""

from pathlib import Path

import pytest
from helpers import run_cli
from own_batches import make_intake

from knowledge.refresh import publish, stage_intake
from knowledge.versions import PACKAGED, Manifest


@pytest.fixture
def versions(fresh_home: Path) -> list[Manifest]:
    """Two versions, the second in use."""
    manifests = []
    for number in range(2):
        with stage_intake(lambda known, first=5 * number: make_intake(5, first, refused=1), home=fresh_home) as staged:
            manifests.append(publish(staged))
    return manifests


def test_log_lists_the_versions_and_marks_the_one_in_use(versions: list[Manifest]) -> None:
    first, second = (manifest.id for manifest in versions)
    lines = run_cli("knowledge", "log").out.splitlines()
    assert [line.split()[:2][-1] if "*" in line else line.split()[0] for line in lines[1:4]] == [second, first, PACKAGED]
    assert lines[1].startswith(f"* {second}")
    found = run_cli("knowledge", "--json").json
    assert found["current"] == second
    assert [(one["id"], one["rows"], one["taken"]) for one in found["versions"]] == [
        (second, 10, 5), (first, 5, 5), (PACKAGED, 0, 0),
    ]  # fmt: skip
    assert [move["version"] for move in found["moves"]] == [second, first]


def test_diff_counts_rows_by_source_model_and_task(versions: list[Manifest]) -> None:
    out = run_cli("knowledge", "diff", versions[0].id, "--rows-only").out
    assert "+5" in out
    assert "own:measure" in out
    assert "5 rows added, 0 removed" in out
    found = run_cli("knowledge", "diff", "current", "packaged", "--rows-only", "--json").json
    assert found["added"] == []
    assert found["removed"] == [{"source": "own:measure", "model": "mistral-7b-v0.1", "task": "arc_easy", "rows": 10}]
    assert (found["before"], found["after"], found["panel"]) == (versions[1].id, PACKAGED, None)


def test_rollback_says_what_was_before(versions: list[Manifest]) -> None:
    first, second = (manifest.id for manifest in versions)
    assert run_cli("knowledge", "rollback", first[:8]).out == f"version {first} is in use; before: {second}\n"
    assert "in use already" in run_cli("knowledge", "rollback", first).out
    answer = run_cli("knowledge", "rollback", second, "--json").json
    assert (answer["before"], answer["id"], answer["rows"]) == (first, second, 10)
    assert run_cli("doctor", "--json").json["version_id"] == second


@pytest.mark.parametrize("command", [["rollback"], ["diff"]])
def test_unknown_versions_exit_2_and_say_where_to_look(versions: list[Manifest], command: list[str]) -> None:
    result = run_cli("knowledge", *command, "0" * 16, "--json")
    assert result.code == 2
    assert result.json["error"]["hint"] == "`qadvisor knowledge log` lists the versions"


def test_verify_says_which_file_is_damaged_and_fails(fresh_home: Path, versions: list[Manifest]) -> None:
    whole = run_cli("knowledge", "verify")
    assert (whole.code, "every file is whole" in whole.out) == (0, True)
    batch = versions[0].batches[0].path(fresh_home)
    batch.write_bytes(batch.read_bytes()[:-1])
    broken = run_cli("knowledge", "verify")
    assert broken.code == 1
    assert "1 of 5 files are damaged or missing" in broken.out
    found = run_cli("knowledge", "verify", "--json")
    assert found.code == 1
    assert [one["file"] for one in found.json["files"] if one["state"] == "damaged"] == [f"runs/batches/{batch.name}"]
