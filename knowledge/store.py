"""The knowledge base, open for questions.

Truth is immutable: the packaged Parquet files, and the batches of measured rows that a version names
(`knowledge.versions`). A snapshot is a DuckDB file built from it, so it can always be built again. DuckDB lets no reader
beside a writer on one file, hence:

- a snapshot is built under a name of its own, synced, renamed to `snapshots/store-<data>-<digest>.duckdb` and never
  written again; `data` is a hash over truth and schema, `digest` one over the file;
- the file `current` names version and snapshot in use and is replaced at once (`knowledge.pointer`);
- readers open read-only. A pointer or snapshot that is missing, older than truth or damaged leads to a new build;
- where the home folder cannot be written, the same tables are built in memory, and `warnings` says so.

`knowledge.restore` does the finding and building, `knowledge.database` the connecting.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from knowledge.database import Columns, Connection, DatabaseError, plain_values
from knowledge.errors import StoreError, UnknownNameError
from knowledge.home import home
from knowledge.pointer import (
    PACKAGED,
    Opened,
    answer_version,
    holds,
    pointed,
    predictor_path,
    read_pointer,
    sound_predictor,
    swap_pointer,
)
from knowledge.sources import all_sources
from knowledge.values import value

_DAMAGED = "Corrupt database file"
"""What DuckDB says of a block whose checksum does not fit."""


@value
class StoreInfo:
    """What `doctor` tells about the knowledge base."""

    home: Path
    version: str
    version_id: str
    """Id of the version of the user's knowledge that is in use."""
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
        version: hash over everything the tables were built from, and over the predictor that goes with them.
        version_id: id of the version of the user's knowledge; `knowledge.versions.load_manifest` has its facts.
        predictor: file of the version's predictor; None for the packaged one.
        snapshot: the file; None in memory.
        warnings: what a user should hear about (a home folder that cannot be written, …).
    """

    def __init__(
        self,
        connection: Connection,
        *,
        version: str,
        version_id: str = PACKAGED,
        predictor: Path | None = None,
        snapshot: Path | None = None,
        warnings: Sequence[str] = (),
        exclude_licences: Sequence[str] = (),
    ) -> None:
        self.connection = connection
        self.version = version
        self.version_id = version_id
        self.predictor = predictor
        self.snapshot = snapshot
        self.warnings = tuple(warnings)
        self._excluded = tuple(exclude_licences)
        self._kept: dict[tuple[object, ...], tuple[Mapping[str, Any], ...]] = {}
        _hide(connection, self._excluded)

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """The rows that `sql` returns; values of users go in as `$name` parameters, never as text."""
        with self._reading():
            return self.connection.execute(sql, dict(parameters or {})).fetchall()

    def columns(self, sql: str, parameters: Mapping[str, object] | None = None) -> Columns:
        """The result of `sql` by column, see `Columns`."""
        with self._reading():
            found = self.connection.execute(sql, dict(parameters or {})).fetchnumpy()
        return {name: plain_values(values) for name, values in found.items()}

    def kept_rows(self, sql: str, parameters: Mapping[str, object]) -> tuple[Mapping[str, Any], ...]:
        """The rows by column name, NULL as None, worked out once: the tables never change while the store is open."""
        key = (sql, *parameters.items())
        if key not in self._kept:
            with self._reading():
                found = self.connection.execute(sql, dict(parameters))
                names = [column[0] for column in found.description or ()]
                self._kept[key] = tuple(dict(zip(names, row, strict=True)) for row in found.fetchall())
        return self._kept[key]

    @contextmanager
    def sandbox(self) -> Iterator[Connection]:
        """A second connection on the same tables, whose temporary tables vanish at its end."""
        cursor = self.connection.cursor()
        try:
            _hide(cursor, self._excluded)
            yield cursor
        finally:
            cursor.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Notice a block that the disk has damaged since the file was written: the snapshot is dropped, a cache as it is."""
        try:
            yield
        except DatabaseError as error:
            if self.snapshot is None or _DAMAGED not in str(error):
                raise
            self.close()
            with suppress(OSError):
                self.snapshot.unlink()
            raise StoreError(
                f"the snapshot {self.snapshot} was damaged on the disk", given=str(self.snapshot),
                hint="ask again: it is built anew from the packaged figures and your own, which are not affected",
            ) from error  # fmt: skip

    def close(self) -> None:
        """Close the connection; the snapshot stays."""
        self.connection.close()

    def __enter__(self) -> "KnowledgeStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_store(
    folder: Path | None = None, *, version: str | None = None, exclude_licences: Sequence[str] = ()
) -> KnowledgeStore:
    """The knowledge base, built first where there is no valid snapshot.

    Args:
        folder: home folder; `home()` where not given.
        version: a version of the user's knowledge, by its id or as `knowledge.versions.find_version` takes it; the one in
            use where not given.
        exclude_licences: licences of sources (`none stated`, `CC-BY-NC-4.0`) whose rows are left out.

    Raises:
        UnknownNameError: no source has such a licence, or there is no such version.
        StoreError: the packaged files cannot be read, or the version's manifest cannot.
    """
    _check_licences(exclude_licences)
    place = home() if folder is None else folder
    found = pointed(place)
    if found is not None and version not in (None, found.version):
        found.connection.close()
        found = None
    if found is None:
        from knowledge import restore  # what builds costs start-up time, and is seldom needed

        found = restore.restored(place, version)
    return opened_store(place, found, exclude_licences=exclude_licences)


