"""Run records in a folder, on disk or in an object store: one JSON file a run, named by its key, whole or not there."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from knowledge.errors import DataError, StoreError
from knowledge.home import home
from knowledge.measurements import RunRecord, RunSpec, load_record, record_from_json
from measure.remote import RemoteFolder

_log = logging.getLogger(__name__)

_TEMPORARY = ".part"
_STALE_SECONDS = 3600

Place = Path | RemoteFolder
"""Where records lie: a folder, or a prefix of an object store."""


def find_place(text: str | None) -> Place:
    """The folder or object-store URL that `text` names; `default_folder()` where it is None.

    Raises:
        MissingDependencyError: the package for such URLs is not installed.
        InvalidRequestError: nobody knows the protocol of the URL.
    """
    if text is None:
        return default_folder()
    text = text.removeprefix("file://")
    return RemoteFolder.open(text) if "://" in text else Path(text).expanduser()


def default_folder() -> Path:
    """Where records go: `runs` in the home folder (`QADVISOR_HOME`, else the platform's data folder)."""
    return home() / "runs"


def record_path(folder: Path, spec: RunSpec) -> Path:
    """Where the record of `spec` lies in `folder`."""
    return folder / f"{spec.stem}.json"


def write_record(place: Place, record: RunRecord) -> None:
    """Write a record so that a reader sees all of it or nothing, also after a crash.

    Raises:
        StoreError: the folder cannot be written, the disk is full.
    """
    if isinstance(place, RemoteFolder):
        place.write(f"{record.spec.stem}.json", record.to_json())
    else:
        write_text(record_path(place, record.spec), record.to_json())


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary neighbour first, synced, then renamed.

    Raises:
        StoreError: the folder cannot be written, the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}",
            given=str(path.parent),
            hint="free space or choose another --output, then run again",
        ) from error
    except BaseException:  # Ctrl-C between open and replace: leave nothing half-written, then go on
        temporary.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The records of one place by key, read once."""

    path: Place
    records: dict[str, RunRecord] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """File name -> why its record was refused."""


def read_folder(place: Place) -> Folder:
    """All records in `place`; files that are no records are listed apart, never removed.

    Raises:
        StoreError: the object store cannot be read.
    """
    if isinstance(place, RemoteFolder):
        texts = place.read()
        return _folder(place, sorted(texts), lambda name: record_from_json(texts[name], source=place.name(name)))
    names = sorted(file.name for file in place.glob("*.json")) if place.is_dir() else []
    return _folder(place, names, lambda name: load_record(place / name))


def read_records(place: Place, specs: Iterable[RunSpec]) -> dict[str, RunRecord]:
    """The records of `specs` by key, as far as they are there and whole; reads no other file.

    Raises:
        StoreError: the object store cannot be read.
    """
    names = [f"{spec.stem}.json" for spec in specs]
    if isinstance(place, RemoteFolder):
        texts = place.read(names)
        return _folder(place, list(texts), lambda name: record_from_json(texts[name], source=place.name(name))).records
    present = [name for name in names if (place / name).is_file()]
    return _folder(place, present, lambda name: load_record(place / name)).records


def _folder(place: Place, names: Sequence[str], load: Callable[[str], RunRecord]) -> Folder:
    folder = Folder(path=place)
    for name in names:
        try:
            record = load(name)
        except DataError as error:
            folder.unreadable[name] = error.message
            _log.warning("%s", error.message)
        else:
            folder.records[record.key] = record
    return folder


def remove_leftovers(place: Place, *, now: float | None = None) -> int:
    """Remove temporary files that a killed run left more than an hour ago; returns how many. An object store has none."""
    if isinstance(place, RemoteFolder):
        return 0
    moment = time.time() if now is None else now
    count = 0
    for file in place.glob(f".*{_TEMPORARY}") if place.is_dir() else ():
        with contextlib.suppress(OSError):
            if moment - file.stat().st_mtime > _STALE_SECONDS:
                file.unlink()
                count += 1
    return count
