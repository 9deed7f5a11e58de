import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.pool import LEAST_OWN_SE, UNKNOWN_ITEM_SE, Z90, Cell, expected_loss, make_cell, pool, source_deviation

NO_SIBLINGS = [(), (), ()]


def cell(mean: float, sd: float) -> Cell:
    return Cell(mean=mean, variance=sd**2, rows=(0,), n=1)


def predicted(*points: float, half: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    point = np.array(points)
    return point, point - half, point + half


def test_equal_variances_meet_in_the_middle() -> None:
    half = 0.1
    pooled = pool(*predicted(0.2, half=half), whole=[cell(0.0, half / Z90)])
    assert pooled.point[0] == pytest.approx(0.1)
    assert pooled.evidence_weight[0] == pytest.approx(0.5)
    assert pooled.upper[0] - pooled.lower[0] == pytest.approx(2 * half / math.sqrt(2))


def test_without_evidence_the_prediction_stands() -> None:
    point, lower, upper = predicted(0.2, 0.3)
    pooled = pool(point, lower, upper, whole=[None, None])
    assert (pooled.point == point).all()
    assert (pooled.lower == lower).all()
    assert (pooled.upper == upper).all()
    assert not pooled.evidence_weight.any()


@given(st.floats(-0.2, 1), st.floats(0.001, 0.5), st.floats(-0.2, 1), st.floats(0.001, 0.5))
def test_the_pooled_loss_lies_between_and_is_surer_than_both(mean: float, sd: float, point: float, half: float) -> None:
    pooled = pool(*predicted(point, half=half), whole=[cell(mean, sd)])
    assert min(mean, point) - 1e-9 <= pooled.point[0] <= max(mean, point) + 1e-9
    assert pooled.upper[0] - pooled.lower[0] <= 2 * min(half, Z90 * sd) * (1 + 1e-6)


def test_evidence_for_the_parts_carries_over_to_the_whole() -> None:
    # Predicted 0.10 for the weights, 0.10 for the cache, 0.20 for both; a sure measurement says the weights cost nothing.
    whole = [cell(0.0, 1e-6), None, None]
    pooled = pool(*predicted(0.1, 0.1, 0.2), whole=whole, siblings=[(2, 0, 1)])
    assert pooled.point[2] == pytest.approx(0.1, abs=1e-4)
    assert pooled.upper[2] - pooled.lower[2] == pytest.approx(0.2 / math.sqrt(2), rel=1e-3)
    assert pooled.parts[2] == (whole[0],)
    assert pooled.evidence_weight[2] == 0


def test_a_whole_is_never_better_than_its_parts() -> None:
    # The cache alone was predicted at 0.30 and measured at 0.15; with weights the prediction was a mere 0.10.
    whole = [None, cell(0.15, 1e-6), None]
    pooled = pool(*predicted(0.02, 0.3, 0.1), whole=whole, siblings=[(2, 0, 1)])
    assert pooled.point[2] == pytest.approx(0.15)


def test_the_very_recipe_counts_before_its_parts() -> None:
    whole = [cell(0.0, 0.01), None, cell(0.5, 0.01)]
    pooled = pool(*predicted(0.1, 0.1, 0.2), whole=whole, siblings=[(2, 0, 1)])
    assert pooled.point[2] > 0.4
    assert pooled.parts[2] == ()


def test_rows_of_one_source_share_its_error() -> None:
    columns = {
        "source": np.array(["x", "x", "y"], dtype=object),
        "loss": np.array([0.0, 0.2, 0.3]),
        "loss_se": np.array([0.02, 0.02, 0.02]),
        "own": np.zeros(3, dtype=bool),
    }
    found = make_cell(columns, (4, 5, 9), floor=0.1, share=0.0)
    precision_x, precision_y = 1 / (0.02**2 / 2 + 0.01), 1 / (0.02**2 + 0.01)
    assert found.mean == pytest.approx((0.1 * precision_x + 0.3 * precision_y) / (precision_x + precision_y))
    assert found.variance == pytest.approx(1 / (precision_x + precision_y))
    assert found.rows == (4, 5, 9)


def test_unknown_item_noise_is_not_taken_for_none() -> None:
    columns = {
        "source": np.array(["x"], dtype=object),
        "loss": np.array([0.1]),
        "loss_se": np.array([math.nan]),
        "own": np.zeros(1, dtype=bool),
    }
    assert make_cell(columns, (0,), floor=0.0, share=0.0).variance == pytest.approx(UNKNOWN_ITEM_SE**2)


def rows(losses, errors, own, sources=None):
    sources = sources or [f"s{i}" for i in range(len(losses))]
    return {
        "source": np.array(sources, dtype=object), "loss": np.array(losses), "loss_se": np.array(errors),
        "own": np.array(own, dtype=bool),
    }  # fmt: skip


LOSSES, ERRORS = st.floats(-0.3, 1.2), st.floats(0.0, 0.2)
NOISE = {"floor": 0.01, "share": 0.3}


@given(LOSSES, LOSSES, ERRORS)
def test_own_figures_weigh_more_than_published_ones_of_equal_items(mine: float, theirs: float, error: float) -> None:
    found = make_cell(rows([mine, theirs], [error, error], [True, False]), (0, 1), **NOISE)
    assert abs(found.mean - mine) <= abs(found.mean - theirs) + 1e-12


@given(LOSSES, ERRORS, st.booleans())
def test_an_own_figure_is_surer_than_the_same_figure_from_elsewhere(loss: float, error: float, exact: bool) -> None:
    error = 0.0 if exact else error
    own, published = (make_cell(rows([loss], [error], [mine]), (0,), **NOISE) for mine in (True, False))
    assert own.mean == pytest.approx(published.mean, abs=1e-12)
    assert 0 < own.variance < published.variance


@given(st.lists(st.tuples(LOSSES, ERRORS), min_size=1, max_size=6), st.integers(1, 5))
def test_the_same_test_run_again_makes_own_figures_no_surer(figures: list[tuple[float, float]], times: int) -> None:
    losses, errors = (list(column) for column in zip(*figures, strict=True))
    once = make_cell(rows(losses, errors, [True] * len(losses)), (0,), **NOISE)
    again = make_cell(rows(losses * times, errors * times, [True] * len(losses) * times), (0,), **NOISE)
    assert again.mean == pytest.approx(once.mean, abs=1e-9)
    assert again.variance == pytest.approx(once.variance, rel=1e-9)
    assert once.variance >= min(max(error, LEAST_OWN_SE) for error in errors) ** 2 * (1 - 1e-9)


def test_own_figures_of_two_programs_are_one_source() -> None:
    both = make_cell(rows([0.1, 0.2], [0.01, 0.01], [True, True], ["own:measure", "own:lm-eval"]), (0, 1), **NOISE)
    assert both.mean == pytest.approx(0.15)
    assert both.variance == pytest.approx(0.01**2)


def test_source_deviation_grows_with_the_loss() -> None:
    assert source_deviation(-0.2, floor=0.01, share=0.1) == pytest.approx(0.03)


@pytest.mark.parametrize(("below", "above"), [(0.02, 0.02), (0.02, 0.3), (0.1, 0.15)])
def test_the_expected_loss_is_the_mean_of_draws_with_that_median_and_those_bounds(below: float, above: float) -> None:
    rng = np.random.default_rng(0)
    size = np.abs(rng.standard_normal(400_000)) / Z90
    draws = 0.1 + np.where(rng.random(400_000) < 0.5, -below, above) * size
    np.testing.assert_allclose(np.quantile(draws, (0.05, 0.5, 0.95)), (0.1 - below, 0.1, 0.1 + above), atol=0.003)
    point = np.array([0.1])
    assert expected_loss(point, point - below, point + above)[0] == pytest.approx(draws.mean(), abs=0.001)


def test_the_expected_loss_lies_on_the_wider_side() -> None:
    point, even, skewed = np.array([0.1]), np.array([0.2]), np.array([0.5])
    assert expected_loss(point, 2 * point - even, even)[0] == pytest.approx(0.1)
    assert expected_loss(point, 2 * point - even, skewed)[0] == pytest.approx(0.1 + 0.3 / Z90 / math.sqrt(2 * math.pi))
    assert expected_loss(point, point - 0.5, even)[0] == pytest.approx(0.1), "noise below is no gain"
