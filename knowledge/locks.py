"""One refresh at a time: a lock that ends with its process, and says who holds it."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import gethostname

from knowledge.errors import StoreError
from knowledge.files import locked, write_whole
from knowledge.versions import now

LOCK = ".refresh.lock"
HOLDER = ".refresh.json"


@contextmanager
def refresh_lock(home: Path, *, wait_s: float, on_wait: Callable[[str], None] = lambda holder: None) -> Iterator[None]:
    """Held while the versions of a home folder are changed.

    The operating system holds the lock for the process and drops it when the process ends, however it ends: a lock that a
    dead process has left needs no clearing.

    Args:
        home: home folder.
        wait_s: seconds to wait for another holder.
        on_wait: told once who is waited for.

    Raises:
        StoreError: another process holds the lock for longer, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            _acquire(stack, home, wait_s, on_wait)
        except TimeoutError as error:
            raise StoreError(
                f"another refresh is at work on {home}: {holder(home)}",
                given=f"waited {wait_s:g} s",
                hint="--wait SECONDS waits longer",
            ) from error
        except OSError as error:
            raise StoreError(
                f"{home} cannot be written: {error.strerror or error}",
                given=str(home),
                hint="set QADVISOR_HOME to a writable folder",
            ) from error
        try:
            with suppress(OSError):  # for the message alone
                write_whole(home / HOLDER, json.dumps({"pid": os.getpid(), "host": gethostname(), "since": now()}) + "\n")
            yield
        finally:
            with suppress(OSError):
                (home / HOLDER).unlink(missing_ok=True)


def _acquire(stack: ExitStack, home: Path, wait_s: float, on_wait: Callable[[str], None]) -> None:
    """Take the lock at once, or say who has it and wait."""
    try:
        stack.enter_context(locked(home / LOCK, wait_s=0))
    except TimeoutError:
        on_wait(holder(home))
        stack.enter_context(locked(home / LOCK, wait_s=wait_s))


def holder(home: Path) -> str:
    """Who holds the lock, in words."""
    try:
        found = json.loads((home / HOLDER).read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']}, since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not said who it is"
