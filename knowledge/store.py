"""The knowledge base as DuckDB sees it; the only module that opens a connection.

Truth is immutable: the packaged Parquet files, and the user's `runs/`. A snapshot is a DuckDB file built from it, so it
can always be built again. DuckDB lets no reader beside a writer on one file, hence:

- a snapshot is built under a name of its own, synced, renamed to `snapshots/store-<version>-<digest>.duckdb` and never
  written again; `version` is a hash over truth and schema, `digest` one over the file;
- the file `current` names the snapshot in use with its checksum and is replaced at once (rename);
- readers open read-only. A pointer or snapshot that is missing, older than truth or damaged leads to a new build;
- where the home folder cannot be written, the same tables are built in memory, and `warnings` says so.

Connections see no files and no network, and their settings cannot be changed: a predicate out of a rule file can read
the tables and nothing else. One thread: the same query gives the same floats, whatever the machine.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import time
from types import TracebackType
from typing import Any

import duckdb
import numpy as np

from knowledge.errors import StoreError, UnknownNameError
from knowledge.evidence import PUBLISHED, efficiency_path, evidence_path
from knowledge.home import home
from knowledge.sources import all_sources

SCHEMA_VERSION = 1
"""Raised when tables or columns of a snapshot change."""
KEPT_SNAPSHOTS = 3

_LOG = logging.getLogger(__name__)
_Config = dict[str, str | bool | int | float | list[str]]
_SNAPSHOT = re.compile(r"store-[0-9a-f]{16}-[0-9a-f]{12}\.duckdb")
_BUILDING = re.compile(r"building-[0-9a-f]{32}\.duckdb(\.wal)?")
_STALE_S = 3600.0
"""Age at which a half-built file belongs to a process that died."""
_SETTINGS: _Config = {"threads": "1", "autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
_LOCKED: _Config = {"enable_external_access": "false", "lock_configuration": "true"}

Columns = dict[str, np.ndarray[Any, Any]]
"""A query's result by column; NULL is NaN in numbers and None elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What `doctor` tells about the knowledge base."""

    home: Path
    version: str
    snapshot: Path | None
    """None: the tables are in memory."""
    size_bytes: int | None
    rows: dict[str, int]
    """Rows by table."""
    warnings: tuple[str, ...]


class KnowledgeStore:
    """An open, read-only knowledge base; use it in a `with` statement.

    Attributes:
        connection: DuckDB connection with the tables `evidence`, `efficiency`, `sources` and `meta`; temporary tables may
            be created in it.
        version: hash over everything the tables were built from.
        snapshot: the file; None in memory.
        warnings: what a user should hear about (a home folder that cannot be written, …).
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        version: str,
        snapshot: Path | None = None,
        warnings: Sequence[str] = (),
        exclude_licences: Sequence[str] = (),
    ) -> None:
        self.connection = connection
        self.version = version
        self.snapshot = snapshot
        self.warnings = tuple(warnings)
        self._excluded = tuple(exclude_licences)
        _hide(connection, self._excluded)

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """The rows that `sql` returns; values of users go in as `$name` parameters, never as text."""
        return self.connection.execute(sql, dict(parameters or {})).fetchall()

    def columns(self, sql: str, parameters: Mapping[str, object] | None = None) -> Columns:
        """The result of `sql` by column, see `Columns`."""
        found = self.connection.execute(sql, dict(parameters or {})).fetchnumpy()
        return {name: _plain(values) for name, values in found.items()}

    @contextmanager
    def sandbox(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A second connection on the same tables, whose temporary tables vanish at its end."""
        cursor = self.connection.cursor()
        try:
            _hide(cursor, self._excluded)
            yield cursor
        finally:
            cursor.close()

    def close(self) -> None:
        """Close the connection; the snapshot stays."""
        self.connection.close()

    def __enter__(self) -> "KnowledgeStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_store(folder: Path | None = None, *, exclude_licences: Sequence[str] = ()) -> KnowledgeStore:
    """The knowledge base, built first where there is no valid snapshot.

    Args:
        folder: home folder; `home()` where not given.
        exclude_licences: licences of sources (`none stated`, `CC-BY-NC-4.0`) whose rows are left out.

    Raises:
        UnknownNameError: no source has such a licence.
        StoreError: the packaged files cannot be read.
    """
    _check_licences(exclude_licences)
    place = home() if folder is None else folder
    version = truth_version(place)
    warnings: list[str] = []
    connection, snapshot = _opened(place, version)
    if connection is None:
        try:
            snapshot = _build(place, version)
            connection = _connect(snapshot)
        except (OSError, duckdb.Error) as error:
            warnings.append(f"{place} cannot hold the knowledge base ({error}); it is rebuilt in memory at every start")
            _LOG.warning("%s", warnings[-1])
            connection, snapshot = _in_memory(version), None
    return KnowledgeStore(connection, version=version, snapshot=snapshot, warnings=warnings, exclude_licences=exclude_licences)


