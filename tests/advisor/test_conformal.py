import numpy as np
import pytest

from advisor import conformal
from advisor.conformal import N_CELLS, SHAPE, cell_name, cells, conformalize, quantile, unit, widen
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


def make_scores(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    number = rng.choice([cell(8), cell(4), cell(3), cell(4, 8)], n)
    spread = np.select([number == cell(8), number == cell(3)], [0.01, 0.2], 0.05)
    loss = spread * rng.standard_normal(n) + spread
    models = np.array([f"m{i}" for i in rng.integers(0, 40, n)], dtype=object)
    return loss, spread, number, models


def test_coverage_holds_in_every_cell_on_new_figures():
    loss, spread, number, models = make_scores()
    noise, ones = np.full(len(loss), 0.01), np.ones(len(loss))
    raw = spread - 0.5 * spread, spread + 0.5 * spread  # far too narrow
    correction = conformalize(loss, *raw, noise, number, ones, models, 0.9)
    new, spread, number, _ = make_scores(seed=1)
    lower, upper = widen(0.5 * spread, 1.5 * spread, noise, number, correction)
    for c in np.unique(number):
        inside = (new >= lower) & (new <= upper)
        assert inside[number == c].mean() >= 0.87, cell_name(int(c))


def test_counts_say_how_many_figures_a_cell_had():
    loss, spread, number, models = make_scores(n=500)
    correction = conformalize(loss, spread, spread, spread, number, np.ones(500), models, 0.9)
    assert correction.count.sum() == 500
    assert correction.count[cell(2, 4, 2)] == 0


def test_small_cells_are_not_narrower_than_their_kind():
    loss, spread, number, models = make_scores()
    few = np.flatnonzero(number == cell(3))[30:]
    keep = np.setdiff1d(np.arange(len(loss)), few)
    noise = np.full(len(loss), 0.01)
    zero = np.zeros(len(loss))
    part = conformalize(loss[keep], zero[keep], zero[keep], noise[keep], number[keep], np.ones(len(keep)), models[keep], 0.9)
    kind = conformalize(loss[keep], zero[keep], zero[keep], noise[keep], np.full(len(keep), cell(4)), np.ones(len(keep)), models[keep], 0.9)
    assert part.upper[cell(3)] >= min(part.upper[cell(4)], kind.upper[cell(4)])


@pytest.mark.parametrize("seed", range(5))
def test_corrections_are_monotone_over_the_order_of_cells(seed):
    rng = np.random.default_rng(seed)
    n = 300
    number = rng.choice(rng.permutation(N_CELLS)[:12], n)
    models = np.array([f"m{i}" for i in rng.integers(0, 9, n)], dtype=object)
    found = conformalize(rng.standard_normal(n), np.zeros(n), np.zeros(n), np.full(n, 0.1), number, np.ones(n), models, 0.9)
    upper, lower = found.upper.reshape(SHAPE), found.lower.reshape(SHAPE)
    for axis in range(3):
        assert (np.diff(upper, axis=axis) >= 0).all()
        assert (np.diff(lower, axis=axis) <= 0).all()
    assert np.isfinite(found.upper).all()
    assert np.isfinite(found.lower).all()


def test_a_bound_keeps_its_order_after_the_correction():
    losses = np.linspace(-0.5, 2, 200)
    for correction in (-2.0, 0.0, 1.0, 3.5):
        moved = losses - min(correction, 0.9 / conformal.GROWTH) * unit(losses, np.full(200, 0.02))
        assert (np.diff(moved) >= 0).all()


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.9, 90)])
def test_quantile_corrects_for_few_clusters(share, expected):
    scores = np.arange(100.0)
    each = np.array([str(i) for i in range(100)], dtype=object)
    assert quantile(scores, np.ones(100), each, share) == pytest.approx(expected, abs=1)
    ten = np.array([str(i % 10) for i in range(100)], dtype=object)
    assert quantile(scores, np.ones(100), ten, share) > quantile(scores, np.ones(100), each, share)
