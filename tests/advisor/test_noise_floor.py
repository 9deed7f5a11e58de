"""Floors under the error: forecasts that know other sources, siblings, or the answer itself."""

import numpy as np
import pytest
from synthetic_evidence import make_columns

from advisor.noise_floor import noise_floors
from advisor.training import make_training_set


def evidence(losses, **changes):
    """One row a loss: model, source and size as given, everything else alike."""
    full = make_columns(n_models=2)
    full = full | {"note": full["note"], "format": full["format"]}
    like = np.flatnonzero(full["task"] == "mmlu")[:1].repeat(len(losses))
    columns = {name: values[like] for name, values in full.items()} | {"loss": np.array(losses)}
    return make_training_set(columns | {name: np.array(values) for name, values in changes.items()})


def names(*values):
    return np.array(values, dtype=object)


def floor_of(data, words, point=None):
    found = noise_floors(data, np.zeros(len(data)) if point is None else point)
    return next((floor for floor in found if words in floor.knows), None)


def test_another_source_is_as_wrong_as_the_two_differ():
    data = evidence([0.10, 0.14, 0.5], source=names("a", "b", "a"), model=names("m", "m", "n"))
    floor = floor_of(data, "another source")
    assert (floor.rows, floor.models) == (2, 1)
    assert floor.error.value == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("size", "family", "rows"),
    [
        ([7.0, 8.0], ("f", "f"), 2),
        ([7.0, 70.0], ("f", "f"), 0),
        ([7.0, 8.0], ("f", "g"), 0),
    ],
)
def test_siblings_are_of_one_family_and_size(size, family, rows):
    data = evidence([0.1, 0.3], model=names("m", "n"), family=names(*family), params_b=size)
    floor = floor_of(data, "same family and size")
    assert (floor.rows if floor else 0) == rows
    assert floor_of(data, "all other models").rows == 2


def test_the_answer_itself_makes_the_median_better():
    data = evidence([0.1, 0.2, 0.6], model=names("m", "n", "o"))
    others, itself = floor_of(data, "all other models"), floor_of(data, "this very figure included")
    assert others.error.value == pytest.approx((0.3 + 0.15 + 0.45) / 3)
    assert itself.error.value == pytest.approx((0.1 + 0.0 + 0.4) / 3)


def test_other_families_leave_out_the_own_one():
    data = evidence([0.1, 0.2, 0.6], model=names("m", "n", "o"), family=names("f", "f", "g"))
    others, itself = floor_of(data, "all other families"), floor_of(data, "over other families, this very figure")
    assert others.error.value == pytest.approx((0.5 + 0.4 + 0.45) / 3)
    assert itself.error.value == pytest.approx((0.25 + 0.2 + 0.4) / 3)


def test_ours_is_scored_on_the_same_rows():
    data = evidence([0.1, 0.3, 0.9], model=names("m", "n", "o"), task=names("mmlu", "mmlu", "lambada_openai"))
    floor = floor_of(data, "all other models", point=np.array([0.2, 0.2, 0.0]))
    assert floor.rows == 2
    assert floor.ours.value == pytest.approx(0.1)
    assert floor.weight == pytest.approx(2 / 3)


def test_item_noise_is_the_mean_deviation_of_a_normal():
    data = evidence([0.1, 0.3], loss_se=np.array([0.01, np.nan]))
    floor = floor_of(data, "items of the test")
    assert (floor.rows, floor.error.value) == (1, pytest.approx(0.01 * np.sqrt(2 / np.pi)))


def test_perplexities_have_floors_of_their_own():
    losses = [0.1, 0.3, 0.5, 0.5]
    data = evidence(losses, model=names("m", "n", "m", "n"), metric=names("acc", "acc", "ppl", "ppl"))
    point = np.zeros(4)
    shares, nats = noise_floors(data, point), noise_floors(data, point, nll=True)
    assert {floor.rows for floor in shares if "all other" in floor.knows} == {2}
    found = next(floor for floor in nats if "all other" in floor.knows)
    assert (found.rows, found.error.value, found.ours.value) == (2, pytest.approx(0.0), pytest.approx(0.5))


def test_what_nothing_is_known_of_is_left_out():
    assert noise_floors(evidence([0.1], loss_se=np.array([np.nan])), np.zeros(1)) == ()
