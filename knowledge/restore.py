"""From a version to an open database: by the pointer where it holds, else by finding or building a snapshot.

Whoever repairs something swaps the pointer only if it is as it was when the repair began: a refresh that published
meanwhile is not undone.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from knowledge import snapshot as snapshots
from knowledge.database import Connection, DatabaseError, in_memory, lock, read_only, working
from knowledge.errors import StoreError
from knowledge.files import move_whole, sha256_of
from knowledge.pointer import SNAPSHOTS, Opened, Pointer, packaged_digest, packaged_stamp, read_pointer, stamp, swap_pointer
from knowledge.versions import Batch, Manifest, data_version, find_version, last_version, load_manifest

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What the tables of a version are to be built from."""

    manifest: Manifest
    batches: tuple[Batch, ...]
    """Those of the manifest that are whole."""
    warnings: tuple[str, ...]
    packaged: str
    packaged_stamp: tuple[tuple[str, int, int], ...]

    @property
    def data(self) -> str:
        """Version of the tables."""
        return data_version(self.packaged, self.batches, self.manifest.broken, snapshots.SCHEMA_VERSION)

    def pointer(self, snapshot: Path, sha256: str) -> Pointer:
        """The pointer that puts this version into use."""
        return Pointer(
            version=self.manifest.id, predictor=self.manifest.predictor, data=self.data, file=snapshot.name, sha256=sha256,
            stamp=stamp(snapshot), packaged=self.packaged, packaged_stamp=self.packaged_stamp,
        )  # fmt: skip


def content_of(home: Path, manifest: Manifest, *, warnings: Sequence[str] = ()) -> Content:
    """What a version is built from; batches that are gone or damaged are left out, and a warning says so.

    Raises:
        StoreError: the packaged files cannot be read.
    """
    whole = tuple(batch for batch in manifest.batches if is_whole(home, batch))
    lost = [
        f"the batch {batch.path(home)} of version {manifest.id} is gone or damaged: its {batch.rows:,} rows do not count; put"
        " the file back, or refresh from the originals"
        for batch in manifest.batches
        if batch not in whole
    ]
    stamps = packaged_stamp()
    return Content(
        manifest=manifest, batches=whole, warnings=(*warnings, *lost), packaged=packaged_digest(stamps), packaged_stamp=stamps
    )


def is_whole(home: Path, batch: Batch) -> bool:
    """Whether the file of a batch is there and is what its name says."""
    try:
        return sha256_of(batch.path(home)).startswith(batch.id)
    except OSError:
        return False


def version_in_use(home: Path) -> tuple[Manifest, tuple[str, ...]]:
    """The version that a home folder is at, and what a user should hear about that."""
    pointer = read_pointer(home)
    if pointer is None:
        return last_version(home), ()
    try:
        return load_manifest(home, pointer.version), ()
    except StoreError as error:
        manifest = last_version(home)
        return manifest, (f"{error.message}; version {manifest.id} is used in its place",)


def restored(home: Path, version: str | None) -> Opened:
    """Find or build the snapshot of a version (the one in use where None, which then gets the pointer).

    Raises:
        UnknownNameError: there is no such version.
        StoreError: its manifest, or the packaged files, cannot be read.
    """
    seen = read_pointer(home)
    manifest, warnings = version_in_use(home)
    if version is not None:
        manifest, warnings = find_version(home, version, current=manifest.id), ()
    content = content_of(home, manifest, warnings=warnings)
    connection, snapshot = None, None
    try:
        snapshot, sha256 = find_or_build(home, content)
        try:
            connection = read_only(snapshot)
        except DatabaseError as error:  # whole, and written by another version of DuckDB
            _LOG.debug("%s cannot be opened: %s", snapshot, error)
            snapshot, sha256 = build(home, content)
            connection = read_only(snapshot)
        if version is None:
            swap_pointer(home, seen, content.pointer(snapshot, sha256))
        snapshots.prune(home, snapshot)
    except (OSError, DatabaseError) as error:
        if connection is None:
            why = f"{home} cannot hold the knowledge base ({error}); it is rebuilt in memory at every start"
            content, snapshot = replace(content, warnings=(*content.warnings, why)), None
            connection = _built_in_memory(home, content)
    for warning in content.warnings:
        _LOG.warning("%s", warning)
    return Opened(
        connection=connection, version=manifest.id, predictor=manifest.predictor, data=content.data, snapshot=snapshot,
        warnings=content.warnings,
    )  # fmt: skip


def find_or_build(home: Path, content: Content) -> tuple[Path, str]:
    """The snapshot of `content` with its SHA-256: one that is there and whole, else a new one.

    Raises:
        OSError: the home folder cannot be written, or the disk is full.
        DatabaseError: likewise, or a batch is no Parquet file.
    """
    found = snapshots.find_snapshot(home, content.data)
    if found is not None:
        digest = sha256_of(found)
        if found.name == snapshot_name(content.data, digest):
            return found, digest
        _LOG.warning("%s is damaged and is rebuilt", found)
        found.unlink()
    return build(home, content)


def build(home: Path, content: Content) -> tuple[Path, str]:
    """Build the snapshot of `content` from truth, whatever is there; the errors are those of `find_or_build`."""
    folder = home / SNAPSHOTS
    folder.mkdir(parents=True, exist_ok=True)
    building = folder / f"building-{os.urandom(16).hex()}.duckdb"
    try:
        with working(building) as connection:
            snapshots.create_tables(
                connection, lambda batch: batch.path(home), content.batches, content.manifest.broken, content.data
            )
            connection.execute("CHECKPOINT")
        return place(home, building, content.data)
    finally:
        building.unlink(missing_ok=True)
        shutil.rmtree(building.with_suffix(".tmp"), ignore_errors=True)


def place(home: Path, finished: Path, data: str) -> tuple[Path, str]:
    """Sync a finished snapshot and give it its name; returns its path and SHA-256.

    Raises:
        OSError: the home folder cannot be written.
    """
    digest = sha256_of(finished)
    snapshot = home / SNAPSHOTS / snapshot_name(data, digest)
    move_whole(finished, snapshot)
    return snapshot, digest


def snapshot_name(data: str, digest: str) -> str:
    """Name of the snapshot of these tables with this SHA-256."""
    return f"store-{data}-{digest[:12]}.duckdb"


def _built_in_memory(home: Path, content: Content) -> Connection:
    connection = in_memory()
    snapshots.create_tables(connection, lambda batch: batch.path(home), content.batches, content.manifest.broken, content.data)
    lock(connection)
    return connection
