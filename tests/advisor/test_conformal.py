import numpy as np
import pytest

from advisor.conformal import N_CELLS, SHAPE, Places, cell_name, cells, conformalize, none, quantile, widen
from advisor.features import encode


def cell(w=16, a=16, kv=16):
    return int(cells(encode({"w_bits": [w], "a_bits": [a], "kv_bits": [kv]}))[0])


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        ((16, 16, 16), "not quantized"),
        ((8, 16, 16), "weights <16 bits"),
        ((4, 8, 16), "weights <4.5 bits, activations <16 bits"),
        ((16, 16, 4), "KV cache <7 bits"),
        ((2, 4, 2), "weights <2.5 bits, activations <7 bits, KV cache <2.5 bits"),
    ],
)
def test_cells_have_names(bits, name):
    assert cell_name(cell(*bits)) == name


def test_every_cell_has_a_name_of_its_own():
    assert len({cell_name(c) for c in range(N_CELLS)}) == N_CELLS


def places(cell, group=None):
    group = np.zeros(len(cell), dtype=int) if group is None else group
    return Places(cell=cell, group=group, n_groups=int(group.max(initial=0)) + 1)


def make_scores(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    number = rng.choice([cell(8), cell(4), cell(3), cell(4, 8)], n)
    spread = np.select([number == cell(8), number == cell(3)], [0.01, 0.2], 0.05)
    loss = spread * rng.standard_normal(n) + spread
    models = np.array([f"m{i}" for i in rng.integers(0, 40, n)], dtype=object)
    return loss, spread, number, models


def test_coverage_holds_in_every_cell_on_new_figures():
    loss, spread, number, models = make_scores()
    raw = 0.5 * spread, 1.5 * spread  # half a standard deviation either way: too narrow
    correction = conformalize(loss, *raw, places(number), np.ones(len(loss)), models, 0.9)
    new, spread, number, _ = make_scores(seed=1)
    lower, upper = widen(0.5 * spread, 1.5 * spread, places(number), correction)
    for c in np.unique(number):
        inside = (new >= lower) & (new <= upper)
        assert inside[number == c].mean() >= 0.87, cell_name(int(c))


def test_counts_say_how_many_figures_a_cell_had():
    loss, spread, number, models = make_scores(n=500)
    correction = conformalize(loss, spread, spread, places(number), np.ones(500), models, 0.9)
    assert correction.count.sum() == 500
    assert correction.count[cell(2, 4, 2)] == 0


def test_small_cells_are_not_narrower_than_their_kind():
    loss, _, number, models = make_scores()
    few = np.flatnonzero(number == cell(3))[30:]
    keep = np.setdiff1d(np.arange(len(loss)), few)
    zero, ones = np.zeros(len(keep)), np.ones(len(keep))
    part = conformalize(loss[keep], zero, zero, places(number[keep]), ones, models[keep], 0.9)
    together = conformalize(loss[keep], zero, zero, places(np.full(len(keep), cell(4))), ones, models[keep], 0.9)
    assert part.upper[cell(3)] >= min(part.upper[cell(4)], together.upper[cell(4)])


@pytest.mark.parametrize("seed", range(5))
def test_corrections_are_monotone_over_the_order_of_cells(seed):
    rng = np.random.default_rng(seed)
    n = 300
    number = rng.choice(rng.permutation(N_CELLS)[:12], n)
    models = np.array([f"m{i}" for i in rng.integers(0, 9, n)], dtype=object)
    found = conformalize(rng.standard_normal(n), np.zeros(n), np.zeros(n), places(number), np.ones(n), models, 0.9)
    upper, lower = found.upper.reshape(SHAPE), found.lower.reshape(SHAPE)
    for axis in range(3):
        assert (np.diff(upper, axis=axis) >= 0).all()
        assert (np.diff(lower, axis=axis) <= 0).all()
    assert np.isfinite(found.upper).all()
    assert np.isfinite(found.lower).all()


@pytest.mark.parametrize(
    ("n", "share", "expected"), [(100, 0.5, 50), (100, 0.9, 90), (19, 0.95, 18), (10, 0.95, 9), (1, 0.95, 0)]
)
def test_quantile_is_corrected_for_few_figures(n, share, expected):
    assert quantile(np.arange(float(n)), np.ones(n), share) == expected


def test_quantile_follows_the_weights():
    assert quantile(np.arange(10.0), np.array([0.0] * 8 + [1.0, 1.0]), 0.4) == 8


def test_groups_of_tasks_are_corrected_on_top():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 4000)
    loss = (1 + 3 * group) * rng.standard_normal(4000)
    models = np.array([f"m{i}" for i in rng.integers(0, 20, 4000)], dtype=object)
    here = places(np.full(4000, cell(4)), group)
    correction = conformalize(loss, np.zeros(4000), np.zeros(4000), here, np.ones(4000), models, 0.9)
    lower, upper = widen(np.zeros(4000), np.zeros(4000), here, correction)
    for g in (0, 1):
        assert ((loss >= lower) & (loss <= upper))[group == g].mean() == pytest.approx(0.9, abs=0.01)


def of_one_cell(n, seed=0):
    """Raw bounds at many heights, and losses whose spread grows with the height."""
    rng = np.random.default_rng(seed)
    height = rng.uniform(0, 4, n)
    loss = height + (0.1 + 0.4 * height) * rng.standard_normal(n)
    return height, loss, np.array([f"m{i}" for i in rng.integers(0, 20, n)], dtype=object)


def test_low_bounds_and_high_ones_are_corrected_apart():
    height, loss, models = of_one_cell(6000)
    here, ones = places(np.full(6000, cell(4))), np.ones(6000)
    correction = conformalize(loss, height, height, here, ones, models, 0.9)
    height, loss, _ = of_one_cell(6000, seed=1)
    lower, upper = widen(height, height, here, correction)
    inside = (loss >= lower) & (loss <= upper)
    for low in (0.3, 1, 2, 3):
        assert inside[(height >= low) & (height < low + 1)].mean() == pytest.approx(0.9, abs=0.04), low
    widths = (upper - lower)[np.argsort(height)]
    assert widths[-1] > 4 * widths[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_higher_raw_bound_never_becomes_a_lower_one(seed):
    rng = np.random.default_rng(seed)
    raw, loss = np.round(rng.standard_normal(900), 1), rng.standard_normal(900)
    models = np.array([f"m{i}" for i in rng.integers(0, 9, 900)], dtype=object)
    correction = conformalize(loss, raw, raw, places(np.full(900, cell(4))), np.ones(900), models, 0.9)
    asked = np.linspace(-9, 9, 500)
    for bound in widen(asked, asked, places(np.full(500, cell(4))), correction):
        assert (np.diff(bound) >= -1e-12).all()


def test_no_correction_changes_nothing():
    raw, here = np.linspace(-3, 3, 50), places(np.full(50, cell(3)))
    for bound in widen(raw, raw, here, none(here.n_groups)):
        np.testing.assert_array_equal(bound, raw)
