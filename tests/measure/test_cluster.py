"""Sweeps on a Ray cluster of two workers on this machine: the same records as here, also when workers are killed.

Measured with a backend of a few lines; `test_cluster_command.py` measures a model.
"""

import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_sweep import ClusterBackend, write_model

from knowledge.errors import InvalidRequestError, QAdvisorError, StoreError
from measure.cluster import ClusterOptions, connected, run_on_ray, worker_needs
from measure.outputs import read_folder
from measure.runner import Summary, run_plan
from measure.sweep import RunOptions, SweepRequest, state_recipes, state_tasks

pytest.importorskip("ray")

RECIPES = ["w8a16", "w4a16", "w3a16", "w2a16", "kv8", "kv4", "kv2"]
TASKS = ["retrieval", "perplexity"]
BACKEND = "fake_sweep:ClusterBackend"


@pytest.fixture(scope="module")
def steering(tmp_path_factory):
    """The folder that steers the workers; a cluster runs here as long as it is used."""
    folder = tmp_path_factory.mktemp("steering")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QADVISOR_FAKE_SWEEP", str(folder))
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
        with connected(None):
            yield folder


@pytest.fixture
def sweep(steering, tmp_path):
    """A function that runs the sweep on Ray and returns its summary."""
    for file in steering.iterdir():
        file.unlink()
    request = request_for(write_model(tmp_path / "model"))

    def run(*, request=request, run=None, on_event=lambda event: None, **cluster):
        run = run or RunOptions()
        plans = request.plans(tmp_path / "runs", run)
        options = ClusterOptions(**{"workers": 2, "cpus": 0.5} | cluster)
        return run_on_ray(request, plans, cluster=options, run=run, on_event=on_event, backend=BACKEND)

    return run


def request_for(*models, recipes=RECIPES):
    return SweepRequest(models=tuple(map(str, models)), recipes=state_recipes(recipes), tasks=state_tasks(TASKS))


def scored(steering):
    """How often each cell was scored, and by whom."""
    lines = [line.split(maxsplit=2) for line in (steering / "calls").read_text().splitlines()]
    return Counter(cell for _, stage, cell in lines if stage == "score"), {pid for pid, stage, _ in lines if stage == "score"}


def without_circumstances(folder):
    """Records by key without times and without what names the machine."""
    records = {}
    for record in read_folder(folder).records.values():
        content = json.loads(record.to_json())
        del content["started"], content["seconds"], content["environment"]
        records[record.key] = content
    return records


def test_the_same_records_as_here(sweep, steering, tmp_path):
    heard = []
    assert sweep(on_event=lambda event: heard.append(event.record)) == Summary(ok=16)
    cells, workers = scored(steering)
    assert (set(cells.values()), len(cells), len(workers)) == ({1}, 16, 2)
    assert len([record for record in heard if record is not None]) == 16

    request = request_for(tmp_path / "model")
    [plan] = request.plans(tmp_path / "here")
    run_plan(plan, ClusterBackend(plan.source, plan.settings))
    there = without_circumstances(tmp_path / "runs")
    assert there == without_circumstances(tmp_path / "here")
    assert sum(record["measurements"][0]["against_baseline"] is not None for record in there.values()) == 14


@pytest.mark.slow
def test_again_measures_nothing(sweep, steering):
    sweep()
    (steering / "calls").unlink()
    assert sweep() == Summary(skipped=16)
    assert not (steering / "calls").exists()


def test_a_killed_worker_costs_nothing_but_the_cell_at_hand(sweep, steering, tmp_path):
    (steering / "slow").write_text("0.1")

    def kill_two():
        killed = set()
        while len(killed) < 2:
            time.sleep(0.02)
            done = len(list((tmp_path / "runs").glob("*.json")))
            if (steering / "calls").exists() and done > 4 * len(killed):
                _, workers = scored(steering)
                for pid in sorted(workers - killed)[:1]:
                    os.kill(int(pid), signal.SIGKILL)
                    killed.add(pid)

    killer = threading.Thread(target=kill_two)
    killer.start()
    summary = sweep()
    killer.join()
    cells, workers = scored(steering)
    assert summary == Summary(ok=16)
    assert len(read_folder(tmp_path / "runs").records) == 16
    assert len(cells) == 16
    assert sum(cells.values()) <= 16 + 2
    assert len(workers) >= 3


@pytest.mark.slow
def test_a_recipe_that_kills_its_workers_is_recorded_as_failed(sweep, steering, tmp_path):
    (steering / "deadly").write_text("w3a16-g128-asym")
    assert sweep() == Summary(ok=14, failed=2)
    failed = [record for record in read_folder(tmp_path / "runs").records.values() if record.error]
    assert {(record.spec.recipe, record.error.code) for record in failed} == {("w3a16-g128-asym", "worker_lost")}
    (steering / "deadly").unlink()
    assert sweep() == Summary(skipped=16)
    assert sweep(run=RunOptions(retry_failed=True)) == Summary(ok=2, skipped=14)


@pytest.mark.slow
def test_several_models_share_the_cluster(sweep, steering, tmp_path):
    other = write_model(tmp_path / "other", bytes(range(64)))
    assert sweep(request=request_for(tmp_path / "model", other, recipes=["kv8"])) == Summary(ok=8)
    assert Counter(record.spec.model for record in read_folder(tmp_path / "runs").records.values()) == {"model": 4, "other": 4}


@pytest.mark.slow
def test_interruption_stops_the_workers_and_the_rest_is_resumed(sweep, steering, tmp_path):
    def interrupt(event):
        if event.record is not None and event.record.spec.recipe != "none":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(on_event=interrupt)
    before = len(read_folder(tmp_path / "runs").records)
    assert 4 <= before < 16
    assert sweep().ok >= 16 - before - 4
    assert len(read_folder(tmp_path / "runs").records) == 16


@pytest.mark.slow
def test_workers_that_cannot_even_start(sweep, tmp_path):
    request = request_for(tmp_path / "model")
    with pytest.raises(QAdvisorError, match="no_such_module"):
        run_on_ray(
            request, request.plans(tmp_path / "runs"), cluster=ClusterOptions(), run=RunOptions(), backend="no_such_module:X"
        )


@pytest.mark.slow
def test_records_that_do_not_arrive(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("measure.driver.read_records", lambda place, specs: {})
    with pytest.raises(StoreError, match="its record is not in"):
        sweep()


def test_no_node_has_room(sweep):
    with pytest.raises(InvalidRequestError, match="no node of the cluster has room for a worker, which needs 4096 CPU"):
        sweep(cpus=4096.0)
    with pytest.raises(InvalidRequestError, match="1024 GPU"):
        sweep(gpus=1024.0)


@pytest.mark.parametrize(
    ("device", "gpus", "expected"), [("cpu", None, 0), ("cuda", None, 1), ("cuda:1", None, 1), ("cuda", 0.5, 0.5)]
)
def test_what_a_worker_declares(tmp_path, device, gpus, expected):
    request = SweepRequest(
        models=(str(write_model(tmp_path / "model")),), recipes=state_recipes(["kv4"]), tasks=("retrieval",), device=device
    )
    [plan] = request.plans(tmp_path / "runs")
    needs = worker_needs(plan, ClusterOptions(gpus=gpus))
    assert (needs["CPU"], needs["GPU"]) == (1, expected)
    assert needs["memory"] - plan.cells[0].memory_bytes == 2 << 30
