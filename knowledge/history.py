"""Looking back and checking: the versions so far, how two differ, and whether every file is what it should be."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from knowledge.batches import RowCount, rows_only_in
from knowledge.files import sha256_of
from knowledge.pointer import FILE, SNAPSHOTS, predictor_path, read_pointer
from knowledge.restore import is_whole, version_in_use
from knowledge.versions import BATCHES, Manifest, Move, all_manifests, damaged_manifests, find_version, read_log


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The versions of a home folder."""

    current: str
    """Id of the version in use."""
    versions: tuple[Manifest, ...]
    """The newest first."""
    moves: tuple[Move, ...]
    """Every change of the version in use, the newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What one version has and another has not."""

    before: Manifest
    after: Manifest
    added: tuple[RowCount, ...]
    removed: tuple[RowCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One file, and what is wrong with it."""

    file: str
    """Path under the home folder."""
    state: Literal["whole", "damaged", "missing", "unused"]
    detail: str


def history(home: Path) -> History:
    """The versions of a home folder, and how it came to the one in use."""
    current, _ = version_in_use(home)
    return History(current=current.id, versions=tuple(reversed(all_manifests(home))), moves=tuple(reversed(read_log(home))))


def difference(home: Path, before: str, after: str) -> Difference:
    """The rows in which two versions differ.

    Args:
        home: home folder.
        before: id of a version, the beginning of one, `current` or `packaged`.
        after: another.

    Raises:
        UnknownNameError: there is no such version.
        StoreError: a manifest is damaged.
    """
    current, _ = version_in_use(home)
    old, new = (find_version(home, name, current=current.id) for name in (before, after))
    only_old = [batch.path(home) for batch in old.batches if batch not in new.batches and is_whole(home, batch)]
    only_new = [batch.path(home) for batch in new.batches if batch not in old.batches and is_whole(home, batch)]
    return Difference(
        before=old, after=new, added=tuple(rows_only_in(only_new, only_old)), removed=tuple(rows_only_in(only_old, only_new))
    )


def verify(home: Path) -> list[Finding]:
    """Read and hash every file of every version; the time it takes grows with the store."""
    return [*_pointer(home), *_manifests(home), *_batches(home), *_predictors(home)]


def _pointer(home: Path) -> Iterator[Finding]:
    pointer = read_pointer(home)
    if pointer is None:
        if (home / FILE).exists():
            yield Finding(file=FILE, state="damaged", detail="the next question writes it anew")
        return
    name = f"{SNAPSHOTS}/{pointer.file}"
    try:
        good = sha256_of(home / name) == pointer.sha256
    except OSError:
        yield Finding(file=name, state="missing", detail="the next question builds it anew")
        return
    hint = "`qadvisor doctor --rebuild` builds it anew"
    yield Finding(file=name, state="whole" if good else "damaged", detail=f"tables of {pointer.version}" if good else hint)


def _manifests(home: Path) -> Iterator[Finding]:
    for manifest in all_manifests(home)[1:]:
        yield Finding(file=f"versions/{manifest.id}.json", state="whole", detail=f"{manifest.rows:,} rows")
    for name in damaged_manifests(home):
        hint = "`qadvisor knowledge rollback ID` chooses another version"
        yield Finding(file=f"versions/{name}", state="damaged", detail=hint)


def _batches(home: Path) -> Iterator[Finding]:
    named = {batch.id: batch for manifest in all_manifests(home) for batch in manifest.batches}
    for batch in named.values():
        file = batch.path(home)
        state: Literal["whole", "damaged", "missing"] = "missing"
        if file.is_file():
            state = "whole" if is_whole(home, batch) else "damaged"
        detail = f"{batch.rows:,} rows"
        if state != "whole":
            detail += " do not count; put the file back, or refresh from the originals"
        yield Finding(file=file.relative_to(home).as_posix(), state=state, detail=detail)
    for file in sorted((home / BATCHES).glob("*.parquet")):
        if file.stem not in named:
            detail = "no version has it: a refresh was interrupted, and the next one over the same files takes it up"
            yield Finding(file=file.relative_to(home).as_posix(), state="unused", detail=detail)


def _predictors(home: Path) -> Iterator[Finding]:
    for name in sorted({manifest.predictor for manifest in all_manifests(home) if manifest.predictor}):
        file = predictor_path(home, name)
        if file is None or not file.is_file():
            yield Finding(
                file=f"predictors/{name}.safetensors", state="missing", detail="the packaged predictor answers in its place"
            )
            continue
        good = sha256_of(file).startswith(name)
        detail = "fitted by a refresh" if good else "the packaged predictor answers in its place"
        yield Finding(file=f"predictors/{name}.safetensors", state="whole" if good else "damaged", detail=detail)
