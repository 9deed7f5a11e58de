"""Sweeps killed at random points: every record whole, none lost, none twice, the rest resumed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_sweep import FakeBackend, plan_for

from measure.outputs import read_folder
from measure.runner import Summary, run_plan

RECIPES = ("w4a16", "w3a16", "w16a16-kv4")
TASKS = ("retrieval", "perplexity")

PROGRAM = """
import json, os, random, signal, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
import test_measure_kills as t

def die_at(step):
    calls = 0
    def counted(original):
        def call(*args, **values):
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **values)
        return call
    for name in ("fsync", "replace", "rename", "open", "unlink"):
        setattr(os, name, counted(getattr(os, name)))

generator = random.Random(int(sys.argv[4]))
for number in range(int(sys.argv[3])):
    folder = Path(sys.argv[2], str(number))
    folder.mkdir()
    step = generator.randint(1, 25) if number % 2 else 0
    seconds = generator.uniform(0, 0.15)
    child = os.fork()
    if child == 0:
        die_at(step)
        t.run_plan(t.plan(folder), t.SlowBackend())
        os._exit(0)
    if not step:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


class SlowBackend(FakeBackend):
    """Scores that take a little time, so that a kill falls between records as well as into one."""

    def score(self, task):
        import time

        time.sleep(0.005)
        return super().score(task)


def plan(folder):
    return plan_for(folder, *RECIPES, tasks=TASKS)


def kill_sweeps(folder: Path, kills: int, seed: int) -> int:
    """Kill so many sweeps, resume each, and count; returns how many were killed before they were done."""
    arguments = [json.dumps([str(Path(__file__).parent), *sys.path]), str(folder), str(kills), str(seed)]
    subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, timeout=600)
    cut = 0
    for number in range(kills):
        place = folder / str(number)
        left = read_folder(place / "runs")
        assert left.unreadable == {}, "a record is whole or not there"
        cells = len(RECIPES) * len(TASKS) + len(TASKS)
        done = run_plan(plan(place), FakeBackend())
        assert done == Summary(ok=cells - len(left.records), failed=0, skipped=len(left.records))
        assert len(read_folder(place / "runs").records) == cells
        assert len(list((place / "runs").glob("*.json"))) == cells
        cut += len(left.records) < cells
    return cut


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_twenty_killed_sweeps_lose_nothing(tmp_path: Path) -> None:
    assert kill_sweeps(tmp_path, 20, seed=3) >= 5


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_two_hundred_killed_sweeps_lose_nothing(tmp_path: Path) -> None:
    assert kill_sweeps(tmp_path, 200, seed=4) >= 50
