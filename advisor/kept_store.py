"""One open knowledge base for all requests of a process: opening costs as much as answering."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread

from knowledge.home import home
from knowledge.pointer import FILE as POINTER
from knowledge.store import KnowledgeStore, current_version, open_store

_LOCK = Lock()
_kept: dict[tuple[Path, tuple[str, ...]], KnowledgeStore] = {}


@contextmanager
def kept_store(folder: Path | None = None, exclude_licences: tuple[str, ...] = ()) -> Iterator[KnowledgeStore]:
    """The knowledge base of a home folder, opened once and again only after it has changed.

    A connection answers one request at a time, so requests of several threads wait for each other.

    Args:
        folder: home folder; that of the environment where not given.
        exclude_licences: licences whose rows are left out.

    Raises:
        UnknownNameError: no source has such a licence.
        StoreError: the packaged files cannot be read.
    """
    place = folder or home()
    key = (place, tuple(exclude_licences))
    with _LOCK:
        store = _kept.get(key)
        if store is None or store.version != current_version(place) or (store.snapshot and not store.snapshot.exists()):
            if store is not None:
                _kept.pop(key).close()
            store = _kept[key] = open_store(place, exclude_licences=exclude_licences)
        yield store


def open_ahead(exclude_licences: tuple[str, ...] = ()) -> None:
    """Begin to open the knowledge base of the environment in a second thread, where there is one; `kept_store` waits for it.

    Opening is DuckDB's own work, which leaves Python free to load the modules of an answer meanwhile. What has to be built
    first, or cannot be opened, is left to `kept_store`, which says what is wrong.
    """
    place = home()
    if not os.path.exists(place / POINTER):  # false as well where the folder may not be looked into
        return

    def open_quietly() -> None:
        with suppress(Exception), kept_store(place, exclude_licences):
            pass

    Thread(target=open_quietly, daemon=True).start()


@atexit.register
def close_kept() -> None:
    """Close what is kept; done at the end of the process."""
    while _kept:
        _kept.popitem()[1].close()
