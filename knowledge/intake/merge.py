"""Batches of another knowledge base: every row is read like a row of a table, and its hash must be that of its content."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from knowledge.catalogue import match_model
from knowledge.columns import columns_of
from knowledge.database import DatabaseError, read_parquet
from knowledge.documents import number_of, text_of
from knowledge.errors import DataError, QAdvisorError
from knowledge.intake.entry import LICENCE, OWN, Entry, SpeedEntry
from knowledge.intake.result import Quarantined
from knowledge.intake.tables import MAX_ROWS
from knowledge.readings import read_row
from knowledge.schemes import QuantScheme, parse_scheme
from knowledge.sources import all_sources
from knowledge.tables import AccuracyRow, EfficiencyRow, refusal_reason

_COPIED = ("source", "ref", "model", "params_b", "family", "tuned", "bpw", "task", "task_type", "ability", "shots", "context",
           "metric", "higher_is_better", "score", "baseline", "baseline_dtype", "note")  # fmt: skip


def read_batch(path: Path, shown: str) -> Iterator[Entry | SpeedEntry | Quarantined]:
    """The rows of a batch file, each an entry or refused with its reason."""
    try:
        for number, values in enumerate(read_parquet(path), start=1):
            if number > MAX_ROWS:
                yield Quarantined(file=shown, row=number, reason=f"a batch to merge has at most {MAX_ROWS:,} rows")
                return
            yield _row(values, number, shown)
    except (OSError, ValueError, DatabaseError) as error:
        yield Quarantined(file=shown, reason=f"cannot be read on: {' '.join(str(error).split())[:300]}")


def _row(values: Mapping[str, Any], number: int, shown: str) -> Entry | SpeedEntry | Quarantined:
    try:
        entry = _entry(values, number, shown) if "score" in values else _speed(values, number, shown)
        if entry.row_hash != values.get("row_hash"):
            raise DataError("the content does not match its row_hash: it was changed, or written by another version")
    except ValidationError as error:
        reason = refusal_reason(error)
    except QAdvisorError as error:
        reason = error.message
    else:
        return entry
    content = ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)
    return Quarantined(file=shown, row=number, reason=reason, content=content)


def _entry(values: Mapping[str, Any], number: int, shown: str) -> Entry:
    scheme, method = _recipe(str(values.get("scheme")), str(values.get("method")))
    items = values.get("items")
    if items is not None and items < 1:
        raise DataError(f"a score over {items} items cannot be")
    row = AccuracyRow.model_validate({**{name: values.get(name) for name in _COPIED}, **columns_of(scheme, method)})
    reading = read_row(
        row, (scheme, method), licence=_licence(row.source), own=row.source.startswith(OWN),
        in_catalogue=_is_catalogue(row.model), conditions=text_of(values.get("key")), items=items,
    )  # fmt: skip
    error = number_of(values.get("loss_se"))
    if error is not None and error >= 0 and reading.loss.value is not None:  # that of paired runs cannot be computed again
        reading = replace(reading, loss=replace(reading.loss, se=error))
    return Entry(
        file=text_of(values.get("file")) or shown, row=number, reading=reading, checkpoint=text_of(values.get("checkpoint"))
    )


def _speed(values: Mapping[str, Any], number: int, shown: str) -> SpeedEntry:
    given = {name: value for name, value in values.items() if name in EfficiencyRow.model_fields}
    row = EfficiencyRow.model_validate(given)
    return SpeedEntry(file=text_of(values.get("file")) or shown, row=number, value=row, licence=_licence(row.source))


@lru_cache(maxsize=4096)
def _recipe(scheme: str, method: str) -> tuple[QuantScheme, str]:
    return parse_scheme(scheme), method


@lru_cache(maxsize=4096)
def _is_catalogue(model: str) -> bool:
    known = match_model(model)
    return known is not None and known.name == model


def _licence(source: str) -> str:
    return all_sources()[source].licence if source in all_sources() else LICENCE
