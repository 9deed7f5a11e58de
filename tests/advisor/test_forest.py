import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.forest import Forest, from_sklearn
from knowledge.errors import DataError


def make_data(seed, n=400, width=5):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, width))
    x[rng.random(x.shape) < 0.1] = np.nan
    return x, np.nansum(x[:, :3], axis=1) + 0.3 * rng.standard_normal(n)


def fit(x, y, **settings):
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return HistGradientBoostingRegressor(
            max_iter=12, max_leaf_nodes=16, min_samples_leaf=5, early_stopping=False, **settings
        ).fit(x, y)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_equal_to_scikit_learn(seed):
    x, y = make_data(seed)
    model = fit(x, y)
    np.testing.assert_allclose(from_sklearn(model).predict(x), model.predict(x), atol=1e-12)


def test_constant_columns_take_the_short_way_to_the_same_values():
    x, y = make_data(1)
    model = fit(x, y)
    x[:, 1:] = x[0, 1:]
    np.testing.assert_allclose(from_sklearn(model).predict(x), model.predict(x), atol=1e-12)


def test_values_on_a_threshold_go_the_same_way():
    x, y = make_data(2)
    model = fit(np.round(x), y)
    forest = from_sklearn(model)
    x[: len(forest.threshold), 0] = forest.threshold[: len(x)]
    np.testing.assert_allclose(forest.predict(x), model.predict(x), atol=1e-12)


def test_arrays_round_trip():
    x, y = make_data(3)
    forest = from_sklearn(fit(x, y))
    again = Forest.from_arrays("f", forest.arrays("f"))
    np.testing.assert_array_equal(again.predict(x), forest.predict(x))


def test_many_rows_between_the_same_thresholds_get_the_values_of_each_alone():
    x, y = make_data(4)
    model = fit(x, y)
    many = np.repeat(np.round(x[:40]), 300, axis=0)[np.random.default_rng(0).permutation(12_000)]
    np.testing.assert_allclose(from_sklearn(model).predict(many), model.predict(many), atol=1e-12)


def test_rows_are_told_apart_by_more_features_than_one_number_holds():
    x, _ = make_data(5, n=2000, width=40)
    model = fit(x, np.nansum(x, axis=1))
    np.testing.assert_allclose(from_sklearn(model).predict(x), model.predict(x), atol=1e-12)


def test_a_forest_without_splits_has_one_value():
    x, _ = make_data(6)
    forest = from_sklearn(fit(x, np.ones(len(x))))
    assert forest.predict(x).tolist() == [1.0] * len(x)


def test_no_rows():
    x, y = make_data(3)
    assert from_sklearn(fit(x, y)).predict(x[:0]).shape == (0,)


def test_a_missing_array_is_refused():
    x, y = make_data(3)
    arrays = from_sklearn(fit(x, y)).arrays("f")
    del arrays["f.mask"]
    with pytest.raises(DataError, match="lacks"):
        Forest.from_arrays("f", arrays)


@pytest.mark.parametrize(
    "change", [{"f.mask": np.zeros(1, np.uint16)}, {"f.values": np.zeros((2, 3))}, {"f.values": np.zeros((1, 16))}]
)
def test_arrays_that_do_not_belong_together_are_refused(change):
    x, y = make_data(3)
    with pytest.raises(DataError, match="belong together"):
        Forest.from_arrays("f", from_sklearn(fit(x, y)).arrays("f") | change)


def test_trees_with_too_many_leaves_are_refused():
    from sklearn.ensemble import HistGradientBoostingRegressor

    x, y = make_data(3)
    with pytest.raises(DataError, match="leaves"):
        from_sklearn(HistGradientBoostingRegressor(max_iter=1, max_leaf_nodes=31, min_samples_leaf=2).fit(x, y))
