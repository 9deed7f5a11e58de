"""What a snapshot holds and in which order: a pure function of the packaged files and a version's batches.

The table `evidence` is a *base*, sorted by model and task so that a question about one model skips the rest, and a *tail* of
batches that came later, each sorted alike. A refresh appends to a copy of the last snapshot. When the tail has grown too
long, tail and base are sorted together into a new base; when that happens depends on the numbers of rows alone, so
that a snapshot built from nothing equals one that grew.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from glob import escape
from pathlib import Path
from time import time

from knowledge.database import Connection
from knowledge.evidence import COLUMNS, EFFICIENCY_COLUMNS, efficiency_path, evidence_path
from knowledge.pointer import SNAPSHOT, SNAPSHOTS, read_pointer
from knowledge.sources import all_sources
from knowledge.versions import Batch, Flag

SCHEMA_VERSION = 2
"""Raised when tables or columns of a snapshot change."""
KEPT = 3
"""Snapshots that stay on disk; any version's can be built again from its batches."""

STORED_COLUMNS = COLUMNS | {"checkpoint": "VARCHAR"}
"""Columns of the table `evidence`: those of the relation, and the exact checkpoint that was measured (NULL: not known)."""

_LONGEST_TAIL = 32
"""Batches: a question reads at least one row group of each."""
_LARGEST_TAIL = 0.5
"""Rows of the tail over rows of the base."""
_PACKAGED_ROWS = 25_000
"""Stands for the packaged rows: a constant, so that the layout does not depend on the release."""
_SORTED_ROWS = 400_000
"""Rows that are sorted at once; sorting all of ten million needs several gigabytes."""
BUILDING = re.compile(r"building-[0-9a-f]{32}\.duckdb(\.wal)?")
_STALE_S = 3600.0
"""Age at which a half-built file belongs to a process that died."""
_ORDER = "ORDER BY model, task, evidence_id"


FileOf = Callable[[Batch], Path]
"""Where the file of a batch lies."""


def layout(batches: Sequence[Batch]) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
    """The batches of scores in the base, and those in the tail."""
    base: list[Batch] = []
    tail: list[Batch] = []
    for batch in (one for one in batches if one.table == "evidence"):
        tail.append(batch)
        sorted_rows = _PACKAGED_ROWS + sum(one.rows for one in base)
        if len(tail) > _LONGEST_TAIL or sum(one.rows for one in tail) > _LARGEST_TAIL * sorted_rows:
            base, tail = base + tail, []
    return tuple(base), tuple(tail)


def can_extend(old: Sequence[Batch], new: Sequence[Batch], *, old_flags: Sequence[Flag], new_flags: Sequence[Flag]) -> bool:
    """Whether a snapshot of the new version is one of the old with batches and flags added."""
    (old_base, old_tail), (new_base, new_tail) = layout(old), layout(new)
    grows = old_base == new_base and new_tail[: len(old_tail)] == old_tail
    return grows and set(old_flags) <= set(new_flags)


def create_tables(connection: Connection, file: FileOf, batches: Sequence[Batch], broken: Sequence[Flag], data: str) -> None:
    """Create all tables of a snapshot.

    Args:
        connection: to an empty database; it may read files.
        file: says where the file of a batch lies.
        batches: the measured rows.
        broken: which of them are not learned from.
        data: version of the tables.
    """
    base, tail = layout(batches)
    _create_base(connection, file, base)
    connection.execute("CREATE TABLE efficiency AS SELECT * FROM read_parquet($file)", {"file": escape(str(efficiency_path()))})
    connection.execute("CREATE TABLE sources (id VARCHAR, title VARCHAR, origin VARCHAR, licence VARCHAR, caveats VARCHAR)")
    values = [(source.id, source.title, source.origin, source.licence, source.caveats) for source in all_sources().values()]
    connection.executemany("INSERT INTO sources VALUES (?, ?, ?, ?, ?)", values)
    connection.execute("CREATE TABLE meta (version VARCHAR, schema_version INTEGER)")
    speeds = [batch for batch in batches if batch.table == "efficiency"]
    extend_tables(connection, file, [*tail, *speeds], broken, data)


