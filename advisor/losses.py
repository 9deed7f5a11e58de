"""Losses of all candidates on each task of a request: predicted, then pooled with the evidence for the very model."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from advisor.candidates import Candidate
from advisor.forecast import forecast_tasks
from advisor.pool import Cell, Pooled, make_cell, pool
from advisor.predictor import Predictions, Predictor
from advisor.recipe_table import RecipeTable, recipe_kind, recipe_table
from advisor.relation import Columns, task_columns
from advisor.source_noise import load_source_noise
from knowledge.evidence import BROKEN, score_se
from knowledge.queries import evidence_for
from knowledge.schemes import QuantScheme, parse_scheme
from knowledge.store import KnowledgeStore
from knowledge.tasks import METRICS, TaskSpec, WeightedTask
from knowledge.values import value

Floats = npt.NDArray[np.float64]

_SHOWN_ROWS = 12
"""Evidence rows quoted for one recipe and task; the count of all is told."""

_SAME_CONTEXT = 1.0
"""Doublings of the context within which the user's own figures are taken as measured under the conditions asked for."""


@value
class TaskLosses:
    """Losses of all candidates on one task; arrays in the order of the candidates."""

    task: TaskSpec
    weight: float
    kind: str
    """`relative_loss` or `delta_nll`."""
    unit: str
    point: Floats
    lower: Floats
    upper: Floats
    in_support: npt.NDArray[np.bool_]
    n_calibration: npt.NDArray[np.int64]
    level: float
    pooled: Pooled
    evidence: Columns
    """Rows about this model on this task, by column."""
    baseline: float | None
    """Score of the unquantized model, where a source measured it."""
    noise_floor: float
    """Standard error of one measured loss on this task."""
    broken: tuple[tuple[QuantScheme, str, str], ...]
    """The user's checkpoints of this model that are probably broken: scheme, method, and the reason; their scores are not
    in `evidence`."""


def estimate_losses(
    store: KnowledgeStore,
    predictor: Predictor,
    candidates: tuple[Candidate, ...],
    tasks: Sequence[WeightedTask],
    *,
    constants: Columns,
    context: int,
) -> tuple[TaskLosses, ...]:
    """Losses on every task of the request.

    Args:
        store: the open knowledge base.
        predictor: the fitted predictor.
        candidates: recipes.
        tasks: with their shares.
        constants: columns that hold for every candidate (facts of the model).
        context: tokens of one sequence.
    """
    table = recipe_table(candidates)
    found = evidence_for(store, str(constants["model"]), [item.task.name for item in tasks])
    rows = [_rows_of(found, item.task.name, context) for item in tasks]
    facts = [
        task_columns(item.task) | {"baseline": _baseline(known), "chance": item.task.chance}
        for item, known in zip(tasks, rows, strict=True)
    ]
    forecasts = forecast_tasks(predictor, table, constants | {"context": context}, facts)
    broken = _broken(found)
    return tuple(_task_losses(table, *parts, broken) for parts in zip(tasks, forecasts, rows, strict=True))


def _broken(found: Columns) -> tuple[tuple[QuantScheme, str, str], ...]:
    """Recipes with rows that are not learned from because their checkpoint is probably broken."""
    flagged = {
        (str(found["scheme"][i]), str(found["method"][i]), str(found["reason"][i]))
        for i in np.flatnonzero(found["own"])
        if str(found["reason"][i]).startswith(BROKEN)
    }
    return tuple((parse_scheme(scheme), method, reason) for scheme, method, reason in sorted(flagged))


def _task_losses(
    table: RecipeTable,
    item: WeightedTask,
    forecast: Predictions,
    rows: Columns,
    broken: tuple[tuple[QuantScheme, str, str], ...],
) -> TaskLosses:
    """The forecast of one task pooled with its evidence, and spread over the candidates."""
    task, spread = item.task, table.spread
    places = spread.tolist()
    baseline = _baseline(rows)
    noise = load_source_noise()
    cells = _cells_by_recipe(rows, table, floor=noise.floor, share=noise.share)
    pooled = pool(forecast.point, forecast.lower, forecast.upper, whole=cells, siblings=table.siblings)
    relative = METRICS[task.metric].loss != "delta_nll"
    return TaskLosses(
        task=task,
        weight=item.weight,
        kind="relative_loss" if relative else "delta_nll",
        unit="share of above-chance performance" if relative else task.unit,
        point=forecast.point[spread],
        lower=forecast.lower[spread],
        upper=forecast.upper[spread],
        in_support=forecast.in_support[spread],
        n_calibration=forecast.n_calibration[spread],
        level=forecast.level,
        pooled=Pooled(
            point=pooled.point[spread],
            lower=pooled.lower[spread],
            upper=pooled.upper[spread],
            evidence_weight=pooled.evidence_weight[spread],
            cells=tuple(map(pooled.cells.__getitem__, places)),
            parts=tuple(map(pooled.parts.__getitem__, places)),
        ),
        evidence=rows,
        baseline=baseline,
        noise_floor=_noise_floor(task, baseline),
        broken=broken,
    )


