"""Fits the predictor: `python -m advisor.fit` rebuilds the packaged file from the published evidence.

1. The law is fitted with figures left out four ways: single cells, sources, models, families.
2. Forests for the lower and upper bound learn from the left-out predictions of all four, which are as wrong as real ones.
3. The forests' bounds are corrected on figures that they were not fitted on, apart for what was known of each (`NOVELTIES`).
4. The law is fitted once more, on everything.

Nothing is drawn at random but the folds, whose seed is fixed: equal evidence gives an equal predictor.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advisor import conformal, training
from advisor.conformal import Correction, Places
from advisor.features import DELTA_NLL, RELATIVE, Floats
from advisor.forest import Forest, from_sklearn, stack
from advisor.law import Damage, Law
from advisor.law_fit import Design, fit_law, make_design
from advisor.predictor import BOUND_MONOTONE, NOVELTIES, PACKAGED, Predictor, Support, bound_inputs, to_bytes
from advisor.scale import stretch
from advisor.scores import weighted_quantile
from advisor.training import SEED, TrainingSet

Ints = NDArray[np.intp]

LEVEL = 0.9
BOUND_FOLDS = 5
SPLITS = ("random cells", "models", "families", "sources")
"""What is left out together."""
STEPS = 150

_TREE = {
    "max_iter": 1, "learning_rate": 1.0, "max_leaf_nodes": 12, "min_samples_leaf": 60, "early_stopping": False,
    "random_state": 0, "max_bins": 63,
}  # fmt: skip
_STAGES = 60
_STAGE_ROWS = 8000
"""Rows drawn for each stage: quicker, and stages differ more."""
_FIRST_STEP, _LAST_STEP = 4.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The law's view of every row, from fits that left the row out."""

    point: Floats
    inputs: Floats
    """Inputs of the bounds' forests."""
    novelty: Ints
    """Place in `NOVELTIES` of each row, for the fit that left it out; -1 where nothing was left to fit."""


def left_out(data: TrainingSet, design: Design, folds: Ints, novelty: int | None) -> LeftOut:
    """Predictions of each fold by a law fitted on the others.

    Args:
        data: the evidence.
        design: of all of it.
        folds: fold of each row; rows below 0 are in every fit and left out of none.
        novelty: what leaving out a fold makes of its rows; None: find out row by row.
    """
    point = np.zeros(len(data))
    novelties = np.full(len(data), -1, dtype=np.intp)
    inputs = np.zeros((len(data), len(BOUND_MONOTONE)))
    for fold in np.unique(folds[folds >= 0]):
        test, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if not len(train):
            continue
        law = design.law(fit_law(design, data.loss, data.weights, train, steps=STEPS))
        damage = law.damage(data.features.take(test))
        novelties[test] = _novelty(data, train, test) if novelty is None else novelty
        point[test], inputs[test] = damage.loss, _inputs(data, test, damage, novelties[test])
    return LeftOut(point=point, inputs=inputs, novelty=novelties)


def _inputs(data: TrainingSet, rows: Ints, damage: Damage, novelty: Ints) -> Floats:
    features = data.features.take(rows)
    return bound_inputs(features, damage, data.tasks.noise(features), novelty)


def _novelty(data: TrainingSet, train: Ints, test: Ints) -> Ints:
    """Place in `NOVELTIES` of each test row of a source, given what the rows of other sources hold."""
    known = {name: set(data.names(name)[train].tolist()) for name in ("model", "family")}
    has = {name: np.array([value in known[name] for value in data.names(name)[test]], dtype=bool) for name in known}
    return np.where(has["model"], 1, np.where(has["family"], 2, 3))


def novelty_folds(data: TrainingSet) -> Mapping[str, tuple[Ints, int | None]]:
    """For each of `SPLITS` the folds, and the place in `NOVELTIES` that this makes of their rows (None: row by row)."""
    folds = (
        training.folds_of_cells(len(data)),
        training.folds_of_models(data.names("model")),
        training.folds_by_name(data.names("family")),
        training.folds_by_name(data.names("source")),
    )
    return dict(zip(SPLITS, zip(folds, (0, 2, 3, None), strict=True), strict=True))


