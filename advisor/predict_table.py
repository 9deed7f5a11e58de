"""`qadvisor predict`: the loss of each row of a table of configurations.

Columns as in published tables (`model`, `params_b`, `family`, `tuned`, `method`, `w_bits`, …, `format`, `task`, `task_type`,
`ability`, `metric`, `context`, `baseline`, `chance`; a `scheme` column stands for all format columns); any may be missing.
What a row does not say about a model or task that the catalogue knows is filled in from there; what it says is believed.
Added to each row: `relative_loss` or `delta_nll`, `lower`, `upper`, `level`, `in_support`, `basis`.

Where the evidence holds figures for the very cell (model, method, scheme, task, context), the prediction is pooled with
them (`advisor.pool`); `basis` is `direct` when they carry most of the weight.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from advisor.features import DELTA_NLL
from advisor.pool import Cell, make_cell, pool
from advisor.predictor import Predictions, Predictor, load_predictor
from advisor.source_noise import load_source_noise
from knowledge.catalogue import find_model
from knowledge.columns import METHOD_ALIASES, columns_of, kv_kind, recipe_of
from knowledge.errors import DataError, InvalidRequestError, StoreError, UnknownNameError
from knowledge.store import KnowledgeStore, open_store
from knowledge.task_catalogue import find_task

ADDED = ("relative_loss", "delta_nll", "lower", "upper", "level", "in_support", "basis")
"""Columns that a prediction adds to a row; the loss that a row does not have stays empty."""

_RECIPE = ("scheme", "w_bits", "w_dtype", "w_group", "w_sym", "a_bits", "a_dtype", "kv_bits", "kv_dtype", "kv_name")
_MODEL = ("model", "family", "params_b", "tuned", "active_params_b", "moe", "reasoning", "gqa_ratio", "attention_bias")
_TASK = ("task", "task_type", "ability", "metric", "context", "baseline", "chance")
_RANGES = {
    **dict.fromkeys(("w_bits", "a_bits", "kv_bits"), (0.5, 16.0)),
    "w_group": (-1.0, 2.0**20),
    "params_b": (1e-4, 1e5),
    "context": (0.0, 2.0**30),
    "baseline": (-1e9, 1e9),
    "chance": (0.0, 100.0),
}
"""Numbers that a row may state, each from least to most."""

_NEEDED = ("model", "params_b", "task", "task_type")

_EVIDENCE = """
SELECT model, method, scheme, task, context, source, loss, loss_se, own
FROM evidence
WHERE learnable AND list_contains($models, model) AND list_contains($tasks, task)
ORDER BY evidence_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictSummary:
    """What `predict_table` did."""

    rows: int
    direct: int
    """Rows whose estimate is mostly evidence for the very cell."""
    out_of_support: int
    output: Path


def predict_table(input_file: Path, output_file: Path, *, home: Path | None = None) -> PredictSummary:
    """Predict every row of a CSV table and write the table with the predictions added.

    Raises:
        InvalidRequestError: the input cannot be read, or has no usable column.
        DataError: a row cannot be understood; the message names it.
        StoreError: the output cannot be written.
    """
    header, rows = _read(input_file)
    found = predict_rows(rows, home=home)
    columns = [*(name for name in header if name not in ADDED), *ADDED]
    try:
        with output_file.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**row, **_shown(added)} for row, added in zip(rows, found, strict=True))
    except OSError as error:
        raise StoreError(f"cannot write {output_file}: {error.strerror}", given=str(output_file)) from error
    return PredictSummary(
        rows=len(rows), direct=sum(row["basis"] == "direct" for row in found),
        out_of_support=sum(not row["in_support"] for row in found), output=output_file,
    )  # fmt: skip


def predict_rows(
    rows: Sequence[Mapping[str, object]], *, predictor: Predictor | None = None, home: Path | None = None
) -> list[dict[str, object]]:
    """The predictions of rows given as mappings of column to value, one dictionary of the `ADDED` columns a row.

    Raises:
        DataError: a row cannot be understood; the message gives its number, the first being 1.
    """
    if not rows:
        return []
    completed = [_complete(row, number) for number, row in enumerate(rows, start=1)]
    columns = {name: [row.get(name) for row in completed] for name in (*_RECIPE, "method", *_MODEL, *_TASK)}
    with open_store(home) as store:
        forecast = (predictor or load_predictor(store.predictor)).predict(columns)
        whole = _evidence_cells(completed, store)
    pooled = pool(forecast.point, forecast.lower, forecast.upper, whole=whole)
    return [_added(forecast, pooled.point, pooled.lower, pooled.upper, pooled.evidence_weight, i) for i in range(len(rows))]


def _added(forecast: Predictions, point: Any, lower: Any, upper: Any, weight: Any, i: int) -> dict[str, object]:
    is_nll = forecast.kind[i] == DELTA_NLL
    return {
        "relative_loss": None if is_nll else float(point[i]),
        "delta_nll": float(point[i]) if is_nll else None,
        "lower": float(lower[i]),
        "upper": float(upper[i]),
        "level": forecast.level,
        "in_support": bool(forecast.in_support[i]),
        "basis": "direct" if weight[i] > 0.5 else "predicted",
    }


