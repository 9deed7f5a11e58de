"""A worker as the driver talks to it, in this process and without Ray."""

import json
from dataclasses import replace

import pytest
from fake_sweep import write_model

from knowledge.errors import DataError, InvalidModelError, QAdvisorError
from measure.environment import package_version
from measure.outputs import read_folder
from measure.sweep import RunOptions, SweepRequest, state_recipes
from measure.worker import Assignment, Worker


@pytest.fixture
def assignment(tmp_path, monkeypatch):
    monkeypatch.setenv("QADVISOR_FAKE_SWEEP", str(tmp_path))
    model = write_model(tmp_path / "model")
    request = SweepRequest(models=(str(model),), recipes=state_recipes(["w4a16", "kv4"]), tasks=("retrieval",))
    return Assignment(
        request=request,
        output=str(tmp_path / "runs"),
        run=RunOptions(),
        version=package_version("qadvisor"),
        backend="fake_sweep:ClusterBackend",
    )


@pytest.fixture
def keys(assignment, tmp_path):
    [plan] = assignment.request.plans(tmp_path / "runs")
    return [cell.spec.key for cell in plan.cells]


def calls(tmp_path):
    lines = (tmp_path / "calls").read_text().splitlines()
    return [line.split(maxsplit=1)[1] for line in lines]


def test_it_loads_once_and_records_what_it_is_told(assignment, keys, tmp_path):
    worker = Worker(assignment)
    opened = worker.open(keys)
    assert opened.error is None
    assert opened.facts.architecture == "LlamaForCausalLM"
    for key in keys:
        worker.run([key]).raise_error()
    assert calls(tmp_path).count("open model") == calls(tmp_path).count("prepare retrieval") == 1
    records = read_folder(tmp_path / "runs").records
    assert [records[key].measurements[0].against_baseline is not None for key in keys] == [False, True, True]


def test_what_another_worker_recorded_is_not_measured_again(assignment, keys, tmp_path):
    first, second = Worker(assignment), Worker(assignment)
    for worker in (first, second):
        worker.open(keys).raise_error()
    first.run(keys[:1])
    second.run(keys[:2])
    assert calls(tmp_path).count("score none retrieval") == 1
    assert calls(tmp_path).count("score w4a16-g128-asym retrieval") == 1
    assert read_folder(tmp_path / "runs").records[keys[1]].measurements[0].against_baseline is not None


def test_failed_cells_are_measured_again_only_when_asked(assignment, keys, tmp_path):
    (tmp_path / "raises").write_text("w4a16-g128-asym")
    worker = Worker(assignment)
    worker.open(keys)
    worker.run(keys[:1])
    worker.run(keys[1:2])
    (tmp_path / "raises").unlink()
    worker.run(keys[1:2])
    assert read_folder(tmp_path / "runs").records[keys[1]].status == "failed"
    again = Worker(replace(assignment, run=RunOptions(retry_failed=True)))
    again.open(keys)
    again.run(keys[1:2])
    assert read_folder(tmp_path / "runs").records[keys[1]].status == "ok"


def test_a_model_that_cannot_be_loaded(assignment, keys, tmp_path):
    (tmp_path / "broken").write_text("")
    with pytest.raises(InvalidModelError, match="the model cannot be loaded") as caught:
        Worker(assignment).open(keys).raise_error()
    assert (caught.value.given, caught.value.hint) == ("x", "look")


def test_another_model_than_the_drivers(assignment, keys, tmp_path):
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 7}))
    with pytest.raises(DataError, match="3 cells of model are other ones on this node"):
        Worker(assignment).open(keys).raise_error()


def test_another_version_than_the_drivers(assignment, keys):
    with pytest.raises(QAdvisorError, match=r"the sweep was started with 0\.0\.0"):
        Worker(replace(assignment, version="0.0.0")).open(keys).raise_error()


def test_a_folder_that_cannot_be_written(assignment, keys, tmp_path):
    worker = Worker(assignment)
    worker.open(keys)
    (tmp_path / "runs").write_text("")
    with pytest.raises(QAdvisorError, match="cannot write"):
        worker.run(keys[:1]).raise_error()


def test_work_before_loading(assignment, keys):
    with pytest.raises(QAdvisorError, match="no model"):
        Worker(assignment).run(keys)
