"""The only module that opens DuckDB: which settings a connection has, and Parquet files in and out.

Connections to snapshots see no files and no network, and their settings cannot be changed: a predicate out of a rule file
can read the tables and nothing else. One thread: the same query gives the same floats, whatever the machine.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _duckdb as duckdb  # the bindings alone: the layer of relations over them takes three times as long to import

if TYPE_CHECKING:
    import numpy as np

_Config = dict[str, str | bool | int | float | list[str]]
_SETTINGS: _Config = {"threads": "1", "autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
_LOCKED: _Config = {"enable_external_access": "false", "lock_configuration": "true"}
Connection = duckdb.DuckDBPyConnection
DatabaseError = duckdb.Error
"""Base of what DuckDB raises."""
Columns = dict[str, "np.ndarray[Any, Any]"]
"""A query's result by column; NULL is NaN in numbers and None elsewhere."""
_WORK_MEMORY = "1GB"
"""What building and comparing may hold before they go on on disk."""


def read_only(path: Path) -> Connection:
    """A connection to a snapshot.

    Raises:
        DatabaseError: the file is missing, damaged, or of another version.
    """
    connection = _connect(str(path), read_only=True)
    lock(connection)
    return connection


def in_memory() -> Connection:
    """A connection to an empty database in memory that may read files until `lock` is called on it."""
    return _connect()


def lock(connection: Connection) -> None:
    """Take files, network and settings from a connection, for good."""
    for name, value in _LOCKED.items():
        connection.execute(f"SET {name} = {value}")


def scratch_connection() -> Connection:
    """An empty connection in memory that reaches no file and no network, to check SQL before it runs on a store."""
    return _connect(enable_external_access="false")


def working(path: Path, *, spill: Path | None = None) -> Connection:
    """A connection that may read files and write the database `path`; it sorts in `spill` what exceeds its memory."""
    return _connect(str(path), memory_limit=_WORK_MEMORY, temp_directory=str(spill or path.with_suffix(".tmp")))


def _connect(path: str = ":memory:", *, read_only: bool = False, **settings: str) -> Connection:
    """A connection that prints nothing: DuckDB draws a bar on stdout where it takes the program for interactive."""
    connection = duckdb.connect(path, read_only=read_only, config=_SETTINGS | settings)
    connection.execute("SET enable_progress_bar = false")
    return connection


def write_parquet(path: Path, columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows to a Parquet file (zstd), replacing it at once.

    Args:
        path: the file.
        columns: column names with their DuckDB types, in the order of the values.
        rows: the values; None is NULL.
    """
    import csv
    import tempfile

    import duckdb  # noqa: F401 - what reads CSV is in its layer of relations

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        table, result = Path(folder) / "rows.csv", Path(folder) / "rows.parquet"
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                ["\\N" if value is None else value for value in row] for row in rows
            )
        with _connect() as connection:
            read = connection.read_csv(
                str(table), header=False, columns=dict(columns), na_values="\\N", delimiter=",", quotechar='"', escapechar='"',
                auto_detect=False,  # the form is known; guessed from the content it is refused where a text has many commas
            )  # fmt: skip
            read.write_parquet(str(result), compression="zstd")
        os.replace(result, path)


def read_parquet(path: Path, *, columns: Sequence[str] | None = None, rows_at_once: int = 10_000) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, one dictionary a row.

    Args:
        path: the file.
        columns: columns to read; all where not given.
        rows_at_once: rows held in memory.

    Raises:
        DatabaseError: the file is damaged, or no Parquet file.
        ValueError: its name has a sign that DuckDB reads as a pattern of names.
    """
    if set("*?[") & set(str(path)):
        raise ValueError(f"{path} has a name with *, ? or [: rename it")
    wanted = ", ".join(f'"{name}"' for name in columns) if columns else "*"
    with in_memory() as connection:
        found = connection.execute(f"SELECT {wanted} FROM read_parquet($file)", {"file": str(path)})
        names = [column[0] for column in found.description or ()]
        while rows := found.fetchmany(rows_at_once):
            for row in rows:
                yield dict(zip(names, row, strict=True))


def plain_values(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """An array without mask: NaN or None where it was masked."""
    import numpy as np

    if not hasattr(values, "mask"):  # naming the type of masked arrays would load their module
        return values
    masked: Any = values
    plain: np.ndarray[Any, Any] = masked.data.astype(np.float64 if values.dtype.kind in "fiu" else object)
    plain[np.ma.getmaskarray(values)] = np.nan if plain.dtype.kind == "f" else None
    return plain