def opened_store(home: Path, found: Opened, *, exclude_licences: Sequence[str] = ()) -> KnowledgeStore:
    """An open database as a knowledge base; the arguments are those of `open_store`."""
    predictor, warnings = sound_predictor(home, found.predictor), found.warnings
    if predictor != found.predictor:
        name = predictor_path(home, found.predictor)
        warnings = (*warnings, f"the fitted predictor {name} is gone or damaged: the packaged one answers")
    return KnowledgeStore(
        found.connection,
        version=answer_version(found.data, predictor),
        version_id=found.version,
        predictor=predictor_path(home, predictor),
        snapshot=found.snapshot,
        warnings=warnings,
        exclude_licences=exclude_licences,
    )


def current_version(folder: Path) -> str:
    """The `version` of the store that `open_store` would open, at the price of a look at a few files.

    Raises:
        StoreError: the packaged files cannot be read.
    """
    pointer = read_pointer(folder)
    with suppress(OSError):
        if pointer is not None and holds(folder, pointer):
            return answer_version(pointer.data, sound_predictor(folder, pointer.predictor))
    from knowledge import restore

    manifest, _ = restore.version_in_use(folder)
    return answer_version(restore.content_of(folder, manifest).data, sound_predictor(folder, manifest.predictor))


def rebuild(folder: Path | None = None) -> StoreInfo:
    """Build a new snapshot from truth, whatever is there, and point to it.

    Raises:
        StoreError: the home folder cannot be written, or the packaged files cannot be read.
    """
    place = home() if folder is None else folder
    from knowledge import restore
    from knowledge.snapshot import prune

    seen = read_pointer(place)
    try:
        manifest, _ = restore.version_in_use(place)
        content = restore.content_of(place, manifest)
        snapshot, digest = restore.build(place, content)
        swap_pointer(place, seen, content.pointer(snapshot, digest))
        prune(place, snapshot)
    except (OSError, DatabaseError) as error:
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
            home=place, version=store.version, version_id=store.version_id, snapshot=store.snapshot, size_bytes=size,
            rows=rows, warnings=store.warnings,
        )  # fmt: skip


def _hide(connection: Connection, licences: Sequence[str]) -> None:
    """Put views without the rows of `licences` before those of the snapshot."""
    if not licences:
        return
    listed = ", ".join("'" + licence.replace("'", "''") + "'" for licence in licences)  # a view takes no parameters
    (database,) = connection.execute("SELECT current_database()").fetchone() or ("memory",)
    for table in ("evidence", "efficiency", "sources"):
        connection.execute(
            f'CREATE TEMP VIEW {table} AS SELECT * FROM "{database}".main.{table} WHERE licence NOT IN ({listed})'
        )


def _check_licences(licences: Sequence[str]) -> None:
    known = sorted({source.licence for source in all_sources().values()})
    for licence in licences:
        if licence not in known:
            raise UnknownNameError.of("licence", licence, known)