def left_out_views(
    data: TrainingSet, design: Design, *, progress: Callable[[str], None] = lambda _: None
) -> dict[str, LeftOut]:
    """What the law says of every row without it, by what was left out together (`novelty_folds`)."""
    found = {}
    for name, (folds, novelty) in novelty_folds(data).items():
        progress(f"law, {name} left out ({len(np.unique(folds))} fits)")
        found[name] = left_out(data, design, folds, novelty)
    return found


def fit_bounds(data: TrainingSet, views: tuple[LeftOut, ...], rows: Ints) -> dict[str, Forest]:
    """The forests of both bounds for both kinds of loss, from the left-out predictions of `rows`."""
    wanted = stretch(data.loss, data.tasks.noise(data.features))
    out = {}
    for loss, mask in ((RELATIVE, ~data.features.is_nll), (DELTA_NLL, data.features.is_nll)):
        parts = [rows[mask[rows] & (view.novelty[rows] >= 0)] for view in views]
        x = np.concatenate([view.inputs[part] for view, part in zip(views, parts, strict=True)])
        y, w = wanted[np.concatenate(parts)], data.weights[np.concatenate(parts)]
        for side, share in (("lower", 0.5 - LEVEL / 2), ("upper", 0.5 + LEVEL / 2)):
            out[f"{loss}.{side}"] = quantile_forest(x, y, w, share)
    return out


