import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from advisor import backtest, baselines, fit, training
from advisor.backtest import MEDIANS, OURS, SPLITS, run_backtest
from advisor.baselines import BASELINES, PEER_CONSTANTS
from advisor.law_fit import make_design
from advisor.regret import BUDGETS, find_choices, merge_cells, regret
from advisor.scores import calibration, coverage, make_pairs, pair_order, weighted_mean

FAMILIES = ("gemma", "mistral", "opt", "yi")
NOT_FITTED = "peers' constants"


@pytest.fixture(scope="module")
def data():
    """The evidence of four families, thinned."""
    full = training.load_training_set()
    rows = np.concatenate([np.flatnonzero(full.names("family") == name)[:100] for name in FAMILIES])
    return training.make_training_set({name: values[rows] for name, values in full.columns.items()})


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Fits that stop early: what is tested here is who sees what, not how good it gets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "_STAGES", 2)
        patch.setattr(fit, "STEPS", 10)
        patch.setattr(backtest, "BOUND_FOLDS", 2)
        patch.setattr(baselines, "_forest", partial(baselines._forest, max_iter=2))
        yield


@pytest.fixture(scope="module")
def report(data):
    return run_backtest(data)


def altered(data, rows):
    """The same evidence with other losses in some rows."""
    return replace(data, loss=np.where(rows, 0.9 - data.loss, data.loss))


def test_every_forecast_is_scored_on_every_split(data, report):
    assert {(score.split, score.forecast) for score in report.scores} == {(s, f) for s in SPLITS for f in (OURS, *BASELINES)}
    assert len(report.scores) == len(SPLITS) * (1 + len(BASELINES))
    assert report.rows == (data.score_weights > 0).sum()
    assert report.models == len(set(data.names("model").tolist()))
    assert MEDIANS in BASELINES


@pytest.mark.parametrize("field", ["error", "error_usable", "nats", "nats_all", "order", "order_usable", "order_significant"])
def test_figures_lie_in_their_intervals(report, field):
    for score in report.scores:
        figure = getattr(score, field)
        assert 0 <= figure.low <= figure.value <= figure.high, (score.split, score.forecast)


def test_shares_of_pairs_are_shares(report):
    assert all(score.order.high <= 1 for score in report.scores)
    assert all(entry.share.high <= 1 and entry.width >= 0 for split in report.coverage.values() for entry in split)


@pytest.mark.parametrize("split", SPLITS)
def test_paired_differences_are_those_of_the_errors(report, split):
    ours = report.score(split, OURS)
    assert (ours.against_ours.low, ours.against_ours.value, ours.against_ours.high) == (0, 0, 0)
    for name in BASELINES:
        other = report.score(split, name)
        assert other.against_ours.value == pytest.approx(other.error.value - ours.error.value)
        assert other.against_ours.low <= other.against_ours.value <= other.against_ours.high


def test_what_is_not_fitted_is_equally_wrong_on_every_split(report):
    assert len({report.score(split, NOT_FITTED).error.value for split in SPLITS}) == 1


def test_coverage_is_reported_over_all_rows_first(report):
    assert set(report.coverage) == set(SPLITS)
    assert set(report.coverage_untuned) == {"models", "families"}
    for split in (*report.coverage.values(), *report.coverage_untuned.values()):
        assert split[0].group == "all"
        assert split[0].rows == max(entry.rows for entry in split if entry.group != "loss: delta_nll")


def test_the_report_is_plain_json(report):
    shown = json.loads(json.dumps(report.as_dict()))
    assert shown["rows"] == report.rows
    assert {score["forecast"] for score in shown["scores"]} == {OURS, *BASELINES}


@pytest.mark.parametrize(("split", "column"), [("models", "model"), ("families", "family")])
def test_folds_leave_out_the_whole_of_it(data, split, column):
    folds, _ = fit.novelty_folds(data)[split]
    names = data.names(column)
    assert all(len(set(folds[names == name].tolist())) == 1 for name in set(names.tolist()))


def test_every_family_is_left_out_alone(data):
    folds, _ = fit.novelty_folds(data)["families"]
    assert len(set(folds.tolist())) == len(FAMILIES)


@pytest.mark.parametrize("family", ["gemma", "opt"])
def test_forecasts_of_a_family_do_not_depend_on_its_losses(data, family):
    (folds, novelty), design = fit.novelty_folds(data)["families"], make_design(data.features, data.names("source"))
    mine = data.names("family") == family
    before, after = (fit.left_out(used, design, folds, novelty).point for used in (data, altered(data, mine)))
    np.testing.assert_array_equal(before[mine], after[mine])
    assert (before[~mine] != after[~mine]).any()


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_do_not_see_what_they_forecast(data, name):
    mine = data.names("family") == "opt"
    train, test = np.flatnonzero(~mine), np.flatnonzero(mine)
    before, after = (BASELINES[name](used, train, test) for used in (data, altered(data, mine)))
    np.testing.assert_array_equal(before, after)
    assert np.isfinite(before).all()


def test_constants_are_those_of_the_weight_bits(data):
    rows = np.flatnonzero(data.features.numbers["w_bits"] == 4)[:5]
    assert BASELINES[NOT_FITTED](data, rows, rows).tolist() == [PEER_CONSTANTS[4]] * 5


def test_bounds_of_the_report_enclose_the_forecast(data):
    views = tuple(fit.left_out_views(data, make_design(data.features, data.names("source"))).values())
    for bounds, view in zip(backtest._bounds(data, views), views, strict=True):
        assert ((bounds.lower <= view.point) & (view.point <= bounds.upper)).all()