def _shown(added: Mapping[str, object]) -> dict[str, str]:
    """Cells of a table: six significant digits, flags as 1 and 0, nothing where there is no value."""
    return {name: _cell(value) for name, value in added.items()}


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _complete(row: Mapping[str, object], number: int) -> dict[str, object]:
    """The row in the words of the predictor, gaps filled from the catalogues."""
    full = {name: value for name, value in row.items() if value is not None and value != ""}
    for name, (least, most) in _RANGES.items():
        if name in full:
            full[name] = _number(full[name], name, number, least=least, most=most)
    try:
        full |= _recipe(full)
    except DataError as error:
        raise DataError(f"row {number}: {error.message}", given=error.given, allowed=error.allowed, hint=error.hint) from error
    for name, value in _model_facts(str(full.get("model", ""))).items():
        if name == "model" or name not in full:
            full[name] = value
    for name, value in _task_facts(str(full.get("task", ""))).items():
        if name == "task" or name not in full:
            full[name] = value
    return full


def _recipe(row: Mapping[str, object]) -> dict[str, object]:
    """Format columns in canonical form; as they stand where the method or the format has no name here."""
    try:
        scheme, method = recipe_of(row)
    except (DataError, UnknownNameError):
        if not any(name in row for name in ("scheme", "w_bits", "a_bits", "kv_bits", "format")):
            raise DataError("nothing says how the model is quantized", allowed="scheme, or w_bits, a_bits, kv_bits") from None
        method = str(row.get("method", "rtn")).lower()
        return {"method": METHOD_ALIASES.get(method, method)}
    found = columns_of(scheme, method)
    return {
        **{name: found[name] for name in ("w_bits", "w_dtype", "w_group", "w_sym", "a_bits", "a_dtype", "kv_bits")},
        "scheme": scheme.name, "method": method, "kv_dtype": kv_kind(scheme.kv_cache), "kv_name": scheme.kv_name,
    }  # fmt: skip


@lru_cache(maxsize=4096)
def _model_facts(name: str) -> dict[str, object]:
    """What the catalogue knows about a model, by column; nothing for one that it does not know."""
    if not name:
        return {}
    try:
        spec = find_model(name)
    except UnknownNameError:
        return {"model": name.strip().lower()}
    facts: dict[str, object] = {
        "model": spec.name,
        "family": spec.family,
        "tuned": spec.tuned,
        "reasoning": spec.reasoning,
        "moe": spec.experts is not None,
        "attention_bias": spec.attention_bias,
        "params_b": spec.params_published / 1e9 if spec.params_published else None,
        "active_params_b": spec.params_active_published / 1e9 if spec.params_active_published else None,
        "gqa_ratio": spec.heads / spec.kv_heads if spec.heads and spec.kv_heads else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


@lru_cache(maxsize=4096)
def _task_facts(name: str) -> dict[str, object]:
    """What the catalogue knows about a task, by column."""
    if not name:
        return {}
    try:
        spec = find_task(name)
    except UnknownNameError:
        return {}
    facts = {"task": spec.name, "task_type": spec.type, "ability": spec.ability, "metric": spec.metric, "chance": spec.chance}
    return {name: value for name, value in facts.items() if value is not None}


def _number(value: object, name: str, row: int, *, least: float, most: float) -> float:
    """The number in a cell, which must lie from `least` to `most`."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(f"row {row}: column {name!r} is not a number", given=str(value), allowed="a number, or empty") from None
    if not least <= found <= most:  # what is no number at all (nan) is out of range as well
        raise DataError(f"row {row}: column {name!r} is out of range", given=str(value), allowed=f"{least:g} to {most:g}")
    return found


def _evidence_cells(rows: Sequence[Mapping[str, object]], store: KnowledgeStore) -> list[Cell | None]:
    """For each row the evidence for its very cell, or None."""
    keys = [
        _cell_key(row.get("model"), row.get("method"), row.get("scheme"), row.get("task"), row.get("context")) for row in rows
    ]
    models, tasks = sorted({str(key[0]) for key in keys}), sorted({str(key[3]) for key in keys})
    found = _query(store, models, tasks)
    if not len(found["loss"]):
        return [None] * len(rows)
    fields = ("model", "method", "scheme", "task", "context")
    by_key: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, values in enumerate(zip(*(found[name].tolist() for name in fields), strict=True)):
        by_key[_cell_key(*values)].append(index)
    noise = load_source_noise()
    cells: dict[tuple[object, ...], Cell] = {}
    for key in {*keys} & {*by_key}:
        members = by_key[key]
        columns = {name: found[name][members] for name in ("source", "loss", "loss_se", "own")}
        cells[key] = make_cell(columns, tuple(members), floor=noise.floor, share=noise.share)
    return [cells.get(key) for key in keys]


def _query(store: KnowledgeStore, models: Sequence[str], tasks: Sequence[str]) -> Mapping[str, Any]:
    return store.columns(_EVIDENCE, {"models": list(models), "tasks": list(tasks)})


def _cell_key(model: object, method: object, scheme: object, task: object, context: object) -> tuple[object, ...]:
    length = float(context) if context is not None else math.nan  # type: ignore[arg-type]
    return (model, method, scheme, task, None if math.isnan(length) else round(length))


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [{name: text for name, text in row.items() if name} for row in reader]
            header = [name for name in reader.fieldnames or () if name]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequestError(
            f"cannot read the table {path}: {reason}", given=str(path), allowed="a CSV file (UTF-8)"
        ) from error
    if not {*_NEEDED} & {*header} or not {"scheme", "w_bits", "a_bits", "kv_bits", "format"} & {*header}:
        raise InvalidRequestError(
            f"the table {path} has none of the columns that a prediction needs", given=", ".join(header) or "no header",
            allowed="model or params_b, task or task_type, and scheme or w_bits, a_bits, kv_bits",
            hint="the columns are those of `docs/reference/table-columns.md`",
        )  # fmt: skip
    return header, rows
