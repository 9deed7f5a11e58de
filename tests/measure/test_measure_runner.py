"""Sweeps on a backend of a few lines: order, records, failures, interruption, resuming. Needs no torch."""

import os
import signal
import subprocess
import sys

import pytest
from fake_sweep import FakeBackend, plan_for

from knowledge.errors import StoreError
from knowledge.measurements import load_record
from measure.errors import NotApplicableError, QuantizationMismatchError
from measure.models import ModelSource
from measure.outputs import read_folder, record_path, remove_leftovers
from measure.plan import Settings, make_plan
from measure.presets import expand_recipes
from measure.runner import Summary, run_plan
from measure.tasks import TaskOptions, plan_tasks


def states(plan):
    return [(cell.spec.recipe, cell.status) for cell in plan.cells]


def test_one_load_baseline_first_one_record_a_cell(tmp_path):
    backend = FakeBackend()
    summary = run_plan(plan_for(tmp_path), backend)
    assert summary == Summary(ok=3, failed=0, skipped=0)
    assert backend.calls == [
        "open model", "prepare retrieval",
        "quantize none", "score none retrieval", "restore",
        "quantize w4a16-g128-asym", "score w4a16-g128-asym retrieval", "restore",
        "quantize w3a16-g128-asym", "score w3a16-g128-asym retrieval", "restore",
    ]  # fmt: skip
    assert [status for _, status in states(plan_for(tmp_path))] == ["done"] * 3


def test_a_finished_sweep_loads_nothing(tmp_path):
    run_plan(plan_for(tmp_path), FakeBackend())
    backend = FakeBackend()
    assert run_plan(plan_for(tmp_path), backend) == Summary(skipped=3)
    assert backend.calls == []


def test_difference_to_the_baseline_is_paired(tmp_path):
    plan = plan_for(tmp_path)
    run_plan(plan, FakeBackend())
    records = [load_record(record_path(plan.folder.path, cell.spec)) for cell in plan.cells]
    baseline, four, three = (record.measurements[0].against_baseline for record in records)
    assert baseline is None
    assert four is not None
    assert (four.baseline, four.delta, four.flips, four.n) == (0.75, -0.25, 0.25, 4)
    assert three is not None
    assert (three.delta, three.flips) == (-0.25, 0.75)
    assert records[0].quantization is None
    assert records[1].comparability is not None
    assert records[1].comparability.differences(records[2].comparability) == []


def test_later_recipes_use_the_baseline_on_disk(tmp_path):
    run_plan(plan_for(tmp_path, "w4a16"), FakeBackend())
    backend = FakeBackend()
    plan = plan_for(tmp_path, "w4a16", "w3a16")
    run_plan(plan, backend)
    assert "quantize none" not in backend.calls
    record = load_record(record_path(plan.folder.path, plan.cells[-1].spec))
    assert record.measurements[0].against_baseline is not None


@pytest.mark.parametrize(
    ("place", "error", "code"),
    [
        (("quantize", "w4a16-g128-asym"), NotApplicableError("no"), "not_applicable"),
        (("quantize", "w4a16-g128-asym"), QuantizationMismatchError("skipped"), "quantization_mismatch"),
        (("score", "w4a16-g128-asym retrieval"), RuntimeError("CUDA out of memory. Tried"), "out_of_memory"),
        (("score", "w4a16-g128-asym retrieval"), MemoryError(), "out_of_memory"),
        (("score", "w4a16-g128-asym retrieval"), ZeroDivisionError("x"), "unexpected"),
    ],
    ids=["cannot", "mismatch", "cuda memory", "host memory", "bug"],
)
def test_a_failing_cell_is_recorded_and_the_sweep_goes_on(tmp_path, place, error, code):
    summary = run_plan(plan_for(tmp_path), FakeBackend(fail={place: error}))
    assert summary == Summary(ok=2, failed=1, skipped=0)
    plan = plan_for(tmp_path)
    assert states(plan) == [("none", "done"), ("w4a16-g128-asym", "failed"), ("w3a16-g128-asym", "done")]
    record = load_record(record_path(plan.folder.path, plan.cells[1].spec))
    assert record.error is not None
    assert (record.error.code, record.measurements) == (code, [])


