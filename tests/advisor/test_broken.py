"""Checkpoints far below their predictions on many tasks are flagged; sensitive models and single bad tests are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_evidence import make_store, own_row

from advisor.broken import LEAST_TASKS, TAIL_POWER, TAIL_SHARE, find_broken, step_up, tail
from advisor.predictor import load_predictor
from advisor.quality import describe_quality
from advisor.reasons import cautions_of
from advisor.recommendation import study_request
from advisor.request import make_request
from knowledge.evidence import BROKEN

TASKS = ("mmlu", "hellaswag", "arc_challenge", "winogrande", "piqa")
HEALTHY = (("w4a16-g128", "gptq"), ("w8a16-g128", "rtn"), ("w8a8", "smoothquant"), ("nf4", "rtn"), ("w4a16-g128", "hqq"))
FOUR_BITS = (("w4a16-g128", "gptq"), ("w4a16-g128", "awq"), ("w4a16-g128", "hqq"), ("w4a16-g128", "rtn"), ("nf4", "rtn"))
AWQ = ("w4a16-g128", "awq")
SMALL = (0.01, 0.03, 0.02, 0.0, 0.015)


def runs(recipe, losses, model="qwen2.5-7b-instruct", **changes):
    return [own_row(model, *recipe, task, loss, **changes) for task, loss in zip(TASKS, losses, strict=False)]


def healthy():
    return [row for recipe in HEALTHY for row in runs(recipe, SMALL)]


def flagged(*rows):
    with make_store(*rows) as store:
        return find_broken(store, load_predictor())


def test_a_broken_checkpoint_among_healthy_ones_is_found() -> None:
    (flag,) = flagged(*healthy(), *runs(AWQ, (0.45, 0.5, 0.4, 0.6, 0.35)))
    assert (flag.model, flag.method) == ("qwen2.5-7b-instruct", "awq")
    assert flag.checkpoint == "qwen2.5-7b-instruct-w4a16-g128-awq"
    assert flag.reason.startswith(BROKEN)
    assert "loses 45 %" in flag.reason
    assert "5 tasks" in flag.reason


def test_a_checkpoint_that_was_flagged_before_stays_flagged() -> None:
    rows = runs(AWQ, (0.45, 0.5, 0.4, 0.6, 0.35), learnable=False, reason=f"{BROKEN}: …")
    assert len(flagged(*healthy(), *rows)) == 1


@pytest.mark.parametrize(
    "rows",
    [
        healthy(),
        [*healthy(), *runs(AWQ, (0.6, *SMALL[1:]))],
        [*healthy(), *runs(AWQ, (0.5, 0.5, 0.5))],
        [row for recipe in FOUR_BITS for row in runs(recipe, (0.4, 0.4, 0.35, 0.45, 0.4))],
        [],
    ],
    ids=["all healthy", "one bad test", "too few tasks", "a model that suffers under all of them", "nothing measured"],
)
def test_what_is_no_broken_checkpoint_is_left_alone(rows) -> None:
    assert flagged(*rows) == ()


def test_false_alarms_over_the_published_evidence_are_rare() -> None:
    """Every source's figures of one recipe and model are taken for a checkpoint of the user's."""
    with make_store() as store:
        store.connection.execute("UPDATE evidence SET own = true, checkpoint = NULL WHERE learnable")
        count = store.rows(
            "SELECT count(*) FROM (SELECT 1 FROM evidence WHERE own AND method <> 'none' AND loss_kind = 'relative' "
            f"GROUP BY source, model, scheme, method HAVING count(DISTINCT task) >= {LEAST_TASKS})"
        )[0][0]
        alarms = find_broken(store, load_predictor())
    assert count > 900
    assert len(alarms) <= 0.01 * count, [flag.reason for flag in alarms]


def test_the_published_qwen3_awq_checkpoints_are_found_and_no_other() -> None:
    """Zheng et al.'s AWQ rows in groups of 128 are worse than their own per channel (suspect, and so never learned from)."""
    with make_store() as store:
        store.connection.execute(
            "UPDATE evidence SET own = true, learnable = true WHERE source = 'zheng2025' AND model LIKE 'qwen3-8b%' "
            "AND loss_kind = 'relative' AND loss IS NOT NULL"
        )
        found = {(flag.model, flag.scheme, flag.method) for flag in find_broken(store, load_predictor())}
    assert found == {
        (model, scheme, "awq") for model in ("qwen3-8b", "qwen3-8b-base") for scheme in ("w3a16-g128", "w4a16-g128")
    }


def test_no_rows_make_no_checkpoints() -> None:
    with make_store() as store:
        assert find_broken(store, load_predictor()) == ()


def test_an_answer_warns_of_the_broken_checkpoint_and_does_not_believe_it() -> None:
    rows = runs(AWQ, (0.45, 0.5, 0.4, 0.6, 0.35), learnable=False, reason=f"{BROKEN}: loses 45 %")
    request = make_request({"model": "qwen2.5-7b-instruct", "task": "mmlu", "memory": "16GB"})
    with make_store(*rows) as store:
        study = study_request(request, store)
        index = next(
            i for i, one in enumerate(study.candidates) if one.method.name == "awq" and one.scheme_name.startswith("w4a16-g128")
        )
        cautions = cautions_of(study, index, describe_quality(study, index), ())
        assert any(BROKEN in caution for caution in cautions)
        assert study.loss[index] < 0.1
        other = next(i for i, one in enumerate(study.candidates) if one.method.name == "gptq")
        assert not any(BROKEN in caution for caution in cautions_of(study, other, describe_quality(study, other), ()))


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.01, 0.5))
def test_step_up_rejects_the_smallest_and_more_at_a_larger_share(p: list[float], share: float) -> None:
    values = np.array(p)
    rejected, more = step_up(values, share), step_up(values, min(2 * share, 1.0))
    assert not (rejected & ~more).any()
    if rejected.any() and not rejected.all():
        assert values[rejected].max() <= values[~rejected].min()
    if len(p):
        assert not step_up(values, share)[values > share].any()


def test_the_tail_falls_from_one_percent() -> None:
    assert tail(0.9) == 1
    assert tail(1.0001) == pytest.approx(TAIL_SHARE, rel=1e-3)
    assert tail(10) == pytest.approx(TAIL_SHARE * 10**-TAIL_POWER)
