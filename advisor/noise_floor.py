"""What no forecast can get below: how far measured figures are from the nearest measured figures.

An error of the predictor means little alone. Beside it stand errors of forecasts that know far more than it does: the
figure of another source for the very same model, recipe and task; what the same source measured for the same recipe and
task on other models, or on models of the same family and size; and, as a bound, the median of such a cell with the answer
inside. Each is compared on the same rows with our forecast, which had to do without the model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.features import Floats
from advisor.scores import Interval, weighted_mean
from advisor.training import TrainingSet

Ints = NDArray[np.intp]

_SAME_SIZE = np.log(2.2)
_RECIPE = ("method", "scheme", "format", "task", "metric", "context", "shots", "note")
_ANY_SOURCE = ("model", "method", "w_bits", "w_dtype", "w_group", "a_bits", "kv_bits", "kv_dtype", "format", "task", "context")
"""What two sources must agree in (as in `advisor.source_noise`); names of schemes and notes are each source's own."""
_HALF_NORMAL = float(np.sqrt(2 / np.pi))
"""Mean absolute deviation of a normal variable, in standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The error of one such forecast, beside ours on the same rows."""

    knows: str
    """What it knows."""
    rows: int
    models: int
    weight: float
    """Share of all scored rows, by weight."""
    error: Interval
    """Mean absolute error of the share of above-chance performance lost, or of the rise in nats."""
    ours: Interval


def noise_floors(data: TrainingSet, point: Floats, *, nll: bool = False) -> tuple[Floor, ...]:
    """The floors under the error of shares lost, or of rises of perplexities in nats; those without any figures are left out.

    Args:
        data: the evidence.
        point: our forecasts, with models left out.
        nll: of perplexities.
    """
    scored = (data.features.is_nll == nll) & (data.score_weights > 0)
    models, families = data.names("model"), data.names("family")
    log_size = np.log(data.features.numbers["params_b"])
    by_source = _cells(data, scored, ("source", *_RECIPE))

    def sibling(row: int, others: Ints) -> NDArray[np.bool_]:
        alike = np.abs(log_size[others] - log_size[row]) < _SAME_SIZE
        return np.asarray((models[others] != models[row]) & (families[others] == families[row]) & alike)

    def other_model(row: int, others: Ints) -> NDArray[np.bool_]:
        return np.asarray(models[others] != models[row])

    def other_family(row: int, others: Ints) -> NDArray[np.bool_]:
        return np.asarray(families[others] != families[row])

    sources = data.names("source")
    other_source = _median(data, _cells(data, scored, _ANY_SOURCE), lambda row, others: sources[others] != sources[row])
    known = ~np.isnan(data.loss_se)
    forecasts = {
        "the true figure, blurred by the items of the test": np.where(known, _HALF_NORMAL * data.loss_se, np.nan),
        "the same model, recipe and task from another source": np.abs(other_source - data.loss),
        "the same recipe and task on a model of the same family and size": np.abs(
            _median(data, by_source, sibling) - data.loss
        ),
        "the same recipe and task on all other models (median)": np.abs(_median(data, by_source, other_model) - data.loss),
        "the median of the same recipe and task, this very figure included": np.abs(
            _median(data, by_source, other_model, itself=True) - data.loss
        ),
        "the same recipe and task on all other families (median)": np.abs(_median(data, by_source, other_family) - data.loss),
        "that median over other families, this very figure included": np.abs(
            _median(data, by_source, other_family, itself=True) - data.loss
        ),
    }
    ours = np.abs(point - data.loss)
    return tuple(
        _floor(data, scored, knows, error, ours) for knows, error in forecasts.items() if (scored & ~np.isnan(error)).any()
    )


def _floor(data: TrainingSet, scored: NDArray[np.bool_], knows: str, error: Floats, ours: Floats) -> Floor:
    rows = scored & ~np.isnan(error)
    weights, models = data.score_weights, data.names("model")
    return Floor(
        knows=knows,
        rows=int(rows.sum()),
        models=len(set(models[rows].tolist())),
        weight=float(weights[rows].sum() / weights[scored].sum()),
        error=weighted_mean(error[rows], weights[rows], models[rows]),
        ours=weighted_mean(ours[rows], weights[rows], models[rows]),
    )


def _cells(data: TrainingSet, scored: NDArray[np.bool_], columns: tuple[str, ...]) -> tuple[Ints, ...]:
    """Scored rows that agree in some columns; what is not known agrees with what is not known."""
    rows = np.flatnonzero(scored)
    cells = [[None if value != value else value for value in data.columns[name][rows].tolist()] for name in columns]
    groups: dict[tuple[object, ...], list[int]] = {}
    for row, key in zip(rows.tolist(), zip(*cells, strict=True), strict=True):
        groups.setdefault(key, []).append(row)
    return tuple(np.array(members, dtype=np.intp) for members in groups.values() if len(members) > 1)


def _median(
    data: TrainingSet,
    cells: tuple[Ints, ...],
    among: Callable[[int, Ints], NDArray[np.bool_]],
    *,
    itself: bool = False,
) -> Floats:
    """Median loss of the other rows of each row's cell that `among` picks; NaN where there is none."""
    out = np.full(len(data), np.nan)
    for members in cells:
        for row in members.tolist():
            others = members[among(row, members)]
            if len(others):
                out[row] = np.median(data.loss[np.append(others, row) if itself else others])
    return out
