"""Which job comes next: the baseline before all others of its plan, every job once, again after a lost worker."""

import tempfile
from pathlib import Path

from fake_sweep import plan_for
from hypothesis import given, settings
from hypothesis import strategies as st

from measure.schedule import ATTEMPTS, Schedule

RECIPES = ("w8a16", "w4a16", "w3a16", "kv4")


def schedule_for(folder, plans=1):
    return Schedule([plan_for(folder, *RECIPES, tasks=("retrieval", "perplexity"))] * plans)


def test_a_job_is_a_recipe_and_all_wait_for_the_baseline(tmp_path):
    schedule = schedule_for(tmp_path)
    assert (len(schedule), schedule.waiting(0)) == (5, 5)
    baseline = schedule.take(0)
    assert [(cell.spec.recipe, cell.task.name) for cell in baseline.cells] == [("none", "retrieval"), ("none", "perplexity")]
    assert schedule.take(0) is None
    schedule.finish(baseline)
    assert schedule.take(0).cells[0].spec.recipe == "w8a16-g128-asym"


def test_a_plan_does_not_wait_for_the_baseline_of_another(tmp_path):
    schedule = schedule_for(tmp_path, plans=2)
    first, second = schedule.take(0), schedule.take(1)
    schedule.finish(second)
    assert schedule.take(0) is None
    assert schedule.take(1) is not None
    assert first.cells[0].recipe.method.name == "none"


def test_a_job_is_given_up_after_some_workers(tmp_path):
    schedule = schedule_for(tmp_path)
    job = schedule.take(0)
    for _ in range(ATTEMPTS - 1):
        assert schedule.give_back(job)
        assert schedule.take(0) is job
    assert not schedule.give_back(job)
    schedule.finish(job)
    assert schedule.take(0) is not None


ACTIONS = st.lists(st.tuples(st.sampled_from(["take 0", "take 1", "end", "die"]), st.integers(0, 9)), max_size=100)


@given(ACTIONS)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_every_job_ends_once(actions):
    """Workers take, finish and die in any order; then two that live do the rest."""
    with tempfile.TemporaryDirectory() as name:
        schedule = schedule_for(Path(name), plans=2)
        held, ended, compared = [], [], {0: False, 1: False}
        for action, which in [*actions, *[("take 0", 0), ("take 1", 0), ("end", 0), ("end", 0)] * 20]:
            if action.startswith("take"):
                job = schedule.take(int(action[-1]))
                if job is not None:
                    assert compared[job.plan] or job.cells[0].recipe.method.name == "none"
                    held.append(job)
            elif held:
                job = held.pop(which % len(held))
                if action == "end" or not schedule.give_back(job):
                    schedule.finish(job)
                    compared[job.plan] |= job.cells[0].recipe.method.name == "none"
                    ended.append(job)
        assert (len(schedule), len(ended), len(set(ended))) == (0, 10, 10)
        assert all(1 <= job.attempts <= ATTEMPTS for job in ended)
