import numpy as np
import pytest
from synthetic_evidence import make_evidence

from advisor import fit, training
from advisor.law import PARTS
from advisor.law_fit import _Problem, fit_law, make_design
from advisor.predictor import load_predictor, to_bytes


@pytest.fixture(scope="module")
def evidence():
    return make_evidence()


@pytest.fixture(scope="module")
def fitted(evidence):
    return fit.fit_predictor(evidence, provenance=fit.provenance_of(evidence))


def rows(bits, **changes):
    fixed = {"w_bits": bits, "w_dtype": ["int"] * len(bits), "w_group": [128] * len(bits), "w_sym": [0] * len(bits)}
    task = {"task": ["mmlu"] * len(bits), "task_type": ["emergent"] * len(bits), "metric": ["acc"] * len(bits)}
    return fixed | task | {"params_b": [7.0] * len(bits)} | changes


def test_the_slope_of_the_objective_is_right(evidence):
    design = make_design(evidence.features, evidence.names("source"))
    problem = _Problem(design, evidence.loss, evidence.weights, np.arange(0, len(evidence), 3))
    rng = np.random.default_rng(0)
    theta = 0.3 * rng.standard_normal(len(problem.used))
    way = rng.standard_normal(len(theta))
    up, down = (problem.value_and_slope(theta + step * way)[0] for step in (1e-6, -1e-6))
    assert (up - down) / 2e-6 == pytest.approx(problem.value_and_slope(theta)[1] @ way, rel=1e-4)


def test_the_law_finds_what_the_figures_follow(fitted):
    found = fitted.predict(rows([8, 4, 3], method=["rtn"] * 3)).point
    np.testing.assert_allclose(found, 1 - np.exp(-np.exp([-9, -3, -1.5])), atol=0.02)


def test_methods_and_sizes_are_told_apart(fitted):
    by_method = fitted.predict(rows([3, 3], method=["gptq", "rtn"])).point
    assert by_method[0] < by_method[1] - 0.03
    by_size = fitted.predict(rows([3, 3], method=["rtn"] * 2, params_b=[70.0, 1.0])).point
    assert by_size[0] < by_size[1] - 0.03


def test_a_rebuild_is_byte_identical(evidence, fitted):
    again = fit.fit_predictor(make_evidence(), provenance=fit.provenance_of(evidence))
    assert to_bytes(again) == to_bytes(fitted)


def test_bounds_cover_new_models_of_the_same_world(fitted):
    new = make_evidence(seed=5)
    found = fitted.predict_features(new.features)
    inside = (new.loss >= found.lower) & (new.loss <= found.upper)
    assert 0.85 <= inside.mean() <= 0.99


def test_left_out_rows_are_not_seen(evidence):
    """A family whose losses are made absurd is predicted as if they were not: only its own fold leaves it out."""
    folds = training.folds_by_name(evidence.names("family"))
    design = make_design(evidence.features, evidence.names("source"))
    honest = fit.left_out(evidence, design, folds, 2)
    loss = np.where(folds == 0, 1.0, evidence.loss)
    broken = training.make_training_set({**evidence.columns, "loss": loss})
    spoiled = fit.left_out(broken, make_design(broken.features, broken.names("source")), folds, 2)
    np.testing.assert_allclose(honest.point[folds == 0], spoiled.point[folds == 0], atol=1e-6)


@pytest.mark.parametrize("n_folds", [2, 5])
def test_folds_of_models_keep_models_whole_and_balanced(evidence, n_folds):
    models = evidence.names("model")
    folds = training.folds_of_models(models, n_folds)
    assert all(len(set(folds[models == model].tolist())) == 1 for model in set(models.tolist()))
    counts = np.bincount(folds)
    assert len(counts) == n_folds
    assert counts.max() <= 1.5 * counts.min()


def test_every_source_and_model_weighs_the_root_of_its_rows(evidence):
    keys = list(zip(evidence.names("source"), evidence.names("model"), evidence.features.is_nll, strict=True))
    for key in sorted(set(keys))[:20]:
        mine = np.array([other == key for other in keys])
        assert evidence.score_weights[mine].sum() == pytest.approx(np.sqrt(mine.sum()))


def test_parts_of_the_law_have_terms(evidence):
    design = make_design(evidence.features, evidence.names("source"))
    assert set(design.matrices) == set(PARTS)


@pytest.mark.slow
def test_the_packaged_law_is_that_of_the_published_evidence(tmp_path):
    """The quick half of the rebuild: the law; `test_a_rebuild_predicts_the_same` has the bounds too."""
    data = training.load_training_set(home=tmp_path)
    law = fit.fit_final_law(data)
    np.testing.assert_allclose(
        law.damage(data.features).loss, load_predictor().law.damage(data.features).loss, rtol=1e-9, atol=1e-9
    )


@pytest.mark.slow
def test_a_rebuild_predicts_the_same(tmp_path):
    data = training.load_training_set(home=tmp_path)
    mine = fit.fit_predictor(data, provenance=fit.provenance_of(data)).predict_features(data.features)
    packaged = load_predictor().predict_features(data.features)
    for name in ("point", "lower", "upper"):
        np.testing.assert_allclose(getattr(mine, name), getattr(packaged, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_more_steps_are_a_better_fit(evidence):
    design = make_design(evidence.features, evidence.names("source"))
    errors = []
    for steps in (2, 150):
        theta = fit_law(design, evidence.loss, evidence.weights, np.arange(len(evidence)), steps=steps)
        errors.append(np.abs(design.law(theta).damage(evidence.features).loss - evidence.loss).mean())
    assert errors[1] < errors[0]
