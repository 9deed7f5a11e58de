"""The evidence as the predictor learns from it: features, losses, weights, and the folds that leave figures out.

**Weights.** Rows of one table are not independent: every (source, model) weighs the root of its number of rows. Rows that
the backtest does not score (baseline at most 10 points above chance, AdvGLUE) weigh 0.3 of the median.

**Folds.** Left out together are the rows of a family, of a group of models, of a source, or single rows at random. Fits
and backtests use the same folds; models are spread over `MODEL_FOLDS` groups of about equal weight.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advisor.features import Bools, Features, Floats, Names, encode
from advisor.predictor import TaskTable
from knowledge.catalogue import find_model
from knowledge.errors import UnknownNameError
from knowledge.store import open_store

Ints = NDArray[np.intp]

MODEL_FOLDS = 16
CELL_FOLDS = 8
SEED = 20240818

POINTS_ABOVE_CHANCE = 10.0
_UNSCORED_WEIGHT = 0.3

NLL_CUT = 1.0
"""Perplexity rises beyond this many nats (collapsed models) are not judged."""

_COLUMNS = (
    "source", "model", "family", "params_b", "tuned", "method", "scheme", "w_bits", "w_dtype", "w_group", "w_sym", "a_bits",
    "a_dtype", "kv_bits", "kv_dtype", "kv_name", "format", "task", "task_type", "ability", "metric", "shots", "context",
    "score", "baseline", "chance", "items", "loss", "loss_se", "note",
)  # fmt: skip
_ROWS = f"""
SELECT {", ".join(_COLUMNS)} FROM evidence
WHERE (learnable OR (source = $also AND loss IS NOT NULL)) AND (NOT own OR $own)
ORDER BY evidence_id
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Evidence with a loss, row by row."""

    columns: Mapping[str, NDArray[np.generic]]
    features: Features
    tasks: TaskTable
    loss: Floats
    loss_se: Floats
    weights: Floats
    """Weight of each row in a fit."""
    score_weights: Floats
    """Weight of each row in a backtest; 0 for rows that it leaves out."""

    def __len__(self) -> int:
        return len(self.loss)

    def names(self, column: str) -> Names:
        """A text column, empty where not known."""
        values = self.columns[column]
        return values.astype(object)


def load_training_set(*, home: Path | None = None, own: bool = False, also: str | None = None) -> TrainingSet:
    """The learnable rows of the evidence.

    Args:
        home: folder of the knowledge base; default: the user's.
        own: whether the user's own measurements are among them, beside what is published.
        also: a source whose rows are taken with them though they are shown only.

    Raises:
        StoreError: the knowledge base cannot be opened.
    """
    with open_store(home) as store:
        found = store.columns(_ROWS, {"own": own, "also": also})
    return make_training_set({name: plain(values) for name, values in found.items()})


def make_training_set(columns: Mapping[str, NDArray[np.generic]]) -> TrainingSet:
    """Evidence columns made ready for fits."""
    full = dict(columns) | model_facts(columns["model"].tolist())
    features = encode(full)
    loss = columns["loss"].astype(np.float64)
    tasks = _task_table(columns)
    scored = _scored(columns, features)
    score_weights = _root_weights(columns, features.is_nll, scored)
    typical = _UNSCORED_WEIGHT * float(np.median(score_weights[scored])) if scored.any() else 1.0
    return TrainingSet(
        columns=columns, features=tasks.fill(features), tasks=tasks, loss=loss, loss_se=columns["loss_se"].astype(np.float64),
        weights=np.where(scored, score_weights, typical), score_weights=score_weights,
    )  # fmt: skip


def judged_rows(data: TrainingSet) -> dict[str, Bools]:
    """Rows on which forecasts are compared, by kind of figure: scores, and perplexities of models that did not collapse."""
    scored, is_nll = data.score_weights > 0, data.features.is_nll
    return {"score": scored & ~is_nll, "perplexity": scored & is_nll & (data.loss <= NLL_CUT)}


def model_facts(models: Sequence[str]) -> dict[str, list[object]]:
    """Facts of the catalogue about each model, None where it knows nothing."""
    table = {name: _facts(name) for name in set(models)}
    fields = ("active_params_b", "moe", "reasoning", "gqa_ratio", "attention_bias")
    return {field: [table[name][i] for name in models] for i, field in enumerate(fields)}


def _facts(name: str) -> tuple[object, ...]:
    try:
        spec = find_model(name)
    except UnknownNameError:
        return (None,) * 5
    ratio = spec.heads / spec.kv_heads if spec.heads and spec.kv_heads else None
    active = spec.params_active_published / 1e9 if spec.params_active_published else None
    return active, spec.experts is not None, spec.reasoning, ratio, spec.attention_bias


def _scored(columns: Mapping[str, NDArray[np.generic]], features: Features) -> Bools:
    above = features.numbers["baseline"] - np.nan_to_num(features.numbers["chance"])
    attacked = np.array([str(task).startswith("adv_") for task in columns["task"]], dtype=bool)
    return np.where(features.is_nll, True, (above > POINTS_ABOVE_CHANCE) & ~attacked)


def _root_weights(columns: Mapping[str, NDArray[np.generic]], is_nll: Bools, scored: Bools) -> Floats:
    """1 / root of the rows of each (source, model), for shares and for perplexities apart."""
    keys = list(zip(columns["source"].tolist(), columns["model"].tolist(), is_nll.tolist(), scored.tolist(), strict=True))
    counts: dict[tuple[object, ...], int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    return np.array([counts[key] ** -0.5 if key[3] else 0.0 for key in keys])


def _task_table(columns: Mapping[str, NDArray[np.generic]]) -> TaskTable:
    """Medians by task of items, baseline and chance."""
    tables: dict[str, dict[str, float]] = {}
    tasks = columns["task"]
    for name in ("items", "baseline", "chance"):
        values = columns[name].astype(np.float64)
        tables[name] = {}
        for task in sorted(set(tasks.tolist())):
            known = values[(tasks == task) & ~np.isnan(values)]
            if len(known):
                tables[name][task] = float(np.median(known))
    return TaskTable(items=tables["items"], baseline=tables["baseline"], chance=tables["chance"])


def folds_by_name(names: Names) -> Ints:
    """One fold for each name."""
    return np.unique(names.astype(str), return_inverse=True)[1].astype(np.intp)


def folds_of_models(models: Names, n_folds: int = MODEL_FOLDS) -> Ints:
    """Groups of models of about equal weight, the largest dealt first."""
    found, place, counts = np.unique(models.astype(str), return_inverse=True, return_counts=True)
    load = np.zeros(n_folds)
    fold = np.zeros(len(found), dtype=np.intp)
    for i in sorted(range(len(found)), key=lambda i: (-counts[i], found[i])):
        fold[i] = int(np.argmin(load))
        load[fold[i]] += np.sqrt(counts[i])
    return fold[place]


def folds_of_cells(n: int) -> Ints:
    """Single rows at random."""
    return np.random.default_rng(SEED).integers(0, CELL_FOLDS, n).astype(np.intp)


def plain(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Text as objects with nothing as "", everything else as floats with nothing as NaN."""
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    cells = values.tolist()
    if any(isinstance(cell, str) for cell in cells):
        return np.array(["" if cell is None else cell for cell in cells], dtype=object)
    return np.array([math.nan if cell is None else float(cell) for cell in cells])
