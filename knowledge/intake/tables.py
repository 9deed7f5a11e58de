"""Tables of figures (CSV or Parquet): scores, speeds and sizes in the columns of `docs/reference/table-columns.md`.

What a table may leave out is filled in from the catalogues: family, size and tuning of a model, type and ability of a task,
direction of a metric, 16 bits for what is not quantized. A source that is not one of the packaged ones is the user's own and
gets `own:` before its name.
"""

import csv
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from knowledge.columns import columns_of, recipe_of
from knowledge.database import DatabaseError, read_parquet
from knowledge.errors import QAdvisorError
from knowledge.intake.entry import LICENCE, OWN, Entry, SpeedEntry
from knowledge.intake.result import Quarantined
from knowledge.readings import catalogue_model, read_row
from knowledge.schemes import QuantScheme
from knowledge.sources import all_sources
from knowledge.tables import AccuracyRow, EfficiencyRow, refusal_reason
from knowledge.task_catalogue import find_task
from knowledge.tasks import METRICS

MAX_TABLE_BYTES = 1 << 30
MAX_ROWS = 2_000_000
"""Rows of one table; ready-made batches of more rows are adopted, not read."""

_SPEEDS = ("prefill_tok_s", "decode_tok_s", "latency_ms_per_token", "peak_mem_gb", "weights_gb")
_SIZE_COLUMN = "size_bytes"

Cells = dict[str, str]
Found = Entry | SpeedEntry | Quarantined


def read_table(path: Path, shown: str) -> Iterator[Found]:
    """The rows of a table, each an entry or refused with its reason.

    Args:
        path: a CSV file (UTF-8, header row) or a Parquet file.
        shown: what to call the file.
    """
    size = path.stat().st_size
    if size > MAX_TABLE_BYTES:
        yield Quarantined(file=shown, reason=f"{size:,} bytes are more than a table may have ({MAX_TABLE_BYTES:,}): split it")
        return
    with closing(_parquet_cells(path) if path.suffix.lower() == ".parquet" else _csv_cells(path)) as rows:
        yield from _entries(rows, path.stem, shown)


def _entries(rows: Iterator[tuple[int, Cells | str]], stem: str, shown: str) -> Iterator[Found]:
    read: Callable[[Cells, str, int, str], Found] | str | None = None
    try:
        for number, cells in rows:
            if isinstance(cells, str):
                yield Quarantined(file=shown, row=number, reason=cells)
                continue
            if read is None:
                read = _kind(cells)
            if isinstance(read, str):
                yield Quarantined(file=shown, reason=read, content=",".join(cells))
                return
            if number > MAX_ROWS + 1:
                yield Quarantined(file=shown, row=number, reason=f"a table has at most {MAX_ROWS:,} rows: split it")
                return
            yield _one(read, cells, stem, number, shown)
    except (OSError, csv.Error, DatabaseError) as error:
        yield Quarantined(file=shown, reason=f"cannot be read on: {' '.join(str(error).split())[:300]}")
        return
    if read is None:
        yield Quarantined(file=shown, reason="holds no row")


def _one(read: Callable[[Cells, str, int, str], Found], cells: Cells, stem: str, number: int, shown: str) -> Found:
    try:
        return read(cells, stem, number, shown)
    except ValidationError as error:
        reason = refusal_reason(error)
    except QAdvisorError as error:
        reason = error.message
    return Quarantined(file=shown, row=number, reason=reason, content=_as_text(cells))


def _kind(header: Mapping[str, str]) -> Callable[[Cells, str, int, str], Found] | str:
    """How to read a table with such a header, or why not."""
    if "score" in header:
        return _accuracy
    if any(name in header for name in _SPEEDS):
        return _speed
    if _SIZE_COLUMN in header:
        return "sizes of files are computed, not learned: `qadvisor memory` gives them"
    return "no table of figures: neither a column score nor one of " + ", ".join(_SPEEDS)


def _accuracy(cells: Cells, stem: str, number: int, shown: str) -> Entry:
    source, licence, own = _source(cells.get("source") or stem.removeprefix("accuracy_"))
    recipe, columns = _recipe(cells)
    given = {name: text for name, text in cells.items() if text != "" and name != "scheme"}
    filled = {**_model(given.get("model", "")), **_task(given.get("task", ""), given.get("metric", "")), "ref": shown}
    row = AccuracyRow.model_validate({**filled, **columns, **given, "source": source})
    return Entry(file=shown, row=number, reading=read_row(row, recipe, licence=licence, own=own))


def _speed(cells: Cells, stem: str, number: int, shown: str) -> SpeedEntry:
    source, licence, _ = _source(cells.get("source") or stem.removeprefix("efficiency_"))
    given = {name: text for name, text in cells.items() if text != ""}
    row = EfficiencyRow.model_validate({"ref": shown, **given, "source": source})
    return SpeedEntry(file=shown, row=number, value=row, licence=licence)


@lru_cache(maxsize=256)
def _source(name: str) -> tuple[str, str, bool]:
    """Full name and licence of a source, and whether it is the user's own."""
    if name in all_sources():
        return name, all_sources()[name].licence, False
    return (name if name.startswith(OWN) else OWN + name), LICENCE, True


def _recipe(cells: Cells) -> tuple[tuple[QuantScheme, str], Mapping[str, object]]:
    scheme, method = recipe_of(cells)
    return (scheme, method), _bits(scheme, method)


@lru_cache(maxsize=4096)
def _bits(scheme: QuantScheme, method: str) -> Mapping[str, object]:
    """The required columns of a recipe, for tables that name a scheme in their place."""
    columns = columns_of(scheme, method)
    return {name: columns[name] for name in ("method", "w_bits", "a_bits", "kv_bits")}


@lru_cache(maxsize=4096)
def _model(name: str) -> Mapping[str, object]:
    spec = catalogue_model(name) if name else None
    return {"family": spec.family} if spec else {}


@lru_cache(maxsize=4096)
def _task(name: str, metric: str) -> Mapping[str, object]:
    known = METRICS.get(metric)  # an unknown one is refused with the row
    direction = {"higher_is_better": known.higher_is_better if known else True}
    if not name:
        return direction
    task = find_task(name)
    return {"task_type": task.type, "ability": task.ability, **direction}


def _csv_cells(path: Path) -> Generator[tuple[int, Cells | str], None, None]:
    """Line number and cells of each row, or why the row cannot be read."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if len(set(header)) != len(header):
            raise csv.Error("a column stands twice in the header")
        for row in rows:
            if not row:
                continue
            if len(row) > len(header):
                yield rows.line_num, f"{len(row)} cells in a row of a table with {len(header)} columns"
            elif not all(map(_is_text, row)):
                yield rows.line_num, "is not UTF-8 text"
            else:
                yield rows.line_num, dict(zip(header, row, strict=False))


def _parquet_cells(path: Path) -> Generator[tuple[int, Cells | str], None, None]:
    for number, values in enumerate(read_parquet(path), start=2):
        yield number, {name: _cell(value) for name, value in values.items()}


def _is_text(cell: str) -> bool:
    return cell.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in cell)


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN is how some writers say that nothing is known
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _as_text(cells: Cells) -> str:
    return ", ".join(f"{name}={text}" for name, text in cells.items() if text)
