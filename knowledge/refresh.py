"""One refresh is one atomic publish: rows are taken in, the next version is built aside, and a pointer is swapped.

Everything is finished and synced before the pointer names it, in the order in which things refer to each other: records,
batches, refused rows, snapshot, manifest, log, pointer. A process that dies anywhere in between leaves the previous version
in use, and files under hash names that the next refresh finds again or replaces. Nothing of the user's is ever removed.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from knowledge import snapshot as snapshots
from knowledge.batches import Table, check_batch, known_hashes, write_batch
from knowledge.database import DatabaseError
from knowledge.errors import DataError
from knowledge.files import copy_whole, move_whole, sha256_of
from knowledge.home import home as home_folder
from knowledge.intake import Intake, take_in
from knowledge.locks import refresh_lock
from knowledge.pointer import PREDICTORS, pointer_lock, read_pointer, write_pointer
from knowledge.remote import fetch, is_url
from knowledge.restore import content_of, find_or_build, place, version_in_use
from knowledge.staging import Staged, clear_errors, make_staged, work_folder
from knowledge.versions import BATCHES, Manifest, find_version, load_manifest, note_move, now, save_manifest

RUNS = "runs"
QUARANTINE = Path(RUNS, "quarantine")
AGAIN = "again"
"""Folder of records whose name another record in `runs/` has."""
Known = Callable[[Sequence[str]], set[str]]
"""Which of some row hashes the version in use has."""


@contextmanager
def stage_intake(
    read: Callable[[Known], Intake],
    *,
    home: Path | None = None,
    wait_s: float = 60.0,
    dry_run: bool = False,
    on_wait: Callable[[str], None] = lambda holder: None,
) -> Iterator[Staged]:
    """Build the version that follows from what `read` gives, aside; `publish` puts it into use.

    Args:
        read: reads files; it is told how to ask which rows are known.
        home: home folder; the environment's where not given.
        wait_s: seconds to wait for another refresh.
        dry_run: whether nothing will be published: the home folder is left as it is.
        on_wait: told who holds the lock, when there is something to wait for.

    Raises:
        StoreError: another refresh is at work, the disk is full, the folder cannot be written, or the version in use
            cannot be read.
    """
    where = home_folder() if home is None else home
    with nullcontext() if dry_run else refresh_lock(where, wait_s=wait_s, on_wait=on_wait):
        parent = _parent(where)
        with work_folder(where, parent, dry_run=dry_run) as folder:
            files = [batch.path(where) for batch in parent.batches if batch.path(where).is_file()]
            intake = read(lambda hashes: known_hashes(files, hashes))
            tables: dict[Table, Sequence[Sequence[object]]] = {"evidence": intake.rows, "efficiency": intake.efficiency}
            with clear_errors(where, parent):
                written = [(table, write_batch(folder, table, rows)) for table, rows in tables.items() if rows]
                staged = make_staged(where, parent, intake, folder, written, dry_run=dry_run)
            yield staged


@contextmanager
def stage(
    paths: Sequence[str | Path] = (),
    *,
    baseline: Path | None = None,
    mapping: Path | None = None,
    home: Path | None = None,
    wait_s: float = 60.0,
    dry_run: bool = False,
    on_wait: Callable[[str], None] = lambda holder: None,
) -> Iterator[Staged]:
    """Take files in, and build the version that follows from them.

    Args:
        paths: files, folders, patterns and URLs; the home folder's `runs/` where none are given.
        baseline: result of the unquantized model, for results that do not say which it was.
        mapping: table that says it file by file.
        home: as for `stage_intake`, like the others.
        wait_s: seconds to wait for another refresh.
        dry_run: whether nothing will be published.
        on_wait: told who holds the lock.

    Raises:
        StoreError: as for `stage_intake`.
        QAdvisorError: a path is missing, or cannot be understood.
    """
    where = home_folder() if home is None else home
    with TemporaryDirectory(prefix="qadvisor-") as folder:
        local = [fetch(str(path), Path(folder, str(n))) if is_url(path) else path for n, path in enumerate(paths)]
        names = {Path(place): str(path) for place, path in zip(local, paths, strict=True) if is_url(path)}
        if not paths and (where / RUNS).is_dir():
            local = [where / RUNS]

        def read(known: Known) -> Intake:
            return take_in(local, baseline=baseline, mapping=mapping, known=known, beside=where / RUNS, names=names)

        with stage_intake(read, home=where, wait_s=wait_s, dry_run=dry_run, on_wait=on_wait) as staged:
            yield staged


@contextmanager
def adopt(files: Sequence[Path], *, home: Path | None = None, wait_s: float = 60.0) -> Iterator[Staged]:
    """Stage ready-made batches of scores, Parquet files with `BATCH_COLUMNS` that no version has; for large collections.

    Raises:
        StoreError: as for `stage`.
        DataError: a file has not the columns of a batch.
    """
    where = home_folder() if home is None else home
    with refresh_lock(where, wait_s=wait_s):
        parent = _parent(where)
        with work_folder(where, parent, dry_run=False) as folder:
            for file in files:
                try:
                    check_batch(file, "evidence")
                except (ValueError, DatabaseError) as error:
                    raise DataError(f"{file} is no batch: {error}", given=str(file)) from error
            with clear_errors(where, parent):
                copies: list[tuple[Table, Path]] = [("evidence", _named_copy(file, folder)) for file in files]
                staged = make_staged(where, parent, Intake(), folder, copies, dry_run=False)
            yield staged


def publish(staged: Staged, *, predictor: Path | None = None, backtest: Mapping[str, Any] | None = None) -> Manifest:
    """Put a staged version into use; returns it, or its parent where nothing changed.

    Args:
        staged: what `stage` gave, still within its `with` statement.
        predictor: file of a predictor that was fitted to it; the parent's stays where None.
        backtest: figures by which the predictor was chosen or refused.

    Raises:
        StoreError: the disk is full, or the home folder cannot be written; the parent stays in use.
        ValueError: the version was staged as a dry run.
    """
    if staged.dry_run:
        raise ValueError("a dry run is not published")
    home = staged.home
    with clear_errors(home, staged.parent):
        _keep_records(home, staged.intake.records)
        if staged.quarantine is not None:
            move_whole(staged.quarantine, home / QUARANTINE / staged.quarantine.name)
        draft = replace(staged.content.manifest, backtest=dict(backtest) if backtest is not None else None)
        if predictor is not None:
            draft = replace(draft, predictor=_keep_predictor(home, predictor))
        if not staged.new and backtest is None and _same(draft, staged.parent):
            return staged.parent
        for batch, file in staged.files.items():
            target = home / BATCHES / f"{batch}.parquet"
            if not target.exists():
                move_whole(file, target)
        manifest = replace(draft, created=now()).sealed()
        content = replace(staged.content, manifest=manifest)
        if staged.snapshot is None:
            snapshot, digest = find_or_build(home, content)
        else:
            snapshot, digest = place(home, staged.snapshot, content.data)
        save_manifest(home, manifest)
        note_move(home, "refresh", version=manifest.id, before=staged.parent.id)
        with pointer_lock(home):
            write_pointer(home, content.pointer(snapshot, digest))
        snapshots.prune(home, snapshot)
    return manifest


def rollback(name: str, *, home: Path | None = None, wait_s: float = 60.0) -> Manifest:
    """Put an earlier version into use; no file is removed, and the way back is the same.

    Args:
        name: id of the version, the beginning of one, or `packaged`.
        home: home folder; the environment's where not given.
        wait_s: seconds to wait for a refresh that is at work.

    Raises:
        UnknownNameError: there is no such version.
        StoreError: its manifest is damaged, or the home folder cannot be written.
    """
    where = home_folder() if home is None else home
    with refresh_lock(where, wait_s=wait_s):
        before, _ = version_in_use(where)
        manifest = find_version(where, name, current=before.id)
        with clear_errors(where, before):
            content = content_of(where, manifest)
            snapshot, digest = find_or_build(where, content)
            if manifest.id != before.id:
                note_move(where, "rollback", version=manifest.id, before=before.id)
            with pointer_lock(where):
                write_pointer(where, content.pointer(snapshot, digest))
            snapshots.prune(where, snapshot)
    return manifest


def _parent(home: Path) -> Manifest:
    """The version to build on: the one in use, which must be readable, or rows would be lost from sight."""
    pointer = read_pointer(home)
    return load_manifest(home, pointer.version) if pointer else version_in_use(home)[0]


def _same(draft: Manifest, parent: Manifest) -> bool:
    return (draft.predictor, set(draft.broken)) == (parent.predictor, set(parent.broken))


def _named_copy(file: Path, folder: Path) -> Path:
    copy = folder / f"{sha256_of(file)[:16]}.parquet"
    shutil.copyfile(file, copy)
    return copy


def _keep_records(home: Path, records: Sequence[Path]) -> None:
    """Copy run records from elsewhere into the user's `runs/`, where the name of a record says what was run.

    Where another record has that name (the same run, run again), the newcomer goes to a folder beside it.
    """
    runs = home / RUNS
    for record in records:
        if record.resolve().is_relative_to(runs.resolve()):
            continue
        target, digest = runs / record.name, sha256_of(record)
        if target.exists() and sha256_of(target) != digest:
            target = runs / AGAIN / f"{record.stem}-{digest[:8]}.json"
        if not target.exists():
            copy_whole(record, target)


def _keep_predictor(home: Path, predictor: Path) -> str:
    name = sha256_of(predictor)[:16]
    target = home / PREDICTORS / f"{name}.safetensors"
    if predictor != target:
        copy_whole(predictor, target)
    return name
