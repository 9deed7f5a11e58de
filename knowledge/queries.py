"""Named questions to the knowledge base, answered with value types or columns; every value goes in as a parameter."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from knowledge.database import Columns
from knowledge.evidence import UNKNOWN_ITEM_SE
from knowledge.models import ModelSpec
from knowledge.pointer import PACKAGED
from knowledge.recipes import QuantRecipe
from knowledge.store import KnowledgeStore
from knowledge.tasks import TaskSpec
from knowledge.values import value

_SQL = Path(__file__).parent / "sql"

KEPT_ROWS = 24
"""Rows of one cell that are given one by one: more than any answer quotes."""


@value
class EvidenceRow:
    """One score of one quantized model on one task, as a source gives it, with the loss that follows."""

    evidence_id: int
    source: str
    ref: str
    licence: str
    model: str
    family: str
    params_b: float | None
    """Parameters in 1e9."""
    method: str
    scheme: str
    task: str
    task_type: str
    ability: str
    shots: int | None
    context: int | None
    """Tokens of context, where the test varies them."""
    metric: str
    score: float
    baseline: float
    note: str | None
    loss_kind: str | None
    unit: str | None
    loss: float | None
    """Share of the above-chance performance, or nats, as `unit` says; None where it cannot be computed."""
    loss_se: float | None
    weight: float
    learnable: bool
    reason: str | None
    """Why it is not learned from."""
    own: bool


@value
class EvidenceFilter:
    """What rows to show; None is no limit. Names are canonical names of the catalogues."""

    model: str | None = None
    family: str | None = None
    task: str | None = None
    task_type: str | None = None
    ability: str | None = None
    method: str | None = None
    scheme: str | None = None
    source: str | None = None
    w_bits: float | None = None
    a_bits: float | None = None
    kv_bits: float | None = None
    learnable: bool | None = None
    limit: int = 100


@value
class SourceRow:
    """A source with what it contributes."""

    id: str
    title: str
    origin: str
    licence: str
    caveats: str
    n_accuracy: int
    n_learnable: int
    n_efficiency: int
    share: float
    """Of the weight of all rows in fits."""


def evidence_for(store: KnowledgeStore, model: str, tasks: Sequence[str]) -> Columns:
    """Every row about `model` (canonical name) on `tasks` that has a loss, by column; baselines left out.

    Where the user's own rows are among them, there may be hundreds of thousands. Then of each cell (source, method, scheme,
    task, context, metric) the newest `KEPT_ROWS` are given as they are, and one more row stands for all older ones.

    Returns:
        Columns of `evidence`, and `count`: for how many rows of that loss and standard error a row stands.
    """
    parameters = {"model": model, "tasks": list(tasks)}
    if store.version_id == PACKAGED:
        return store.columns(_sql("evidence_for"), parameters)
    return store.columns(_sql("evidence_folded"), parameters | {"kept": KEPT_ROWS, "unknown_se": UNKNOWN_ITEM_SE})


def browse_evidence(store: KnowledgeStore, wanted: EvidenceFilter) -> list[EvidenceRow]:
    """The rows that pass the filter, by model, task and number, at most `wanted.limit`."""
    parameters = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    return _evidence_rows(store.columns(_sql("browse"), parameters))


def nearest_evidence(
    store: KnowledgeStore, model: ModelSpec, recipe: QuantRecipe, task: TaskSpec, *, params_b: float | None, limit: int = 5
) -> list[EvidenceRow]:
    """The rows that say most about `model` under `recipe` on `task`, the nearest first (`sql/nearest.sql`).

    Args:
        store: the open knowledge base.
        model: the model asked about.
        recipe: scheme and method.
        task: the task.
        params_b: the model's parameters in 1e9; None leaves size out.
        limit: how many rows.
    """
    scheme = recipe.scheme
    parameters = {
        "model": model.name, "family": model.family, "params_b": params_b, "scheme": scheme.name, "method": recipe.method.name,
        "w_bits": scheme.w_bits, "a_bits": scheme.a_bits, "kv_bits": scheme.kv_bits, "task": task.name, "ability": task.ability,
        "task_type": task.type, "limit": limit,
    }  # fmt: skip
    return _evidence_rows(store.columns(_sql("nearest"), parameters))


def source_rows(store: KnowledgeStore) -> list[SourceRow]:
    """Every source with its rows by table and its share of the weight, by id."""
    return [SourceRow(**values) for values in _records(store.columns(_sql("sources")), SourceRow)]


def counts_by_bits(store: KnowledgeStore) -> Columns:
    """Rows by nominal bits of weights, activations and KV cache, and by task type; `n` of them, `n_learnable` learned from."""
    return store.columns(_sql("counts"))


def efficiency_like(
    store: KnowledgeStore, *, w_bits: float, a_bits: float, kv_bits: float, engine: str
) -> tuple[Mapping[str, Any], ...]:
    """Measured speeds of quantized models with these bits on an engine (of any version), one dictionary a row."""
    parameters = {"w_bits": w_bits, "a_bits": a_bits, "kv_bits": kv_bits, "engine": engine}
    return store.kept_rows(_sql("efficiency_like"), parameters)


def _evidence_rows(found: Columns) -> list[EvidenceRow]:
    return [EvidenceRow(**values) for values in _records(found, EvidenceRow)]


def _records(found: Columns, kind: type) -> Iterator[dict[str, Any]]:
    """Rows as keyword arguments of a value type, with plain Python values."""
    names = [field.name for field in fields(kind)]
    whole = {field.name for field in fields(kind) if str(field.type).startswith("int")}
    for values in zip(*(found[name].tolist() for name in names), strict=True):
        yield {name: _value(value, whole=name in whole) for name, value in zip(names, values, strict=True)}


def _value(value: object, *, whole: bool) -> object:
    if isinstance(value, float) and np.isnan(value):
        return None
    return int(value) if whole and isinstance(value, float) else value


@lru_cache(maxsize=16)
def _sql(name: str) -> str:
    return (_SQL / f"{name}.sql").read_text(encoding="utf-8")
