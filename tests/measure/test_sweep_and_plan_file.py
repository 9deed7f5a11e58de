"""A sweep as a value and as a file: what it states, that it reads back, and when it is refused. Needs no torch."""

import json
import shutil
from pathlib import Path

import pytest
from fake_sweep import write_model
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from knowledge.errors import DataError, InvalidRequestError, QAdvisorError
from measure.cli import app
from measure.plan_file import PlanFile, load_plan, plan_file_from_json, save_plan
from measure.presets import RECIPE_LISTS, expand_recipes
from measure.sweep import RecipeRequest, SweepRequest, state_recipes, state_tasks


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, QAdvisorError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def cells(*arguments):
    document = json.loads(call("plan", *arguments, "--json"))
    return [cell for plan in document.get("plans", [document]) for cell in plan["cells"]]


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def saved(model, tmp_path):
    call(
        "plan", "--model", model, "--recipes", "w4a16,kv4", "--tasks", "retrieval,perplexity", "--save", tmp_path / "plan.json"
    )
    return tmp_path / "plan.json"


@pytest.mark.parametrize("name", RECIPE_LISTS)
def test_stated_recipes_mean_the_same_again(name):
    stated = state_recipes([name])
    assert [(recipe.name, protocol.name) for recipe, protocol in expand_recipes([name])] == [
        (request.recipe, request.protocol) for request in stated
    ]
    again = [state_recipes([request.recipe], protocol=request.protocol)[-1] for request in stated if request.recipe != "none"]
    assert again == [request for request in stated if request.recipe != "none"]


def test_suites_are_written_out_once():
    assert state_tasks(["text", "perplexity", "speed"]) == ("perplexity", "kl-divergence", "speed")


NUMBERS = st.none() | st.integers(1, 10**6)
REQUESTS = st.builds(
    SweepRequest,
    models=st.lists(st.text(), max_size=3).map(tuple),
    recipes=st.lists(st.builds(RecipeRequest, recipe=st.text(), protocol=st.text()), max_size=3).map(tuple),
    tasks=st.lists(st.text(), max_size=3).map(tuple),
    limit=NUMBERS, context=NUMBERS, shots=NUMBERS,
    text=st.none() | st.just(Path("/a/text")),
    seed=st.integers(0, 2**31),
    batch_size=st.integers(1, 64),
)  # fmt: skip


@given(REQUESTS)
def test_a_plan_file_reads_back_to_the_same_value(request):
    file = PlanFile(request=request, cells=())
    assert plan_file_from_json(file.to_json()) == file


def test_a_saved_plan_has_the_cells_of_its_options(model, saved, tmp_path, monkeypatch):
    direct = cells("--model", model, "--recipes", "w4a16,kv4", "--tasks", "retrieval,perplexity")
    monkeypatch.chdir(tmp_path.parent)
    assert cells("--plan", saved) == direct
    assert [cell["key"] for cell in json.loads(saved.read_text())["cells"]] == [cell["key"] for cell in direct]


def test_paths_in_it_are_absolute(model, tmp_path, monkeypatch):
    (tmp_path / "own.txt").write_text("Some text of my own.")
    monkeypatch.chdir(tmp_path)
    call("plan", "--model", "model", "--recipes", "kv4", "--tasks", "perplexity", "--text", "own.txt", "--save", "plan.json")
    request = load_plan(tmp_path / "plan.json").request
    assert (request.models, request.text) == ((str(model.resolve()),), (tmp_path / "own.txt").resolve())


def test_it_holds_no_leave_to_run_code_or_use_the_network(model, tmp_path):
    call("plan", "--model", model, "--online", "--trust-remote-code", "--save", tmp_path / "plan.json")
    assert not {"online", "trust", "trust_remote_code"} & set(json.loads((tmp_path / "plan.json").read_text())["request"])


def test_several_models_make_one_plan(model, tmp_path):
    other = write_model(tmp_path / "other", bytes(range(64)))
    found = cells("--model", model, "--model", other, "--recipes", "kv4", "--tasks", "retrieval")
    assert [(cell["spec"]["model"], cell["recipe"]) for cell in found] == [
        ("model", "none"), ("model", "w16a16-kv4"), ("other", "none"), ("other", "w16a16-kv4"),
    ]  # fmt: skip


def test_a_changed_model_is_found_out(model, saved):
    shutil.rmtree(model)
    write_model(model, bytes(range(64)))
    with pytest.raises(DataError, match="6 of 6 cells are not those of the plan, the first is none on retrieval"):
        call("plan", "--plan", saved)


def test_cells_that_cannot_run_are_not_listed(tmp_path):
    model = write_model(tmp_path / "mamba")
    (model / "config.json").write_text(json.dumps({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}))
    call("plan", "--model", model, "--recipes", "kv4,nf4", "--tasks", "retrieval", "--save", tmp_path / "plan.json")
    assert [cell.recipe for cell in load_plan(tmp_path / "plan.json").cells] == ["none", "nf4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "Invalid JSON"),
        (lambda text: text.replace('"seed": 0', '"sead": 0'), "request.sead"),
        (lambda text: text.replace('"seed": 0', '"seed": "many"'), "valid integer"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema version 2"),
        (lambda text: text.replace('"w4a16-g128-asym"', '"w99z"'), "w99z"),
        (lambda text: text.replace('"device": "cpu"', '"device": "tpu"'), "unknown device 'tpu'"),
    ],
    ids=["empty", "unknown field", "wrong type", "other schema", "no recipe", "no device"],
)
def test_files_that_are_no_plan(saved, change, message):
    saved.write_text(change(saved.read_text()))
    with pytest.raises(QAdvisorError, match=message):
        call("plan", "--plan", saved)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        call("run", "--plan", tmp_path / "none.json")


def test_a_plan_excludes_what_it_states(model, saved):
    with pytest.raises(InvalidRequestError, match="--model, --context and --plan exclude each other"):
        call("run", "--plan", saved, "--model", model, "--context", 64)


def test_neither_model_nor_plan():
    with pytest.raises(InvalidRequestError, match="no model"):
        call("plan")


def test_a_plan_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(QAdvisorError, match="cannot write"):
        call("plan", "--model", model, "--save", tmp_path / "file" / "plan.json")


def test_what_is_done_depends_on_the_output(saved, tmp_path):
    request = load_plan(saved).request
    plans = request.plans(tmp_path / "runs")
    assert [cell.status for plan in plans for cell in plan.cells] == ["todo"] * 6
    save_plan(tmp_path / "again.json", request, plans)
    assert load_plan(tmp_path / "again.json") == load_plan(saved)