def _rows_of(found: Columns, task: str, context: int) -> Columns:
    """Usable rows on one task; of a source that varies the context, those nearest to the one asked for."""
    keep = [i for i in range(len(found["task"])) if found["task"][i] == task and bool(found["learnable"][i])]
    gaps = {i: _context_gap(found["context"][i], context) for i in keep}
    nearest: dict[tuple[str, str, str], float] = defaultdict(lambda: np.inf)
    keys = {i: (str(found["source"][i]), str(found["scheme"][i]), str(found["method"][i])) for i in keep}
    for i in keep:
        nearest[keys[i]] = min(nearest[keys[i]], gaps[i])
    chosen = np.array([i for i in keep if gaps[i] == nearest[keys[i]]], dtype=np.int64)
    rows = {name: values[chosen] for name, values in found.items()}
    # Measured by the user, but with another context, a figure counts like one from elsewhere.
    near = np.array([gaps[i] <= _SAME_CONTEXT for i in chosen], dtype=bool)
    return rows | {"own": rows["own"].astype(bool) & near}


def _context_gap(measured: Any, asked: int) -> float:
    value = float(measured) if measured is not None else np.nan
    return abs(float(np.log2(value / asked))) if value > 0 else 0.0


def _cells_by_recipe(rows: Columns, table: RecipeTable, *, floor: float, share: float) -> list[Cell | None]:
    """For each recipe its evidence: rows of the same method and formats, group and symmetry equal where both state them."""
    by_kind: dict[tuple[object, ...], list[int]] = defaultdict(list)
    schemes = [parse_scheme(str(name)) for name in rows["scheme"]]
    for index, scheme in enumerate(schemes):
        by_kind[(str(rows["method"][index]), *recipe_kind(scheme))].append(index)
    merged: dict[tuple[int, ...], Cell] = {}
    result: list[Cell | None] = [None] * len(table.recipes)
    alike = [(number, indices) for kind, indices in by_kind.items() for number in table.places.get(kind, ())]
    for number, indices in alike:
        scheme, _ = table.recipes[number]
        members = tuple(i for i in indices if _same_layout(scheme, schemes[i]))
        if members and members not in merged:
            counts = rows["count"][list(members)].astype(np.int64)
            fields = ("source", "loss", "loss_se", "own")
            columns = {name: np.repeat(rows[name][list(members)], counts) for name in fields}
            merged[members] = make_cell(columns, members, floor=floor, share=share)
        result[number] = merged.get(members)
    return result


def _same_layout(asked: QuantScheme, measured: QuantScheme) -> bool:
    """Whether group and symmetry of the weights agree, where both are stated."""
    mine, other = asked.weights, measured.weights
    if mine is None or other is None or asked.file_type:
        return True
    grouped = None in (mine.strategy, other.strategy) or (mine.strategy, mine.group_size) == (other.strategy, other.group_size)
    return grouped and (None in (mine.symmetric, other.symmetric) or mine.symmetric == other.symmetric)


def _baseline(rows: Columns) -> float | None:
    """Median score of the unquantized model over the rows on a task."""
    values = np.asarray(rows["baseline"], dtype=float)
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else None


def _noise_floor(task: TaskSpec, baseline: float | None) -> float:
    """Standard error of a loss from the task's items, at the baseline (half-way above chance where that is not known)."""
    metric = METRICS[task.metric]
    if metric.loss != "relative" or task.chance is None or metric.maximum is None:
        return 0.0
    level = baseline if baseline is not None and baseline > task.chance else (task.chance + metric.maximum) / 2
    error = score_se(task.metric, level, task.items)
    return error / (level - task.chance) if error is not None else 0.0


def shown_rows(losses: TaskLosses, candidate: int) -> list[int]:
    """Positions in `losses.evidence` of the rows to quote for a candidate: of the recipe itself, else of its parts."""
    cell = losses.pooled.cells[candidate]
    rows = cell.rows if cell else tuple(row for part in losses.pooled.parts[candidate] for row in part.rows)
    return list(rows[:_SHOWN_ROWS])
