"""The honest error of the predictor: figures it has not seen, forecast by it and by the baselines, in one run.

Left out are single cells, models (in 16 groups), families, and sources. Scored are rows whose baseline lies more than 10
points above chance, without AdvGLUE and suspect rows; every (source, model) weighs the root of its number of rows.
Bounds and their corrections come from other models than those they are judged on. Intervals resample models.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import conformal, training
from advisor.baselines import BASELINES, untuned_quantile
from advisor.features import DELTA_NLL, RELATIVE, Features, Floats
from advisor.fit import (
    BOUND_FOLDS,
    LEVEL,
    SPLITS,
    LeftOut,
    corrections,
    left_out_bounds,
    left_out_views,
    novelty_folds,
    training_places,
)
from advisor.law_fit import make_design
from advisor.noise_floor import Floor, noise_floors
from advisor.pool import expected_loss
from advisor.predictor import on_losses
from advisor.regret import Regret, find_choices, known_error, merge_cells, regret
from advisor.scale import stretch
from advisor.scores import Bin, Coverage, Interval, Pairs, calibration, coverage, make_pairs, pair_order, weighted_mean
from advisor.training import TrainingSet
from knowledge.schemes import parse_scheme

Ints = NDArray[np.intp]

OURS = "qadvisor"
MEDIANS = "medians by bits, method, task type"
_TWO_ERRORS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One forecast on one split."""

    split: str
    forecast: str
    error: Interval
    """Mean absolute error of the share of above-chance performance lost."""
    error_usable: Interval
    """The same where weights have at least 4 bits, activations 8, KV cache 4."""
    nats: Interval
    """Mean absolute error of perplexity rises, in nats, where the measured rise is at most 1."""
    nats_all: Interval
    """The same over all perplexities, collapsed models included."""
    order: Interval
    order_usable: Interval
    order_significant: Interval
    """Pairs that differ by more than two standard errors of the difference."""
    against_ours: Interval
    """Its error minus ours, row by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsError:
    """The error of one forecast at some weight bits, over scores."""

    bits: str
    forecast: str
    rows: int
    error: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestReport:
    """All scores of one run."""

    rows: int
    models: int
    scores: tuple[Score, ...]
    coverage: Mapping[str, tuple[Coverage, ...]]
    """By split, the first entry over all rows."""
    coverage_untuned: Mapping[str, tuple[Coverage, ...]]
    """The untuned forest's quantiles, conformalized the same way."""
    regret: Regret
    """Choices for each model and task by the mean of our forecast, contexts and languages averaged."""
    regret_by_cell: Regret
    """Choices for each context and language of a task apart."""
    floors: tuple[Floor, ...]
    """Errors of forecasts that know more than any real one can, of shares lost."""
    floors_nats: tuple[Floor, ...]
    """The same for perplexities, collapsed models included, in nats."""
    by_bits: tuple[BitsError, ...]
    """Errors by weight bits, with models left out."""
    calibration: Mapping[str, tuple[Bin, ...]]
    """By split: predicted and measured losses, from the smallest prediction to the largest."""

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return asdict(self)

    def score(self, split: str, forecast: str) -> Score:
        """The scores of one forecast on one split."""
        return next(score for score in self.scores if score.split == split and score.forecast == forecast)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bounds of every row, on the scale of losses."""

    lower: Floats
    upper: Floats


def run_backtest(data: TrainingSet | None = None, *, progress: Callable[[str], None] = lambda _: None) -> BacktestReport:
    """Leave figures out, forecast them, and score the forecasts.

    Args:
        data: the evidence; default: what is published.
        progress: told what happens next.
    """
    data = data or training.load_training_set()
    design = make_design(data.features, data.names("source"))
    folds = {split: of_rows for split, (of_rows, _) in novelty_folds(data).items()}
    views = left_out_views(data, design, progress=progress)
    progress("bounds")
    ours = dict(zip(views, _bounds(data, tuple(views.values())), strict=True))
    points = {split: {OURS: view.point} for split, view in views.items()}
    for split in SPLITS:
        for name, baseline in BASELINES.items():
            progress(f"{name}, {split} left out")
            points[split][name] = _left_out_baseline(data, folds[split], baseline)
    untuned = {}
    for split in SPLITS[1:3]:
        progress(f"bounds of the untuned forest, {split} left out")
        untuned[split] = _untuned_bounds(data, folds[split])
    progress("scores")
    return _report(data, points, ours, untuned)


def left_out_forecast(data: TrainingSet, split: str) -> tuple[Floats, Floats]:
    """Point and upper bound of every row, forecast without what `split` leaves out."""
    views = left_out_views(data, make_design(data.features, data.names("source")))
    bounds = dict(zip(views, _bounds(data, tuple(views.values())), strict=True))
    return views[split].point, bounds[split].upper


def _left_out_baseline(data: TrainingSet, folds: Ints, baseline: Callable[[TrainingSet, Ints, Ints], Floats]) -> Floats:
    out = np.zeros(len(data))
    for fold in np.unique(folds):
        test = np.flatnonzero(folds == fold)
        out[test] = baseline(data, np.flatnonzero(folds != fold), test)
    return out


def _bounds(data: TrainingSet, views: tuple[LeftOut, ...]) -> tuple[Bounds, ...]:
    """Corrected bounds of every view; a group of models is corrected on the other groups."""
    groups = training.folds_of_models(data.names("model"), BOUND_FOLDS)
    raw = left_out_bounds(data, views, groups)
    noise, places = data.tasks.noise(data.features), training_places(data)
    is_nll = data.features.is_nll
    out = tuple(Bounds(lower=np.zeros(len(data)), upper=np.zeros(len(data))) for _ in views)
    for group in np.unique(groups):
        found = corrections(data, views, raw, np.flatnonzero(groups != group))
        for view, inner, outer in zip(views, raw, out, strict=True):
            for (loss, novelty), correction in found.items():
                rows = np.flatnonzero((groups == group) & (is_nll == (loss == DELTA_NLL)) & (view.novelty == novelty))
                low, high = conformal.widen(inner.lower[rows], inner.upper[rows], places.take(rows), correction)
                outer.lower[rows], outer.upper[rows] = low, high
    return tuple(_within(bounds, noise, data.features, view.point) for bounds, view in zip(out, views, strict=True))


def _within(bounds: Bounds, noise: Floats, features: Features, point: Floats) -> Bounds:
    lower, upper = on_losses(bounds.lower, bounds.upper, noise, features)
    return Bounds(lower=np.minimum(lower, point), upper=np.maximum(upper, point))


def _untuned_bounds(data: TrainingSet, folds: Ints) -> Bounds:
    """Quantiles of the untuned forest, with the correction of our own bounds."""
    raw = [_left_out_baseline(data, folds, untuned_quantile(share)) for share in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)]
    is_nll = data.features.is_nll
    noise, places, models = data.tasks.noise(data.features), training_places(data), data.names("model")
    wanted, low, high = stretch(data.loss, noise), stretch(raw[0], noise), stretch(raw[1], noise)
    lower, upper = low.copy(), high.copy()
    groups = training.folds_of_models(data.names("model"), BOUND_FOLDS)
    for group in np.unique(groups):
        for nll in (False, True):
            fit = np.flatnonzero((groups != group) & (is_nll == nll) & (data.score_weights > 0))
            rows = np.flatnonzero((groups == group) & (is_nll == nll))
            correction = conformal.conformalize(
                wanted[fit], low[fit], high[fit], places.take(fit), data.weights[fit], models[fit], LEVEL
            )
            lower[rows], upper[rows] = conformal.widen(low[rows], high[rows], places.take(rows), correction)
    return _within(Bounds(lower=lower, upper=upper), noise, data.features, (raw[0] + raw[1]) / 2)


def _report(
    data: TrainingSet, points: Mapping[str, Mapping[str, Floats]], ours: Mapping[str, Bounds], untuned: Mapping[str, Bounds]
) -> BacktestReport:
    pairs = _pairs(data)
    chosen_by = expected_loss(points["models"][OURS], ours["models"].lower, ours["models"].upper)  # as `recommend` does
    scores = tuple(
        _score(data, pairs, split, name, predicted, by_name[OURS])
        for split, by_name in points.items()
        for name, predicted in by_name.items()
    )
    return BacktestReport(
        rows=int((data.score_weights > 0).sum()),
        models=len(set(data.names("model").tolist())),
        scores=scores,
        coverage={split: _coverages(data, bounds) for split, bounds in ours.items()},
        coverage_untuned={split: _coverages(data, bounds) for split, bounds in untuned.items()},
        regret=_regret(data, chosen_by),
        regret_by_cell=_regret_by_cell(data, chosen_by),
        floors=noise_floors(data, points["models"][OURS]),
        floors_nats=noise_floors(data, points["models"][OURS], nll=True),
        by_bits=_by_bits(data, points["models"]),
        calibration={split: _calibration(data, points[split][OURS], ours[split]) for split in SPLITS[1:3]},
    )


def _score(data: TrainingSet, pairs: Pairs, split: str, name: str, predicted: Floats, ours: Floats) -> Score:
    loss, weights, models = data.loss, data.score_weights, data.names("model")
    share, usable = ~data.features.is_nll, _usable(data)
    small = data.features.is_nll & (loss <= training.NLL_CUT)
    error = np.abs(predicted - loss)

    def mean(values: Floats, rows: NDArray[np.bool_]) -> Interval:
        return weighted_mean(values[rows], weights[rows], models[rows])

    both_usable = usable[pairs.first] & usable[pairs.second]
    gap = np.abs(loss[pairs.first] - loss[pairs.second])
    error_of_gap = np.hypot(np.nan_to_num(data.loss_se[pairs.first]), np.nan_to_num(data.loss_se[pairs.second]))
    return Score(
        split=split,
        forecast=name,
        error=mean(error, share),
        error_usable=mean(error, share & usable),
        nats=mean(error, small),
        nats_all=mean(error, data.features.is_nll),
        order=pair_order(pairs, loss, predicted, np.ones(len(gap), dtype=bool)),
        order_usable=pair_order(pairs, loss, predicted, both_usable),
        order_significant=pair_order(pairs, loss, predicted, gap > _TWO_ERRORS * error_of_gap),
        against_ours=mean(error - np.abs(ours - loss), share),
    )


def _usable(data: TrainingSet) -> NDArray[np.bool_]:
    numbers = data.features.numbers
    return (numbers["w_bits"] >= 4) & (numbers["a_bits"] >= 8) & (numbers["kv_bits"] >= 4)


def _numbered(data: TrainingSet, *columns: str) -> Ints:
    """One number for each combination of values."""
    cells = [[None if value != value else value for value in data.columns[name].tolist()] for name in columns]
    numbers: dict[tuple[object, ...], int] = {}
    return np.array([numbers.setdefault(row, len(numbers)) for row in zip(*cells, strict=True)], dtype=np.intp)


_TASK = ("source", "model", "task", "metric", "shots")
_MULTILINGUAL = "mekala2025"
"""Its notes name the language of a OneRuler test."""


def _conditions(data: TrainingSet) -> Ints:
    """One number for each context, baseline and OneRuler language."""
    languages = np.where(data.names("source") == _MULTILINGUAL, data.names("note"), "").astype(object)
    return _numbered(replace(data, columns={**data.columns, "language": languages}), "context", "baseline", "language")


def _groups(data: TrainingSet) -> Ints:
    """One number for each source x model x task x condition: what recipes are compared within."""
    both = np.column_stack([_numbered(data, *_TASK), _conditions(data)])
    return np.unique(both, axis=0, return_inverse=True)[1].reshape(-1).astype(np.intp)


def _pairs(data: TrainingSet) -> Pairs:
    keep = ~data.features.is_nll & (data.score_weights > 0)
    return make_pairs(_groups(data), data.loss, keep, data.names("model"))


def _regret(data: TrainingSet, predicted: Floats) -> Regret:
    """Regret of choices for a model and task, its contexts and languages averaged."""
    keep = np.flatnonzero(~data.features.is_nll & (data.score_weights > 0))
    recipes = _numbered(data, "scheme", "method", "format")
    merged = merge_cells(_numbered(data, *_TASK)[keep], _conditions(data)[keep], recipes[keep])
    return _regret_of(data, predicted, tuple(keep[rows] for rows in merged), _numbered(data, *_TASK))


def _regret_by_cell(data: TrainingSet, predicted: Floats) -> Regret:
    keep = np.flatnonzero(~data.features.is_nll & (data.score_weights > 0))
    return _regret_of(data, predicted, tuple(keep[:, None]), _groups(data))


def _regret_of(data: TrainingSet, predicted: Floats, options: tuple[Ints, ...], groups: Ints) -> Regret:
    """Regret where each option to choose from is the mean of some rows."""
    first = np.array([rows[0] for rows in options], dtype=np.intp)
    bits = {name: parse_scheme(str(name)).bits_per_weight for name in set(data.names("scheme")[first].tolist())}
    method, w_bits = data.names("method")[first], data.features.numbers["w_bits"][first]
    four_bit = np.where(w_bits == 4, np.where(method == "awq", 2.0, np.where(method == "gptq", 1.0, 0.0)), 0.0)
    error = known_error(data.loss_se)
    bits_per_weight = np.array([bits[name] for name in data.names("scheme")[first]])
    return regret(
        find_choices(groups[first], bits_per_weight, data.names("model")[first]),
        np.array([data.loss[rows].mean() for rows in options]),
        np.array([np.sqrt(np.sum(error[rows] ** 2)) / len(rows) for rows in options]),
        np.array([predicted[rows].mean() for rows in options]),
        four_bit,
    )


_BANDS = {"2 and below": (0, 2.5), "3": (2.5, 3.5), "4": (3.5, 4.5), "5 and 6": (4.5, 7), "8": (7, 15.9), "16": (15.9, 17)}
"""Weight bits; at 16 activations or cache are quantized."""


def _by_bits(data: TrainingSet, points: Mapping[str, Floats]) -> tuple[BitsError, ...]:
    scored, bits = ~data.features.is_nll & (data.score_weights > 0), data.features.numbers["w_bits"]
    out = []
    for name, (low, high) in _BANDS.items():
        rows = np.flatnonzero(scored & (bits >= low) & (bits < high))
        weights, models = data.score_weights[rows], data.names("model")[rows]
        for forecast, point in points.items():
            error = weighted_mean(np.abs(point[rows] - data.loss[rows]), weights, models)
            out.append(BitsError(bits=name, forecast=forecast, rows=len(rows), error=error))
    return tuple(out)


def _calibration(data: TrainingSet, point: Floats, bounds: Bounds) -> tuple[Bin, ...]:
    rows = np.flatnonzero(~data.features.is_nll & (data.score_weights > 0))
    return calibration(point[rows], data.loss[rows], bounds.lower[rows], bounds.upper[rows], data.score_weights[rows])


def _coverages(data: TrainingSet, bounds: Bounds) -> tuple[Coverage, ...]:
    """Coverage over all scored rows, then by kind of loss, tensor kinds, bits, task type."""
    scored = data.score_weights > 0
    labels = {
        "loss": np.where(data.features.is_nll, DELTA_NLL, RELATIVE).astype(object),
        "tensors and bits": np.array([conformal.cell_name(int(cell)) for cell in conformal.cells(data.features)], dtype=object),
        "task type": data.names("task_type"),
    }
    arguments = (data.loss, bounds.lower, bounds.upper, data.score_weights, data.names("model"))
    out = [coverage("all", np.flatnonzero(scored & ~data.features.is_nll), *arguments, is_nll=data.features.is_nll)]
    for name, values in labels.items():
        for value in sorted(set(values[scored].tolist())):
            out.append(
                coverage(
                    f"{name}: {value}", np.flatnonzero(scored & (values == value)), *arguments, is_nll=data.features.is_nll
                )
            )
    return tuple(out)
