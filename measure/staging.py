"""A folder that is there whole or not at all: written aside, synced, renamed; nothing that exists is overwritten."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knowledge.errors import InvalidRequestError, StoreError
from measure.errors import QuantizationMismatchError

_log = logging.getLogger(__name__)

_PARTIAL = ".partial"


def check_output(output: Path, *, needed_bytes: int | None = None) -> Path:
    """The absolute path of `output`, once it is sure that a folder can be made there: before the work, not after it.

    Args:
        output: a folder that does not exist or is empty.
        needed_bytes: bytes that will be written; None where that is not known.

    Raises:
        InvalidRequestError: it exists and is not empty, its parent is no folder or cannot be written.
        StoreError: the disk has not enough space.
    """
    path = output.expanduser().resolve()
    allowed = "a folder that does not exist yet, or is empty"
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "is not empty" if path.is_dir() else "is a file"
        raise InvalidRequestError(f"{output} {what}: nothing is overwritten", given=str(output), allowed=allowed)
    parent = path.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        what = "may not be written" if parent.is_dir() else "is no folder"
        raise InvalidRequestError(f"cannot make {output}: {parent} {what}", given=str(output), allowed=allowed)
    free = shutil.disk_usage(parent).free
    if needed_bytes is not None and needed_bytes > free:
        raise StoreError(
            f"the checkpoint takes {needed_bytes:,} bytes, {free:,} are free in {parent}", given=str(output),
            hint="free space or choose another --output, then run again",
        )  # fmt: skip
    for left in sorted(parent.glob(f".{path.name}.*{_PARTIAL}")):
        _log.warning("%s was left by a run that was killed, or belongs to one that is under way", left)
    return path


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A new folder beside `output` that becomes `output` when the block ends well.

    When the block fails it is removed; where only the check of what was made failed, it is kept as `output` with `.failed`
    behind it, for a look at hours of work. A killed process leaves a hidden folder, never one called `output`.

    Raises:
        StoreError: the folder cannot be written, or somebody filled `output` in the meantime.
    """
    folder = output.with_name(f".{output.name}.{os.getpid()}{_PARTIAL}")
    try:
        folder.mkdir()
        yield folder
        for file in folder.rglob("*"):
            if file.is_file():
                _sync(file)
    except QuantizationMismatchError as error:
        error.hint = f"the checkpoint is kept for a look in {_set_aside(folder, output)}; do not serve it"
        raise
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write {output}: {error.strerror or error}", given=str(output)) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _publish(folder, output)


def _publish(folder: Path, output: Path) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            output.rmdir()  # only an empty one goes
        folder.rename(output)
    except OSError as error:
        kept = _set_aside(folder, output)
        raise StoreError(
            f"cannot make {output}: {error.strerror or error}", given=str(output), hint=f"the checkpoint is in {kept}"
        ) from error


def _set_aside(folder: Path, output: Path) -> Path:
    """Move `folder` to a free name that says what it is; returns where it lies now."""
    for number in range(1, 1000):
        kept = output.with_name(f"{output.name}.failed" + (f"-{number}" if number > 1 else ""))
        if not kept.exists():
            with contextlib.suppress(OSError):
                return folder.rename(kept)
    return folder


def _sync(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
