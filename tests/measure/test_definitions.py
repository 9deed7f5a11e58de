"""Tasks of the studies in the harness's form: ours are found and scored, and every name in a suite means something."""

import json

import pytest

torch = pytest.importorskip("torch")

from measure.errors import TaskDataError  # noqa: E402
from measure.tasks import KINDS, SUITES, TaskOptions, load_scorer, plan_tasks  # noqa: E402
from measure.tasks.harness import DEFINITIONS  # noqa: E402

pytestmark = pytest.mark.measure

ROWS = {
    "adv_sst2": {"sentence": "a fine film", "label": 1},
    "adv_qqp": {"question1": "who ?", "question2": "when ?", "label": 0},
    "adv_mnli": {"premise": "it rains", "hypothesis": "it is wet", "label": 0},
    "adv_mnli_mm": {"premise": "it rains", "hypothesis": "it is wet", "label": 2},
    "adv_qnli": {"question": "who ?", "sentence": "me", "label": 0},
    "adv_rte": {"sentence1": "it rains", "sentence2": "it is wet", "label": 1},
    "snli": {"premise": "it rains", "hypothesis": "it is wet", "label": 1},
}


def test_every_definition_is_in_a_suite():
    names = {path.stem for path in DEFINITIONS.glob("*.yaml")}
    assert names == set(ROWS)
    assert names <= {task for tasks in SUITES.values() for task in tasks}


@pytest.mark.parametrize(("study", "parts"), [("li2024", 5), ("jin2024", 3)])
def test_a_study_is_the_sum_of_its_parts(study, parts):
    found = [tasks for name, tasks in SUITES.items() if name.startswith(f"{study}-")]
    assert len(found) == parts
    assert tuple(task for tasks in found for task in tasks) == SUITES[study]


@pytest.mark.parametrize("name", ROWS)
def test_definitions_score_local_documents(backend_for, tmp_path, name):
    rows = [ROWS[name], ROWS[name]] + [ROWS[name] | {"label": -1}] * (
        name == "snli"
    )  # SNLI's pairs without a label are left out
    (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scorer = load_scorer(plan_tasks([name], TaskOptions(task_dir=tmp_path))[0], seed=0)
    loaded = backend_for("llama").loaded
    scorer.prepare(loaded)
    result = scorer.score(loaded)
    assert len(result.samples["id"]) == 2
    assert result.samples["acc"][0] == result.samples["acc"][1]
    assert result.task_version == f"{name}/1.0"


@pytest.mark.parametrize("name", ["snli", "adv_rte"])
def test_documents_that_are_not_here_are_asked_for(name):
    with pytest.raises(TaskDataError, match=f"the data of {name} are not here"):
        load_scorer(plan_tasks([name], TaskOptions())[0], seed=0).prepare(None)


@pytest.mark.slow
def test_every_name_in_a_suite_is_a_task():
    """Takes the harness half a minute: it reads its 14,000 definitions."""
    from lm_eval.tasks import TaskManager

    known = {*TaskManager(include_path=str(DEFINITIONS)).all_tasks, *KINDS}
    assert [task for tasks in SUITES.values() for task in tasks if task not in known] == []
