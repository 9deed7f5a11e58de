"""Real processes: killed refreshes, readers beside them, two at once. What was published stays readable, rows are counted."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refresh_process import ROOT, finish, kill_after, start

from advisor.refreshing import refresh
from knowledge.history import history, verify
from knowledge.store import open_store

ROWS = 20


@pytest.fixture
def home(fresh_home: Path) -> Path:
    open_store(fresh_home).close()
    return fresh_home


def table(folder: Path, number: int) -> Path:
    """A table with `ROWS` scores that no other table has."""
    path = folder / f"table-{number}.csv"
    fixed = {
        "source": "mine", "ref": f"week {number}", "model": "mistral-7b", "family": "mistral", "method": "gptq", "w_bits": 4,
        "w_dtype": "int", "w_group": 128, "a_bits": 16, "kv_bits": 16, "task": "arc_easy", "task_type": "emergent",
        "ability": "reasoning", "metric": "acc", "higher_is_better": 1, "baseline": 80,
    }  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*fixed, "score"])
        writer.writeheader()
        writer.writerows(fixed | {"score": 70 + row / 100 + number / 10_000} for row in range(ROWS))
    return path


def own_ids(home: Path) -> list[int]:
    with open_store(home) as store:
        return [number for (number,) in store.rows("SELECT evidence_id FROM evidence WHERE own")]


def kill_many(home: Path, folder: Path, kills: int, seed: int) -> int:
    """Kill one refresh after another, at calls of the system spread over all of them or at a random time.

    Returns:
        How many had not published.
    """
    generator = random.Random(seed)
    begun = time.monotonic()
    code, out, err = finish(start(home, "refresh", "--no-fit", table(folder, 0), "--json"))
    whole_s = time.monotonic() - begun
    assert code == 0, err
    calls = int(out.rpartition("calls ")[2])
    unpublished = 0
    for number in range(1, kills + 1):
        path, before = table(folder, number), history(home).current
        if number % 2:
            step = 1 + int(calls * (number - generator.random()) / kills)
            assert finish(start(home, "refresh", "--no-fit", path, step=step))[0] in (-9, 0)
        else:
            kill_after(start(home, "refresh", "--no-fit", path), generator.uniform(0, whole_s))
        killed = own_ids(home)
        assert len(killed) in (number * ROWS, (number + 1) * ROWS), "all rows of a version or none"
        if len(killed) == number * ROWS:
            unpublished += 1
            assert history(home).current == before
        done = refresh([str(path)], home=home, fit=False)
        assert done.status == ("published" if len(killed) == number * ROWS else "nothing_new")
        assert sorted(own_ids(home)) == list(range(100_000_000, 100_000_000 + (number + 1) * ROWS)), "each row once"
    assert {one.state for one in verify(home)} <= {"whole", "unused"}
    assert not list((home / "snapshots").glob("refresh-*"))
    return unpublished


def test_twenty_killed_refreshes_lose_nothing(home: Path, tmp_path: Path) -> None:
    assert 5 <= kill_many(home, tmp_path, 20, seed=5) < 20, "before the publish and after it"


@pytest.mark.slow
def test_two_hundred_killed_refreshes_lose_nothing(home: Path, tmp_path: Path) -> None:
    assert 50 <= kill_many(home, tmp_path, 200, seed=7) < 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits of a process")
@pytest.mark.parametrize("room", [-1_000_000, 1000, 300_000], ids=["to copy", "to append", "to finish"])
def test_a_full_disk_leaves_the_version_before(home: Path, tmp_path: Path, room: int) -> None:
    """The system refuses to let a file grow: in the copy of the snapshot, or in what DuckDB writes itself."""
    assert refresh([str(table(tmp_path, 0))], home=home, fit=False).status == "published"
    before = history(home).current
    largest = max(path.stat().st_size for path in (home / "snapshots").iterdir())
    limit = {"largest_file": largest + room}
    code, out, err = finish(start(home, "refresh", "--no-fit", table(tmp_path, 1), "--json", **limit))
    assert code in (0, 1), err
    if code == 1:
        error = json.loads(out.rpartition("calls")[0])["error"]
        assert "did not succeed" in error["message"]
        assert before in error["hint"]
    assert len(own_ids(home)) == (1 + (code == 0)) * ROWS
    assert code == 1 or room > 1000
    assert not list((home / "snapshots").glob("refresh-*"))
    assert refresh([str(table(tmp_path, 1))], home=home, fit=False).status == ("published" if code else "nothing_new")


_READER = """
import sys
from knowledge.store import open_store
print("ready", flush=True)
while True:
    with open_store() as store:
        print(store.version_id, store.rows("SELECT count(*) FROM evidence WHERE own")[0][0], len(store.warnings), flush=True)
"""


def test_readers_answer_throughout(home: Path, tmp_path: Path) -> None:
    environment = os.environ | {"QADVISOR_HOME": str(home), "PYTHONPATH": str(ROOT)}
    reader = subprocess.Popen([sys.executable, "-c", _READER], env=environment, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    expected = {history(home).current: 0}
    for number in range(4):
        refresh([str(table(tmp_path, number))], home=home, fit=False)
        expected[history(home).current] = (number + 1) * ROWS
    last = history(home).current
    lines = []
    for line in reader.stdout:
        lines.append(line.split())
        if lines[-1][0] == last:
            break
    reader.kill()
    reader.communicate()
    assert len({version for version, _, _ in lines}) > 1
    assert [line for line in lines if expected[line[0]] != int(line[1]) or line[2] != "0"] == []


_HOLDER = """
import sys
from knowledge.locks import refresh_lock
from knowledge.home import home
with refresh_lock(home(), wait_s=0):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER], env=os.environ | {"QADVISOR_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_who_holds_the_lock_is_said_and_a_dead_holder_does_not_matter(home: Path, tmp_path: Path) -> None:
    holder = _holder(home)
    code, out, err = finish(start(home, "refresh", "--no-fit", table(tmp_path, 0), "--wait", "0.2", "--json"))
    assert code == 1
    error = json.loads(out.rpartition("calls")[0])["error"]
    assert f"process {holder.pid} on" in error["message"]
    assert error["hint"] == "--wait SECONDS waits longer"
    assert f"waiting for another refresh: process {holder.pid}" in err
    assert own_ids(home) == []
    holder.kill()
    holder.communicate()
    assert refresh([str(table(tmp_path, 0))], home=home, wait_s=0, fit=False).status == "published"


def test_a_second_refresh_waits_for_the_first(home: Path, tmp_path: Path) -> None:
    running = [start(home, "refresh", "--no-fit", table(tmp_path, number), "--wait", "60") for number in range(3)]
    assert [finish(process)[0] for process in running] == [0, 0, 0]
    assert len(own_ids(home)) == 3 * ROWS
    assert len(history(home).versions) == 4
    assert {one.state for one in verify(home)} == {"whole"}