def _create_base(connection: Connection, file: FileOf, base: Sequence[Batch]) -> None:
    """Create the table `evidence` with the packaged rows and those of `base`, in order."""
    rows = f"SELECT {_names(COLUMNS)}, NULL::VARCHAR AS checkpoint FROM read_parquet($packaged)"
    models = "SELECT model FROM read_parquet($packaged)"
    parameters: dict[str, object] = {"packaged": escape(str(evidence_path()))}
    if base:
        rows += f" UNION ALL {_measured(base)}"
        models += " UNION ALL SELECT model FROM read_parquet($files)"
        parameters |= _paths(file, base)
    connection.execute(f"CREATE TABLE evidence AS {rows} LIMIT 0", parameters)
    counted = {name: value for name, value in parameters.items() if name not in ("names", "ids")}
    counts = connection.execute(f"SELECT model, count(*) FROM ({models}) GROUP BY model ORDER BY model", counted).fetchall()
    for first, last in _ranges(counts):
        wanted = f"SELECT * FROM ({rows}) WHERE model BETWEEN $first AND $last {_ORDER}"
        connection.execute(f"INSERT INTO evidence {wanted}", parameters | {"first": first, "last": last})


def _ranges(counts: Sequence[tuple[str, int]]) -> Iterator[tuple[str, str]]:
    """First and last of consecutive models that together have not many more rows than can be sorted in little memory."""
    group: list[str] = []
    held = 0
    for model, rows in counts:
        if group and held + rows > _SORTED_ROWS:
            yield group[0], group[-1]
            group, held = [], 0
        group.append(model)
        held += rows
    if group:
        yield group[0], group[-1]


def extend_tables(connection: Connection, file: FileOf, added: Sequence[Batch], broken: Sequence[Flag], data: str) -> None:
    """Append batches to the tables of a snapshot, and flag rows; the arguments are those of `create_tables`."""
    for batch in added:
        if batch.table == "evidence":
            connection.execute(f"INSERT INTO evidence {_measured([batch])} {_ORDER}", _paths(file, [batch]))
        else:
            rows = f"SELECT {_names(EFFICIENCY_COLUMNS)} FROM read_parquet($file)"
            connection.execute(f"INSERT INTO efficiency {rows}", {"file": escape(str(file(batch)))})
    for flag in broken:
        connection.execute(
            "UPDATE evidence SET learnable = false, reason = $reason WHERE own AND model = $model AND scheme = $scheme"
            " AND method = $method AND source = $source AND checkpoint IS NOT DISTINCT FROM $checkpoint"
            " AND (learnable OR reason IS DISTINCT FROM $reason)",
            asdict(flag),
        )
    connection.execute("DELETE FROM meta")
    connection.execute("INSERT INTO meta VALUES ($version, $schema)", {"version": data, "schema": SCHEMA_VERSION})


def find_snapshot(home: Path, data: str) -> Path | None:
    """A snapshot of these tables that is on disk; its content is still to be checked against the digest in its name."""
    return next(iter(sorted((home / SNAPSHOTS).glob(f"store-{data}-*.duckdb"))), None)


def prune(home: Path, kept: Path) -> None:
    """Remove what died half-built, and snapshots of this program beyond the newest few; never `kept` or the one in use."""
    pointer = read_pointer(home)
    needed = {kept.name, pointer.file if pointer else kept.name}
    ages: list[tuple[float, Path]] = []
    for path in (home / SNAPSHOTS).iterdir():
        with suppress(OSError):
            if SNAPSHOT.fullmatch(path.name):
                ages.append((path.stat().st_mtime, path))
            elif BUILDING.fullmatch(path.name) and time() - path.stat().st_mtime > _STALE_S:
                path.unlink()
    for _, path in sorted(ages, reverse=True)[KEPT:]:
        if path.name not in needed:
            with suppress(OSError):  # still open elsewhere, on systems that mind
                path.unlink()


def _measured(batches: Sequence[Batch]) -> str:
    """The rows of batches in the columns of the table; `$files` (patterns), `$names` and `$ids` are their parameters."""
    names = [name for name in STORED_COLUMNS if name != "evidence_id"]
    return (
        f"SELECT (first_id + file_row_number)::INTEGER AS evidence_id, {_names(names)}"
        " FROM read_parquet($files, filename = true, file_row_number = true)"
        " JOIN (SELECT unnest($names::VARCHAR[]) AS path, unnest($ids::BIGINT[]) AS first_id) ON path = filename"
    )


def _paths(file: FileOf, batches: Sequence[Batch]) -> dict[str, object]:
    if not batches:
        return {}
    names = [str(file(batch)) for batch in batches]
    return {"files": [escape(name) for name in names], "names": names, "ids": [batch.first_id for batch in batches]}


def _names(columns: Sequence[str] | dict[str, str]) -> str:
    return ", ".join(columns)
