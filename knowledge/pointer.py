"""The pointer `current`: which version is in use, and which snapshot holds it.

Opening must not cost more with a larger knowledge base. So the pointer keeps what a look at the file system can compare:
size and time of the snapshot, and of the packaged files that it was built from. Only where these differ is a file read and
hashed; DuckDB checks every block that it reads by a checksum of its own, and `qadvisor knowledge verify` hashes all.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from knowledge.database import Connection, DatabaseError, read_only
from knowledge.errors import StoreError
from knowledge.evidence import PUBLISHED, efficiency_path, evidence_path
from knowledge.files import locked, sha256_of, write_whole
from knowledge.values import value

FILE = "current"
SNAPSHOTS = "snapshots"
PREDICTORS = "predictors"
PACKAGED = "packaged"
"""Id of the version without measured rows."""
SNAPSHOT = re.compile(r"store-(?P<data>[0-9a-f]{16})-(?P<digest>[0-9a-f]{12})\.duckdb")
_ID = re.compile(rf"[0-9a-f]{{16}}|{PACKAGED}")
_LOCK = ".current.lock"
_LOCK_S = 30.0
"""The lock is held for one small write; who waits longer has a file system without locks."""
_TRIES = 5
"""Times that a pointer which moved while it was followed is read again."""


@value
class Pointer:
    """Content of the file `current`."""

    version: str
    """Id of the version in use."""
    predictor: str | None
    """Id of its predictor; None for the packaged one."""
    data: str
    """Version of the tables."""
    file: str
    """Name of the snapshot."""
    sha256: str
    stamp: tuple[int, int]
    """Size in bytes and time (ns) of the snapshot."""
    packaged: str
    """Digest of the packaged files."""
    packaged_stamp: tuple[tuple[str, int, int], ...]
    """Path, size in bytes and time (ns) of each."""


class Opened(NamedTuple):
    """A database with the tables of a version."""

    connection: Connection
    version: str
    """Id of the version."""
    predictor: str | None
    data: str
    """Version of the tables."""
    snapshot: Path | None = None
    """None: in memory."""
    warnings: tuple[str, ...] = ()


def pointed(home: Path) -> Opened | None:
    """The snapshot that the pointer names, if it is whole and of this installation."""
    seen: list[Pointer] = []
    while len(seen) < _TRIES:
        pointer = read_pointer(home)
        if pointer is None or pointer in seen:
            return None
        seen.append(pointer)
        with suppress(OSError, DatabaseError):
            if holds(home, pointer):
                path = home / SNAPSHOTS / pointer.file
                return Opened(
                    connection=read_only(path), version=pointer.version, predictor=pointer.predictor, data=pointer.data,
                    snapshot=path,
                )  # fmt: skip
    return None


def holds(home: Path, pointer: Pointer) -> bool:
    """Whether pointer, snapshot and packaged files belong together, by a look at sizes and times.

    Raises:
        OSError: the snapshot is missing.
        StoreError: a packaged file is missing.
    """
    return stamp(home / SNAPSHOTS / pointer.file) == pointer.stamp and packaged_stamp() == pointer.packaged_stamp


def predictor_path(home: Path, predictor: str | None) -> Path | None:
    """File of a fitted predictor; None for the packaged one."""
    return None if predictor is None else home / PREDICTORS / f"{predictor}.safetensors"


def sound_predictor(home: Path, predictor: str | None) -> str | None:
    """`predictor` where its file is there and is what its name says; else None, for the packaged one."""
    path = predictor_path(home, predictor)
    try:
        return predictor if path is not None and sha256_of(path).startswith(str(predictor)) else None
    except OSError:
        return None


def answer_version(data: str, predictor: str | None) -> str:
    """Sixteen hexadecimal digits over the tables and the predictor that goes with them."""
    return data if predictor is None else hashlib.sha256(f"{data} {predictor}".encode()).hexdigest()[:16]


def read_pointer(home: Path) -> Pointer | None:
    """The pointer; None where it is missing or cannot be understood."""
    try:
        fields = json.loads((home / FILE).read_bytes())
        pointer = Pointer(
            **(fields | {"stamp": tuple(fields["stamp"]), "packaged_stamp": tuple(map(tuple, fields["packaged_stamp"]))})
        )
        named = SNAPSHOT.fullmatch(pointer.file)
        sound = named is not None and named["data"] == pointer.data and _ID.fullmatch(pointer.version) is not None
        return pointer if sound else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_pointer(home: Path, pointer: Pointer) -> None:
    """Swap the pointer.

    Raises:
        OSError: the home folder cannot be written; the pointer is unchanged.
    """
    write_whole(home / FILE, json.dumps(asdict(pointer), sort_keys=True) + "\n")


def swap_pointer(home: Path, seen: Pointer | None, pointer: Pointer) -> bool:
    """Swap the pointer if it still is what was `seen`; who repairs must not undo what another published meanwhile.

    Raises:
        OSError: the home folder cannot be written.
    """
    with pointer_lock(home):
        if read_pointer(home) != seen:
            return False
        write_pointer(home, pointer)
        return True


@contextmanager
def pointer_lock(home: Path) -> Iterator[None]:
    """Held while the pointer is compared and written; the errors are those of `locked`."""
    with locked(home / _LOCK, wait_s=_LOCK_S):
        yield


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time (ns) of a file.

    Raises:
        OSError: it is not there.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def packaged_stamp() -> tuple[tuple[str, int, int], ...]:
    """Path, size and time of each packaged file.

    Raises:
        StoreError: one is missing.
    """
    try:
        return tuple((str(path), *stamp(path)) for path in _packaged_files())
    except OSError as error:
        raise _unreadable(error) from error


@lru_cache(maxsize=4)
def packaged_digest(files: Sequence[tuple[str, int, int]]) -> str:
    """Hash over the content of the packaged files whose stamps are `files`.

    Raises:
        StoreError: one cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path, _, _ in files:
            digest.update(Path(path).read_bytes())
    except OSError as error:
        raise _unreadable(error) from error
    return digest.hexdigest()


def _packaged_files() -> tuple[Path, ...]:
    return evidence_path(), efficiency_path(), PUBLISHED / "sources.csv"


def _unreadable(error: OSError) -> StoreError:
    return StoreError(f"the packaged evidence cannot be read: {error}", given=error.filename, hint="reinstall qadvisor")
