"""Files that are whole or not there, also after a power cut: written aside, synced, renamed, and the folder synced."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"
"""End of the names of files that are being written."""
_CHUNK = 1 << 20


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees all of it or what was there before.

    Raises:
        OSError: the folder cannot be written, or the disk is full; what was there is unchanged.
    """
    part = path.with_name(f".{path.name}.{os.urandom(8).hex()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    sync_folder(path.parent)


def move_whole(source: Path, target: Path) -> None:
    """Move a finished file to its place on the same file system, synced before and after.

    Raises:
        OSError: the place cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(source, target)
    sync_folder(target.parent)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that its place holds all of it or nothing.

    Raises:
        OSError: it cannot be read, or its place cannot be written.
    """
    write_whole(target, source.read_bytes())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can."""
    with suppress(OSError):  # Windows opens no folders, and some network file systems cannot sync them
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file `path`; the operating system drops the lock when the process ends, however it ends.

    Raises:
        TimeoutError: another holds it for longer than `wait_s`.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise TimeoutError(f"{path} is held by another process") from error
    except NotImplementedError as error:
        raise OSError(f"the file system of {path} has no locks") from error
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits, read piece by piece.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
