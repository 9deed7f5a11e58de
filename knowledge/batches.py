"""Batches of measured rows as Parquet files: written once under a name that is a hash, compared, counted."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal

from knowledge.database import Connection, in_memory, write_parquet
from knowledge.evidence import BATCH_COLUMNS, EFFICIENCY_BATCH_COLUMNS
from knowledge.files import sha256_of

Table = Literal["evidence", "efficiency"]
COLUMNS: dict[Table, dict[str, str]] = {"evidence": BATCH_COLUMNS, "efficiency": EFFICIENCY_BATCH_COLUMNS}
"""Columns of a batch by the table that its rows belong to."""
QUARANTINE_COLUMNS = {"file": "VARCHAR", "row": "BIGINT", "reason": "VARCHAR", "content": "VARCHAR"}
"""Columns of a table of refused rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCount:
    """Rows of one source about one model and task, that one version has and another has not."""

    source: str
    model: str
    task: str
    rows: int


def write_batch(folder: Path, table: Table, rows: Iterable[Sequence[object]]) -> Path:
    """Write rows to a file named by its content, sorted so that equal rows give an equal file.

    Args:
        folder: where it goes.
        table: what the rows are; decides their columns.
        rows: values in the order of `COLUMNS[table]`.

    Raises:
        OSError: the folder cannot be written.
    """
    columns = COLUMNS[table]
    order = [list(columns).index(name) for name in ("model", "row_hash")]
    return _write_named(folder, columns, sorted(rows, key=lambda row: tuple(str(row[place]) for place in order)))


def write_quarantine(folder: Path, refused: Iterable[Sequence[object]]) -> Path:
    """Write refused rows (file, row, reason, content), likewise."""
    rows = ([_clean(value) for value in row] for row in refused)
    return _write_named(folder, QUARANTINE_COLUMNS, sorted(rows, key=lambda row: tuple(str(value) for value in row)))


def count_rows(file: Path) -> int:
    """Rows of a Parquet file."""
    with in_memory() as connection:
        return int(_one(connection, "SELECT count(*) FROM read_parquet($file)", {"file": escape(str(file))}))


def check_batch(file: Path, table: Table) -> None:
    """See that a ready-made file has the columns of a batch, of the right types.

    Raises:
        ValueError: it has not; the message names them.
    """
    with in_memory() as connection:
        found = dict(
            connection.execute(
                "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet($file))", {"file": escape(str(file))}
            ).fetchall()
        )
    wrong = [name for name, kind in COLUMNS[table].items() if found.get(name) != kind]
    if wrong:
        raise ValueError(f"{file} has no column {', '.join(f'{name} {COLUMNS[table][name]}' for name in wrong)}")


def known_hashes(files: Collection[Path], hashes: Sequence[str]) -> set[str]:
    """Which of `hashes` are hashes of rows in `files`."""
    if not files or not hashes:
        return set()
    with in_memory() as connection:
        connection.execute("CREATE TABLE asked AS SELECT unnest($hashes::VARCHAR[]) AS row_hash", {"hashes": list(hashes)})
        found = connection.execute(
            "SELECT DISTINCT row_hash FROM read_parquet($files, union_by_name = true) SEMI JOIN asked USING (row_hash)",
            {"files": [escape(str(file)) for file in files]},
        )
        return {row_hash for (row_hash,) in found.fetchall()}


def rows_only_in(files: Collection[Path], others: Collection[Path]) -> list[RowCount]:
    """Rows of `files` that are not in `others`, counted by source, model and task."""
    if not files:
        return []
    with in_memory() as connection:
        parameters: Mapping[str, object] = {"files": [escape(str(file)) for file in files]}
        apart = ""
        if others:
            apart = "ANTI JOIN (SELECT row_hash FROM read_parquet($others, union_by_name = true)) USING (row_hash)"
            parameters = {**parameters, "others": [escape(str(file)) for file in others]}
        found = connection.execute(
            "SELECT source, model, coalesce(task, 'speed') AS task, count(*) FROM (SELECT * FROM (SELECT NULL AS task) WHERE"
            f" false UNION ALL BY NAME SELECT * FROM read_parquet($files, union_by_name = true)) {apart}"
            " GROUP BY ALL ORDER BY ALL",
            parameters,
        )
        return [RowCount(source=row[0], model=row[1], task=row[2], rows=row[3]) for row in found.fetchall()]


def _write_named(folder: Path, columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "rows.parquet"
    write_parquet(written, columns, rows)
    return written.rename(folder / f"{sha256_of(written)[:16]}.parquet")


def _clean(value: object) -> object:
    """Text that any file can hold: what is no character, and the character 0, become question marks."""
    return value.encode("utf-8", "replace").decode().replace("\0", "?") if isinstance(value, str) else value


def _one(connection: Connection, sql: str, parameters: Mapping[str, object]) -> int:
    row = connection.execute(sql, dict(parameters)).fetchone()
    return int(row[0]) if row else 0
