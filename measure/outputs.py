"""Run records on disk: one JSON file a run, named by its key, written whole or not at all."""

import contextlib
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from knowledge.errors import DataError, StoreError
from knowledge.home import home
from knowledge.measurements import RunRecord, RunSpec, load_record

_log = logging.getLogger(__name__)

_TEMPORARY = ".part"
_STALE_SECONDS = 3600


def default_folder() -> Path:
    """Where records go: `runs` in the home folder (`QADVISOR_HOME`, else the platform's data folder)."""
    return home() / "runs"


def record_path(folder: Path, spec: RunSpec) -> Path:
    """Where the record of `spec` lies in `folder`."""
    return folder / f"{spec.stem}.json"


def write_record(folder: Path, record: RunRecord) -> Path:
    """Write a record so that a reader sees all of it or nothing, also after a crash; returns its path.

    Raises:
        StoreError: the folder cannot be written, the disk is full.
    """
    path = record_path(folder, record.spec)
    write_text(path, record.to_json())
    return path


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
    """The records of one output folder by key, read once."""

    path: Path
    records: dict[str, RunRecord] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """File name -> why its record was refused."""


def read_folder(path: Path) -> Folder:
    """All records in `path`; files that are no records are listed apart, never removed."""
    folder = Folder(path=path)
    for file in sorted(path.glob("*.json")) if path.is_dir() else ():
        try:
            record = load_record(file)
        except DataError as error:
            folder.unreadable[file.name] = error.message
            _log.warning("%s", error.message)
        else:
            folder.records[record.key] = record
    return folder


def remove_leftovers(path: Path, *, now: float | None = None) -> int:
    """Remove temporary files that a killed run left more than an hour ago; returns how many."""
    moment = time.time() if now is None else now
    count = 0
    for file in path.glob(f".*{_TEMPORARY}") if path.is_dir() else ():
        with contextlib.suppress(OSError):
            if moment - file.stat().st_mtime > _STALE_SECONDS:
                file.unlink()
                count += 1
    return count