@pytest.fixture
def measured():
    """Ten model x task cells with six recipes each, whose losses fall with their size, but not strictly."""
    rng = np.random.default_rng(5)
    bits = np.tile([2.0, 3.0, 4.0, 5.0, 8.0, 12.0], 10)
    loss = np.round(0.5 * 2.0 ** (2 - bits) + rng.normal(0, 0.03, 60), 4)
    groups, models = np.repeat(np.arange(10), 6), np.repeat([f"model-{i % 3}" for i in range(10)], 6).astype(object)
    return find_choices(groups, bits, models), loss, np.full(60, 0.01)


def test_a_perfect_forecast_regrets_nothing_but_noise(measured):
    choices, loss, error = measured
    found = regret(choices, loss, error, loss, np.zeros(60))
    assert (found.forecast.low, found.forecast.value, found.forecast.high) == (0, 0, 0)
    assert found.perfect.value > 0
    assert found.excess.value == pytest.approx(-found.perfect.value)


@pytest.mark.parametrize("seed", range(5))
def test_no_forecast_regrets_less_than_a_perfect_one(measured, seed):
    choices, loss, error = measured
    guess = np.random.default_rng(seed).normal(size=60)
    found = regret(choices, loss, error, guess, guess)
    assert found.forecast.value > 0
    assert found.forecast.low <= found.forecast.value <= found.forecast.high
    assert found.highest_bits.value >= 0
    assert found.four_bit.value >= 0
    assert found.excess.value == pytest.approx(found.forecast.value - found.perfect.value)


def test_choices_fit_their_budget_and_are_in_order_of_size(measured):
    bits = np.tile([2.0, 3.0, 4.0, 5.0, 8.0, 12.0], 10)
    choices, _, _ = measured
    assert len(choices) == 10 * len(BUDGETS)
    for choice, budget in zip(choices, BUDGETS * 10, strict=True):
        assert (bits[choice.rows] <= budget * 16).all()
        assert (np.diff(bits[choice.rows]) < 0).all()


def test_a_cell_with_few_recipes_is_no_choice():
    assert find_choices(np.zeros(3, dtype=np.intp), np.array([2.0, 3.0, 4.0]), np.array(["m"] * 3, dtype=object)) == ()


def test_pair_order_of_right_wrong_and_undecided_forecasts():
    loss, groups = np.array([0.0, 0.1, 0.2, 0.205, 0.9]), np.array([0, 0, 0, 0, 1])
    pairs = make_pairs(groups, loss, np.ones(5, dtype=bool), np.array(["m"] * 5, dtype=object))
    every = np.ones(len(pairs.first), dtype=bool)
    assert len(every) == 5  # the pair 0.2, 0.205 is a tie, the last row has no partner
    assert [pair_order(pairs, loss, forecast, every).value for forecast in (loss, -loss, 0 * loss)] == [1, 0, 0.5]


def test_coverage_counts_what_lies_within():
    loss = np.array([0.1, 0.2, 0.3, 0.4])
    names = np.array(["a", "a", "b", "b"], dtype=object)
    found = coverage(
        "all",
        np.arange(4),
        loss,
        loss - 0.1,
        np.array([0.2, 0.3, 0.4, 0.39]),
        np.ones(4),
        names,
        is_nll=np.zeros(4, dtype=bool),
    )
    assert (found.share.value, found.rows, found.models, found.judged) == (0.75, 4, 2, False)
    assert found.width == pytest.approx(0.1725)


def test_contexts_and_languages_are_averaged_over_those_that_recipes_share():
    """Recipe 3 was measured in one of two cells, recipe 4 in one that no other has: neither is compared."""
    groups = np.array([0, 0, 0, 0, 0, 0, 1])
    cells = np.array([0, 1, 0, 1, 0, 2, 0])
    recipes = np.array([1, 1, 2, 2, 3, 4, 5])
    found = merge_cells(groups, cells, recipes)
    assert [rows.tolist() for rows in found] == [[0], [2], [4], [6]]
    found = merge_cells(groups[[0, 1, 2, 3, 5]], cells[[0, 1, 2, 3, 5]], recipes[[0, 1, 2, 3, 5]])
    assert [rows.tolist() for rows in found] == [[0, 1], [2, 3]]


def test_choices_are_no_more_when_contexts_are_averaged(report):
    assert 0 < report.regret.choices <= report.regret_by_cell.choices


def test_floors_and_errors_by_bits_are_of_the_scored_figures(data, report):
    scored = int(((data.score_weights > 0) & ~data.features.is_nll).sum())
    assert sum(entry.rows for entry in report.by_bits if entry.forecast == OURS) == scored
    assert all(0 < floor.rows <= scored and 0 <= floor.weight <= 1 for floor in report.floors)


def test_bins_of_a_calibration_hold_all_figures_in_order(report, data):
    for bins in report.calibration.values():
        assert sum(entry.rows for entry in bins) == ((data.score_weights > 0) & ~data.features.is_nll).sum()
        assert [entry.predicted for entry in bins] == sorted(entry.predicted for entry in bins)
        assert all(entry.lower <= entry.predicted <= entry.upper and 0 <= entry.inside <= 1 for entry in bins)


def test_a_bin_counts_what_lies_within_its_own_bounds():
    loss = np.linspace(0, 1, 24)
    bins = calibration(loss, loss, loss - 0.1, loss + np.where(loss > 0.5, -0.05, 0.1), np.ones(24))
    assert [entry.inside for entry in bins] == [1.0] * 6 + [0.0] * 6
    assert [entry.rows for entry in bins] == [2] * 12


def test_the_mean_of_nothing_is_not_a_number():
    nothing = weighted_mean(np.zeros(0), np.zeros(0), np.zeros(0, dtype=object))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