def scratch_connection() -> duckdb.DuckDBPyConnection:
    """An empty connection in memory that reaches no file and no network, to check SQL before it runs on a store."""
    return duckdb.connect(config=_SETTINGS | {"enable_external_access": "false"})


def rebuild(folder: Path | None = None) -> StoreInfo:
    """Build a new snapshot from truth, whatever is there, and point to it.

    Raises:
        StoreError: the home folder cannot be written, or the packaged files cannot be read.
    """
    place = home() if folder is None else folder
    try:
        _build(place, truth_version(place))
    except (OSError, duckdb.Error) as error:
        raise StoreError(
            f"cannot build the knowledge base in {place}: {error}",
            given=str(place),
            hint="set QADVISOR_HOME to a writable folder",
        ) from error
    return store_info(place)


def store_info(folder: Path | None = None) -> StoreInfo:
    """Facts about the knowledge base as it is opened now."""
    place = home() if folder is None else folder
    with open_store(place) as store:
        rows = {
            table: int(store.rows(f"SELECT count(*) FROM {table}")[0][0]) for table in ("evidence", "efficiency", "sources")
        }
        size = store.snapshot.stat().st_size if store.snapshot else None
        return StoreInfo(
            home=place, version=store.version, snapshot=store.snapshot, size_bytes=size, rows=rows, warnings=store.warnings
        )


