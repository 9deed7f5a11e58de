"""A sweep of every kind of recipe on a tiny model, killed on the way: it goes on where it was, and every record loads."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")

from knowledge.measurements import load_record
from measure.presets import RECIPE_LISTS, expand_recipes
from measure.tasks import SUITES

pytestmark = [pytest.mark.measure, pytest.mark.slow]


def test_a_killed_sweep_of_all_kinds_goes_on(model_folder, tmp_path):
    runs = tmp_path / "runs"
    command = [
        sys.executable, "-c", "from measure.cli import app; app()", "run", "--model", str(model_folder("wide")),
        "--recipes", "broad", "--suite", "quick", "--limit", "3", "--context", "256", "--calibration-samples", "8",
        "--output", str(runs), "--json",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while len(list(runs.glob("*.json"))) < 20 and first.poll() is None:
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    kept = len(list(runs.glob("*.json")))
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    cells = len(SUITES["quick"]) * (1 + len(RECIPE_LISTS["broad"][1]))
    assert (done["failed"], done["ok"] + kept) == (0, cells)
    records = [load_record(path) for path in runs.glob("*.json")]
    assert len(records) == cells
    assert {record.spec.recipe for record in records} == {recipe.name for recipe, _ in expand_recipes(["broad"])}
    assert all(record.status == "ok" for record in records)