def quantile_forest(x: Floats, y: Floats, weights: Floats, share: float) -> Forest:
    """A monotone forest of the `share` quantile.

    scikit-learn's monotonic constraints hold for squared error only: its quantile loss sets leaf values afterwards (3 to
    5 % of pairs violated, tried). So the pinball loss is descended here: each stage is one of its trees, fitted by squared
    error to the slope `share - [y < f]` and scaled by a step that shrinks. Every stage is monotone, so their sum is.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    x = np.where(np.isnan(x).all(axis=0), 0.0, x)  # a column that nobody filled in splits nothing
    start = weighted_quantile(y, weights, share)
    fitted, trees, steps = np.full(len(y), start), [], np.geomspace(_FIRST_STEP, _LAST_STEP, _STAGES)
    rng = np.random.default_rng(SEED)
    with threadpool_limits(1):  # two threads are no faster on so few rows, and much slower on a busy machine
        for step in steps:
            rows = rng.permutation(len(y))[:_STAGE_ROWS]
            slope = np.where(y[rows] > fitted[rows], share, share - 1)
            model = HistGradientBoostingRegressor(monotonic_cst=list(BOUND_MONOTONE), **_TREE)
            tree = from_sklearn(model.fit(x[rows], slope, sample_weight=weights[rows]))
            fitted = fitted + step * tree.predict(x)
            trees.append(tree)
    return stack(trees, steps, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBounds:
    """Bounds before the correction, on the scale of the fit, from forests that left each row out."""

    lower: Floats
    upper: Floats


def left_out_bounds(data: TrainingSet, views: tuple[LeftOut, ...], groups: Ints) -> tuple[RawBounds, ...]:
    """For each view, the bounds of each group of models from forests fitted on the other groups of all views."""
    out = tuple(RawBounds(lower=np.zeros(len(data)), upper=np.zeros(len(data))) for _ in views)
    for group in np.unique(groups):
        test = np.flatnonzero(groups == group)
        forests = fit_bounds(data, views, np.flatnonzero(groups != group))
        for view, bounds in zip(views, out, strict=True):
            for loss, mask in ((RELATIVE, ~data.features.is_nll), (DELTA_NLL, data.features.is_nll)):
                rows = test[mask[test]]
                bounds.lower[rows] = forests[f"{loss}.lower"].predict(view.inputs[rows])
                bounds.upper[rows] = forests[f"{loss}.upper"].predict(view.inputs[rows])
    return out


def corrections(
    data: TrainingSet, views: tuple[LeftOut, ...], bounds: tuple[RawBounds, ...], rows: Ints
) -> dict[tuple[str, int], Correction]:
    """The conformal correction for each kind of loss and novelty, from some rows of every view.

    A novelty without any figures takes the correction of the next one, of which less is known.
    """
    wanted, places = stretch(data.loss, data.tasks.noise(data.features)), training_places(data)
    models = data.names("model")
    out: dict[tuple[str, int], Correction] = {}
    for loss, mask in ((RELATIVE, ~data.features.is_nll & (data.score_weights > 0)), (DELTA_NLL, data.features.is_nll)):
        usable = rows[mask[rows]]
        for novelty in reversed(range(len(NOVELTIES))):
            parts = [usable[view.novelty[usable] == novelty] for view in views]
            part = np.concatenate(parts)
            if not len(part):
                out[loss, novelty] = out.get((loss, novelty + 1)) or conformal.none(places.n_groups)
                continue
            lower = np.concatenate([raw.lower[chosen] for raw, chosen in zip(bounds, parts, strict=True)])
            upper = np.concatenate([raw.upper[chosen] for raw, chosen in zip(bounds, parts, strict=True)])
            out[loss, novelty] = conformal.conformalize(
                wanted[part], lower, upper, places.take(part), data.weights[part], models[part], LEVEL
            )
    return out


def training_places(data: TrainingSet) -> Places:
    """Cell and task type of each row of evidence."""
    types = {name: i for i, name in enumerate(sorted(set(data.names("task_type").tolist()) - {""}))}
    group = np.array([types.get(name, len(types)) for name in data.names("task_type")], dtype=np.intp)
    return Places(cell=conformal.cells(data.features), group=group, n_groups=len(types))


def fit_predictor(
    data: TrainingSet, *, provenance: Mapping[str, object], progress: Callable[[str], None] = lambda _: None
) -> Predictor:
    """A predictor fitted on all of `data`."""
    design = make_design(data.features, data.names("source"))
    views = tuple(left_out_views(data, design, progress=progress).values())
    progress("bounds")
    everything = np.arange(len(data))
    bounds = left_out_bounds(data, views, training.folds_of_models(data.names("model"), BOUND_FOLDS))
    law = fit_final_law(data, design)
    return Predictor(
        law=law, bounds=fit_bounds(data, views, everything), corrections=corrections(data, views, bounds, everything),
        tasks=data.tasks, support=_support(data), level=LEVEL, provenance=provenance,
    )  # fmt: skip


def fit_final_law(data: TrainingSet, design: Design | None = None) -> Law:
    """The law on all of `data`."""
    design = design or make_design(data.features, data.names("source"))
    return design.law(fit_law(design, data.loss, data.weights, np.arange(len(data)), steps=STEPS))


def _support(data: TrainingSet) -> Support:
    numbers = data.features.numbers
    size, context = np.log(numbers["params_b"]), np.append(numbers["context"], 0.0)
    covered = np.bincount(conformal.cells(data.features), minlength=conformal.N_CELLS) > 0
    return Support(log_size=(float(np.nanmin(size)), float(np.nanmax(size))), context=float(np.nanmax(context)), cells=covered)


def provenance_of(data: TrainingSet) -> dict[str, object]:
    """What a fit was made on, without times or places: equal evidence, equal words."""
    return {
        "rows": len(data),
        "models": len(set(data.names("model").tolist())),
        "families": len(set(data.names("family").tolist())),
        "sources": len(set(data.names("source").tolist())),
    }


def main(arguments: list[str] | None = None) -> int:
    """`python -m advisor.fit [OUTPUT]`: fit on the published evidence and write the packaged file, or OUTPUT."""
    given = sys.argv[1:] if arguments is None else arguments
    output = Path(given[0]) if given else PACKAGED
    data = training.load_training_set()
    predictor = fit_predictor(data, provenance=provenance_of(data), progress=lambda text: _say(f"fit: {text}"))
    content = to_bytes(predictor)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    _say(f"fit: wrote {output} ({len(content) / 1e6:.2f} MB)")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
