import json

import numpy as np
import pytest
from synthetic_evidence import make_evidence

from advisor import baselines, scores
from advisor.backtest import MEDIANS, OURS, SPLITS, run_backtest
from advisor.baselines import BASELINES
from advisor.regret import find_choices, regret


def names(*values):
    return np.array(values, dtype=object)


@pytest.mark.slow
def test_a_whole_run_on_a_known_world():
    report = run_backtest(make_evidence())
    assert {score.split for score in report.scores} == set(SPLITS)
    for split in SPLITS[:3]:
        assert report.score(split, OURS).error.value < report.score(split, MEDIANS).error.value
        assert report.score(split, MEDIANS).against_ours.value > 0
        assert 0.85 <= report.coverage[split][0].share.value <= 0.99
    json.dumps(report.as_dict())


@pytest.mark.slow
def test_published_coverage(tmp_path):
    """The statistical promise: nine of ten left-out figures within their bounds, whatever was left out."""
    from advisor.training import load_training_set

    report = run_backtest(load_training_set(home=tmp_path))
    for split in SPLITS[:3]:
        assert 0.88 <= report.coverage[split][0].share.value <= 0.92
    assert report.score("families", MEDIANS).against_ours.low > 0


@pytest.mark.parametrize(("bits", "loss"), [(16, 0), (8, 0), (6, 0.01), (5, 0.02), (4, 0.05), (3, 0.08), (2, 0.12)])
def test_constants_of_peers(bits, loss):
    assert baselines.PEER_CONSTANTS.get(bits, 0.0) == loss


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_do_not_see_what_they_are_tested_on(name):
    data = make_evidence(n_models=8)
    test, train = np.arange(0, len(data), 2), np.arange(1, len(data), 2)
    before = BASELINES[name](data, train, test)
    data.loss[test] = 5.0
    np.testing.assert_array_equal(BASELINES[name](data, train, test), before)


def test_weighted_mean_of_one_cluster_has_no_spread():
    found = scores.weighted_mean(np.array([1.0, 3.0]), np.array([3.0, 1.0]), names("a", "a"))
    assert (found.value, found.low, found.high) == (1.5, 1.5, 1.5)


def test_weighted_mean_interval_holds_the_mean_and_repeats():
    rng = np.random.default_rng(0)
    values, clusters = rng.standard_normal(300), names(*[f"m{i % 30}" for i in range(300)])
    found = scores.weighted_mean(values, np.ones(300), clusters)
    assert found.low < found.value < found.high
    assert scores.weighted_mean(values, np.ones(300), clusters) == found


def test_nothing_to_average():
    assert np.isnan(scores.weighted_mean(np.zeros(0), np.zeros(0), names()).value)


def test_pair_order_by_hand():
    loss = np.array([0.0, 0.1, 0.11, 0.5])
    pairs = scores.make_pairs(np.zeros(4, dtype=int), loss, np.ones(4, dtype=bool), names(*"aaaa"))
    assert len(pairs.first) == 5  # 0.1 and 0.11 are too close
    keep = np.ones(5, dtype=bool)
    assert scores.pair_order(pairs, loss, loss, keep).value == 1
    assert scores.pair_order(pairs, loss, -loss, keep).value == 0
    assert scores.pair_order(pairs, loss, np.zeros(4), keep).value == 0.5


def test_rows_of_different_groups_are_no_pair():
    pairs = scores.make_pairs(np.array([0, 1]), np.array([0.0, 1.0]), np.ones(2, dtype=bool), names("a", "a"))
    assert len(pairs.first) == 0


def test_coverage_by_hand():
    loss = np.array([0.0, 0.5, 1.0, 2.0])
    found = scores.coverage("g", np.arange(4), loss, np.zeros(4), np.ones(4), np.ones(4), names(*"abcd"))
    assert found.share.value == 0.75
    assert (found.width, found.rows, found.models, found.judged) == (1.0, 4, 4, False)


def choose(predicted):
    loss = np.array([0.0, 0.02, 0.05, 0.3])
    choices = find_choices(np.zeros(4, dtype=int), np.array([8.0, 4.25, 4.0, 2.0]), names(*"aaaa"))
    return regret(choices, loss, np.zeros(4), np.asarray(predicted), np.array([0, 1.0, 2.0, 0]))


def test_regret_of_the_truth_is_none():
    assert choose([0.0, 0.02, 0.05, 0.3]).forecast.value == 0


def test_regret_of_the_reverse():
    """Budgets 25, 33, 50 and 75 %: best of {4.0, 2.0}, of {4.25, 4.0, 2.0}, of all and of all; always 2 bits chosen."""
    assert choose([0.3, 0.2, 0.1, 0.0]).forecast.value == pytest.approx((0.25 + 0.28 + 0.3 + 0.3) / 4)


def test_regret_of_the_rules_of_thumb():
    found = choose([0.0, 0.02, 0.05, 0.3])
    assert found.highest_bits.value == 0
    assert found.four_bit.value == pytest.approx((0 + 0.03 + 0.05 + 0.05) / 4)
    assert found.choices == 4


def test_few_recipes_are_no_choice():
    assert find_choices(np.zeros(3, dtype=int), np.array([4.0, 3.0, 2.0]), names(*"aaa")) == ()