def test_failed_cells_run_again_only_when_asked(tmp_path):
    run_plan(plan_for(tmp_path), FakeBackend(fail={("quantize", "w4a16-g128-asym"): RuntimeError("x")}))
    assert plan_for(tmp_path).todo == []
    assert run_plan(plan_for(tmp_path, retry_failed=True), FakeBackend()) == Summary(ok=1, failed=0, skipped=2)


def test_a_task_without_data_costs_its_own_cells(tmp_path):
    backend = FakeBackend(fail={("prepare", "mmlu"): OSError("offline")})
    assert run_plan(plan_for(tmp_path, "w4a16", tasks=("mmlu", "retrieval")), backend) == Summary(ok=2, failed=2, skipped=0)


def test_interruption_leaves_whole_records_and_the_rest_is_resumed(tmp_path):
    backend = FakeBackend(fail={("score", "w4a16-g128-asym retrieval"): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan_for(tmp_path), backend)
    assert backend.calls[-1] == "restore"
    assert states(plan_for(tmp_path)) == [("none", "done"), ("w4a16-g128-asym", "todo"), ("w3a16-g128-asym", "todo")]
    assert run_plan(plan_for(tmp_path), FakeBackend()) == Summary(ok=2, failed=0, skipped=1)


@pytest.mark.parametrize("moment", ["score", "fsync"], ids=["while scoring", "while writing"])
def test_kill_leaves_whole_records_and_the_rest_is_resumed(tmp_path, moment):
    script = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
import fake_sweep as t
from measure.runner import run_plan
def die(*arguments): os.kill(os.getpid(), signal.SIGKILL)
backend, n = t.FakeBackend(), 0
if {moment!r} == "score":
    score = backend.score
    backend.score = lambda task: die() if backend.recipe != "none" else score(task)
else:
    sync = os.fsync
    def second(fd):
        global n
        n += 1
        return die() if n == 2 else sync(fd)
    os.fsync = second
run_plan(t.plan_for({str(tmp_path)!r}), backend)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    folder = read_folder(tmp_path / "runs")
    assert (len(folder.records), folder.unreadable) == (1, {})
    assert run_plan(plan_for(tmp_path), FakeBackend()) == Summary(ok=2, failed=0, skipped=1)


def test_leftovers_of_a_killed_run_are_removed_when_old(tmp_path):
    (tmp_path / ".x.json.123.part").write_text("{")
    assert remove_leftovers(tmp_path) == 0
    assert remove_leftovers(tmp_path, now=2e10) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_sweep_without_a_broken_record(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        run_plan(plan_for(tmp_path), FakeBackend())
    assert list((tmp_path / "runs").iterdir()) == []


def test_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        run_plan(plan_for(tmp_path), FakeBackend())


def test_files_that_are_no_records_stay_and_are_listed(tmp_path):
    run_plan(plan_for(tmp_path, "w4a16"), FakeBackend())
    (tmp_path / "runs" / "notes.json").write_text("{}")
    folder = read_folder(tmp_path / "runs")
    assert len(folder.records) == 2
    assert list(folder.unreadable) == ["notes.json"]


def test_recurrent_models_have_no_cache_to_quantize(tmp_path):
    plan = plan_for(tmp_path, "kv4")
    recurrent = ModelSource(
        name="m",
        path=tmp_path,
        config={"model_type": "mamba"},
        fingerprint="f",
        weight_files=plan.source.weight_files,
        weight_bytes=64,
    )
    found = make_plan(
        recurrent,
        expand_recipes(["kv4", "nf4"]),
        plan_tasks(["retrieval"], TaskOptions()),
        settings=Settings(),
        output=tmp_path,
    )
    assert states(found) == [("none", "todo"), ("w16a16-kv4", "not_applicable"), ("nf4", "todo")]
    assert found.cells[1].reason == "mamba has no KV cache"
