"""`qadvisor measure run --on ray` as a user calls it, with a model that is really loaded."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from knowledge.errors import InvalidRequestError, MissingDependencyError, QAdvisorError
from measure.cli import app
from measure.outputs import read_folder

pytest.importorskip("torch")
pytest.importorskip("ray")

pytestmark = pytest.mark.measure


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, QAdvisorError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def start(*arguments):
    program = "from advisor.cli.main import run; run()"
    command = [sys.executable, "-c", program, "measure", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def save_plan(model, recipes, file):
    arguments = ("--tasks", "perplexity,kl-divergence,arithmetic-choice", "--limit", 3, "--context", 64)
    call("plan", "--model", model, "--recipes", recipes, *arguments, "--save", file)
    return file


@pytest.fixture
def plan(model_folder, tmp_path):
    return save_plan(model_folder("llama"), "w4a16-g32,kv4,w8a8,w4a16:quip", tmp_path / "plan.json")


@pytest.fixture
def long_plan(model_folder, tmp_path):
    """96 cells: one does not end between the fourth record and a signal."""
    weights = [f"w{bits}a16-g{group}" for bits in (8, 6, 5, 4, 3, 2) for group in (32, 64)]
    recipes = [*weights, *(f"{name}-kv{bits}" for name in weights[:6] for bits in (8, 4, 2)), "nf4"]
    return save_plan(model_folder("llama"), ",".join(recipes), tmp_path / "plan.json")


def results(folder):
    """Records by key without times and without what names the machine."""
    records = {}
    for record in read_folder(folder).records.values():
        content = json.loads(record.to_json())
        del content["started"], content["seconds"], content["environment"]
        records[record.key] = content
    return records


@pytest.mark.slow
def test_one_plan_gives_the_same_records_here_and_on_ray(plan, tmp_path):
    process = start("run", "--plan", plan, "--on", "ray", "--output", tmp_path / "ray", "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    document = json.loads(out)
    assert (document["ok"], document["failed"], document["skipped"]) == (12, 3, 0)
    call("run", "--plan", plan, "--output", tmp_path / "here")
    assert results(tmp_path / "ray") == results(tmp_path / "here")


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_leaves_no_process(long_plan, tmp_path):
    process = start("run", "--plan", long_plan, "--on", "ray", "--output", tmp_path / "runs")
    while process.poll() is None and len(list((tmp_path / "runs").glob("*.json"))) < 4:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted after" in err
    assert "it goes on where it was" in err
    assert "Traceback" not in err
    assert "ray" not in out.lower().replace(str(tmp_path).lower(), "")
    before = len(read_folder(tmp_path / "runs").records)
    assert before >= 3
    again = json.loads(call("run", "--plan", long_plan, "--output", tmp_path / "runs", "--json"))
    assert again["ok"] + again["failed"] == 96 - before


def test_ray_that_is_not_installed(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match="measuring on a cluster needs the package 'ray'") as caught:
        call("run", "--plan", plan, "--on", "ray", "--output", tmp_path / "runs")
    assert caught.value.hint == 'pip install "qadvisor[ray]"'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--on", "slurm"), "cannot run on 'slurm'"), (("--workers", "2"), "are options of --on ray")],
    ids=["unknown place", "options of ray alone"],
)
def test_requests_that_cannot_be_understood(plan, tmp_path, arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        call("run", "--plan", plan, "--output", tmp_path / "runs", *arguments)


def test_a_cluster_that_does_not_answer(plan, tmp_path):
    with pytest.raises(QAdvisorError, match="no Ray cluster"):
        call("run", "--plan", plan, "--on", "ray", "--address", "auto", "--output", tmp_path / "runs")
