"""`measure plan | run | status` from the command line, on a tiny model."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from knowledge.errors import InvalidRequestError, QAdvisorError, UnknownNameError
from measure.cli import app

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.measure

RECIPES = "w4a16-g32,kv4,w8a8,w4a16:quip"
ARGUMENTS = ("--tasks", "perplexity,kl-divergence,arithmetic-choice", "--limit", "3", "--context", "64")


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
    if isinstance(result.exception, QAdvisorError):
        raise result.exception
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_plan_run_status_and_again(model_folder, tmp_path):
    where = ("--model", model_folder("llama"), "--recipes", RECIPES, "--output", tmp_path / "runs", *ARGUMENTS)
    planned = json.loads(call("plan", *where, "--json"))
    assert len(planned["cells"]) == 15
    assert {cell["status"] for cell in planned["cells"]} == {"todo"}

    text = call("run", *where)
    assert "12 measured, 3 failed" in text
    assert "FAILED method 'quip' cannot be run here" in text

    again = json.loads(call("run", *where, "--json"))
    assert (again["ok"], again["failed"], again["skipped"], again["records"]) == (0, 0, 15, [])
    planned = json.loads(call("plan", *where, "--json"))
    assert sorted({cell["status"] for cell in planned["cells"]}) == ["done", "failed"]
    assert all(cell["seconds"] is not None for cell in planned["cells"])

    shown = json.loads(call("status", "--output", tmp_path / "runs", "--json"))
    assert len(shown["records"]) == 15
    assert "w4a16-g32-asym" in call("status", "--output", tmp_path / "runs")
    assert "done" in call("plan", *where)


def test_records_go_to_the_home_folder(model_folder, fresh_home):
    call("run", "--model", model_folder("llama"), "--recipes", "kv8", "--tasks", "perplexity", "--limit", 2, "--context", 32)
    assert len(list((fresh_home / "runs").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--suite", "quick", "--tasks", "mmlu"), InvalidRequestError, "exclude each other"),
        (("--suite", "qick"), UnknownNameError, "did you mean quick"),
        (("--device", "tpu"), InvalidRequestError, "unknown device 'tpu'"),
        (("--dtype", "float8"), InvalidRequestError, "unknown dtype"),
        (("--batch-size", "0"), InvalidRequestError, "at least one sequence"),
        (("--protocol", "li2025"), UnknownNameError, "did you mean li2024"),
    ],
    ids=["suite and tasks", "suite", "device", "dtype", "batch", "protocol"],
)
def test_requests_that_cannot_be_understood(model_folder, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        call("plan", "--model", model_folder("llama"), "--output", tmp_path, *arguments)


@pytest.mark.parametrize("spoil", ["nan", "missing", "no tokenizer", "not causal"])
def test_models_that_cannot_be_measured(model_folder, tmp_path, spoil):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    message = {
        "nan": "norm.weight holds values that are not numbers",
        "missing": "1 weights are missing from the files",
        "no tokenizer": "cannot load model",
        "not causal": "cannot load model",
    }[spoil]
    if spoil == "nan":
        weights["model.norm.weight"][3] = float("nan")
    elif spoil == "missing":
        del weights["model.norm.weight"]
    elif spoil == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QAdvisorError, match=message):
        call("run", "--model", folder, "--recipes", "kv8", "--tasks", "perplexity", "--output", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_device_that_is_not_here(model_folder, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU; this one has one")
    with pytest.raises(InvalidRequestError, match="no cuda device here"):
        call("run", "--model", model_folder("llama"), "--device", "cuda", "--output", tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(model_folder, tmp_path, dtype):
    recipes = "li2024,w8a8:llm.int8,w4a16-g32:gptq,nf4,mxfp4,w4a16-g32-kivi2"
    where = ("--model", model_folder("mixtral"), "--recipes", recipes, "--output", tmp_path / "runs")
    found = json.loads(call("run", *where, "--dtype", dtype, "--calibration-samples", 4, *ARGUMENTS, "--json"))
    assert (found["ok"], found["failed"]) == (3 * 17, 0)
    assert "(li2024)" in call("status", "--output", tmp_path / "runs")


def test_interruption_says_how_to_go_on(model_folder, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("measure.runner.run_plan", interrupted)
    with pytest.raises(QAdvisorError, match="interrupted after 0 of 6 cells") as caught:
        call("run", "--model", model_folder("llama"), "--recipes", "kv8", "--output", tmp_path / "runs", *ARGUMENTS)
    assert caught.value.hint is not None
    assert "goes on where it was" in caught.value.hint


def test_tasks_without_data_are_left_out_when_asked(model_folder, tmp_path):
    (tmp_path / "own.yaml").write_text(
        json.dumps(
            {"task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "gone.jsonl")}}}
        )
    )
    arguments = ("--model", model_folder("llama"), "--recipes", "kv8", "--tasks", "own,retrieval", "--task-dir", tmp_path)
    planned = json.loads(call("plan", *arguments, "--output", tmp_path / "runs", "--check-data", "--json"))
    states = {(cell["task"], cell["status"]) for cell in planned["cells"]}
    assert states == {("own", "no_data"), ("retrieval", "todo")}
    assert "data of own are not here" in next(cell["reason"] for cell in planned["cells"] if cell["task"] == "own")


@pytest.mark.parametrize("suite", ["li2024", "jin2024"])
def test_plans_of_studies_say_what_they_leave_out(model_folder, tmp_path, suite):
    text = call("plan", "--model", model_folder("llama"), "--recipes", "nf4", "--suite", suite, "--output", tmp_path)
    assert f"suite {suite} leaves out:" in text
    assert "needs a judge" in " ".join(text.split())
