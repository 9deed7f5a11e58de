import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from measure.stats import expected_calibration_error, flip_rate, paired_bootstrap, standard_error, weighted_mean

FINITE = st.floats(-1e6, 1e6)


def test_standard_error_by_hand():
    assert standard_error([0.0, 1.0, 1.0, 0.0]) == pytest.approx(math.sqrt(1 / 3) / 2)
    assert standard_error([5.0]) is None


@given(st.lists(FINITE, min_size=2, max_size=20))
def test_equal_weights_change_nothing(values):
    weights = [2.0] * len(values)
    assert weighted_mean(values, weights) == pytest.approx(weighted_mean(values), abs=1e-6)
    assert standard_error(values, weights) == pytest.approx(standard_error(values), abs=1e-6)


def test_bootstrap_of_a_constant_shift_is_exact():
    difference = paired_bootstrap([1.0, 2.0, 3.0], [0.5, 1.5, 2.5])
    assert (difference.delta, difference.lower, difference.upper, difference.n) == (0.5, 0.5, 0.5, 3)


def test_bootstrap_is_seeded_and_covers_the_mean():
    rng = np.random.default_rng(1)
    values, before = rng.normal(0.3, 1, 400), rng.normal(0, 1, 400)
    first, second = (paired_bootstrap(values, before, seed=3) for _ in range(2))
    assert first == second
    expected = 1.96 * np.std(values - before, ddof=1) / 20
    assert first.lower is not None
    assert first.upper is not None
    assert first.upper - first.delta == pytest.approx(expected, rel=0.2)
    assert first.lower < first.delta < first.upper


def test_bootstrap_of_one_sample_has_no_interval():
    difference = paired_bootstrap([1.0], [0.0])
    assert (difference.delta, difference.lower, difference.upper) == (1.0, None, None)


@pytest.mark.parametrize("function", [paired_bootstrap, flip_rate, expected_calibration_error])
@pytest.mark.parametrize(("one", "two"), [([], []), ([1.0], [1.0, 0.0])], ids=["empty", "unequal"])
def test_unpaired_input_is_refused(function, one, two):
    with pytest.raises(ValueError, match="need"):
        function(one, two)


def test_flips_count_both_directions():
    assert flip_rate([1, 0, 1, 0], [1, 1, 0, 0]) == 0.5


def test_calibration_error_by_hand():
    assert expected_calibration_error([0.95, 0.95, 0.55, 0.55], [1, 1, 1, 0]) == pytest.approx(0.05)
    assert expected_calibration_error([1.0], [0.0]) == 1.0
