import numpy as np
import pytest
from synthetic_evidence import make_columns

from advisor import fit
from advisor.source_trial import try_source
from advisor.training import load_training_set, make_training_set


def evidence(*, also=False, noise=0.0):
    """Figures of two sources; with `also` those of a third, whose losses are beside the point."""
    columns = make_columns(n_models=6)
    rows = len(columns["loss"])
    if also:
        strange = {name: values.copy() for name, values in columns.items()}
        strange["source"] = np.array(["strange"] * rows, dtype=object)
        strange["loss"] = np.clip(1 - columns["loss"], 0, 1) if noise else columns["loss"]
        columns = {name: np.concatenate([values, strange[name]]) for name, values in columns.items()}
    return make_training_set(columns)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(fit, "STEPS", 20)


def test_a_source_of_nonsense_is_seen_to_harm():
    found = list(try_source(evidence(), evidence(also=True, noise=1.0), "strange"))
    scores = [trial for trial in found if trial.kind == "score"]
    assert {trial.split for trial in scores} == {"models", "families"}
    assert all(trial.difference.low > 0 and trial.with_source > trial.without for trial in scores)


def test_only_the_named_source_joins():
    data, larger = load_training_set(), load_training_set(also="own-pocket")
    joined = larger.names("source") == "own-pocket"
    assert joined.sum() > 500
    assert len(larger) - joined.sum() == len(data)
    np.testing.assert_array_equal(larger.loss[~joined], data.loss)
    assert "own-pocket" not in set(data.names("source"))


def test_the_errors_without_are_those_of_the_backtest():
    data = evidence()
    trial = next(iter(try_source(data, evidence(also=True), "strange")))
    view = fit.left_out(data, fit.make_design(data.features, data.names("source")), *fit.novelty_folds(data)["models"])
    rows = (data.score_weights > 0) & ~data.features.is_nll
    error = np.average(np.abs(view.point - data.loss)[rows], weights=data.score_weights[rows])
    assert (trial.split, trial.without) == ("models", pytest.approx(error))