def truth_version(folder: Path) -> str:
    """Sixteen hexadecimal digits over schema, packaged files and the user's run records."""
    digest = hashlib.sha256(f"schema {SCHEMA_VERSION}\n".encode())
    digest.update(_packaged_digest())
    for path in sorted((folder / "runs").rglob("*.json")):
        with suppress(OSError):  # a record that is being replaced counts when it is there again
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def write_parquet(path: Path, columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows to a Parquet file (zstd), replacing it at once.

    Args:
        path: the file.
        columns: column names with their DuckDB types, in the order of the values.
        rows: the values; None is NULL.
    """
    import csv
    import tempfile

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        table, result = Path(folder) / "rows.csv", Path(folder) / "rows.parquet"
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                ["\\N" if value is None else value for value in row] for row in rows
            )
        with duckdb.connect(config=_SETTINGS) as connection:
            read = connection.read_csv(
                str(table), header=False, columns=dict(columns), na_values="\\N", delimiter=",", quotechar='"', escapechar='"'
            )
            read.write_parquet(str(result), compression="zstd")
        os.replace(result, path)


def _opened(place: Path, version: str) -> tuple[duckdb.DuckDBPyConnection, Path] | tuple[None, None]:
    """The snapshot that the pointer names, if it is of this version and whole."""
    try:
        pointer = json.loads((place / "current").read_text(encoding="utf-8"))
        if pointer["version"] != version or not _SNAPSHOT.fullmatch(pointer["file"]):
            return None, None
        path = place / "snapshots" / pointer["file"]
        if hashlib.sha256(path.read_bytes()).hexdigest() != pointer["sha256"]:
            _LOG.warning("%s is damaged and is rebuilt", path)
            return None, None
        return _connect(path), path
    except (OSError, ValueError, KeyError, TypeError, duckdb.Error) as error:
        _LOG.debug("no valid snapshot in %s: %s", place, error)
        return None, None


def _build(place: Path, version: str) -> Path:
    """Build, sync and publish a snapshot; returns its path."""
    folder = place / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    building = folder / f"building-{os.urandom(16).hex()}.duckdb"
    try:
        with duckdb.connect(str(building), config=_SETTINGS) as connection:
            _load(connection, version)
            connection.execute("CHECKPOINT")
        content = building.read_bytes()
        _sync(building)
        digest = hashlib.sha256(content).hexdigest()
        snapshot = folder / f"store-{version}-{digest[:12]}.duckdb"
        os.replace(building, snapshot)
    finally:
        building.unlink(missing_ok=True)
    _point(place, {"version": version, "file": snapshot.name, "sha256": digest})
    _prune(folder, snapshot)
    return snapshot


def _point(place: Path, pointer: Mapping[str, str]) -> None:
    written = place / f"current-{os.urandom(16).hex()}"
    try:
        written.write_text(json.dumps(pointer, sort_keys=True) + "\n", encoding="utf-8")
        _sync(written)
        os.replace(written, place / "current")
    finally:
        written.unlink(missing_ok=True)


def _prune(folder: Path, current: Path) -> None:
    """Remove snapshots of this program beyond the newest few, and what died half-built; nothing else, ever."""
    ages: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        with suppress(OSError):
            if _SNAPSHOT.fullmatch(path.name):
                ages.append((path.stat().st_mtime, path))
            elif _BUILDING.fullmatch(path.name) and time() - path.stat().st_mtime > _STALE_S:
                path.unlink()
    for _, path in sorted(ages, reverse=True)[KEPT_SNAPSHOTS:]:
        if path != current:
            with suppress(OSError):  # still open elsewhere, on systems that mind
                path.unlink()


def _load(connection: duckdb.DuckDBPyConnection, version: str) -> None:
    """Create the tables from truth."""
    connection.from_parquet(str(evidence_path())).order("model, task, evidence_id").create("evidence")
    connection.from_parquet(str(efficiency_path())).create("efficiency")
    connection.execute("CREATE TABLE sources (id VARCHAR, title VARCHAR, origin VARCHAR, licence VARCHAR, caveats VARCHAR)")
    values = [(source.id, source.title, source.origin, source.licence, source.caveats) for source in all_sources().values()]
    connection.executemany("INSERT INTO sources VALUES (?, ?, ?, ?, ?)", values)
    connection.execute("CREATE TABLE meta AS SELECT $version AS version, $schema::INTEGER AS schema_version",
                       {"version": version, "schema": SCHEMA_VERSION})  # fmt: skip


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(path), read_only=True, config=_SETTINGS | _LOCKED)


def _in_memory(version: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config=_SETTINGS)
    _load(connection, version)
    for name, value in _LOCKED.items():
        connection.execute(f"SET {name} = {value}")
    return connection


def _hide(connection: duckdb.DuckDBPyConnection, licences: Sequence[str]) -> None:
    """Put tables without the rows of `licences` before those of the snapshot."""
    for table in ("evidence", "efficiency", "sources") if licences else ():
        connection.execute(
            f"CREATE TEMP TABLE {table} AS SELECT * FROM main.{table} WHERE list_position($licences, licence) IS NULL",
            {"licences": list(licences)},
        )


def _check_licences(licences: Sequence[str]) -> None:
    known = sorted({source.licence for source in all_sources().values()})
    for licence in licences:
        if licence not in known:
            raise UnknownNameError.of("licence", licence, known)


@lru_cache(maxsize=1)
def _packaged_digest() -> bytes:
    digest = hashlib.sha256()
    for path in (evidence_path(), efficiency_path(), PUBLISHED / "sources.csv"):
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise StoreError(
                f"the packaged evidence cannot be read: {error}", given=str(path), hint="reinstall qadvisor"
            ) from error
    return digest.digest()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _plain(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array without mask: NaN or None where it was masked."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    plain: np.ndarray[Any, Any] = values.data.astype(np.float64 if values.dtype.kind in "fiu" else object)
    plain[np.ma.getmaskarray(values)] = np.nan if plain.dtype.kind == "f" else None
    return plain
