"""Which files a list of paths means: files, folders, patterns; each once, whatever links lead to it."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from types import MappingProxyType

from knowledge.errors import InvalidRequestError, StoreError
from knowledge.pointer import read_pointer
from knowledge.versions import load_manifest

ENDINGS = (".json", ".csv", ".parquet")
"""Files that are looked at in a folder; a file that is named itself is always looked at."""

NO_NAMES: Mapping[Path, str] = MappingProxyType({})
_INTERNAL = ("quarantine", "snapshots", "versions", "predictors", "rules")
"""Folders of a home folder that hold no figures."""
_HOME_MARKS = ("current", "versions")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file to read."""

    path: Path
    shown: str
    """What to call it: as the user would find it."""
    batch: bool = False
    """Whether it is a batch of another knowledge base."""


def find_files(paths: Sequence[str | Path], names: Mapping[Path, str] = NO_NAMES) -> list[FoundFile]:
    """The files that `paths` mean, sorted within each path, each once.

    Args:
        paths: files, folders, patterns.
        names: what to call folders that hold copies of what lies elsewhere.

    A folder is searched with all its subfolders, hidden ones left out. In a home folder of this program the run records and
    the batches of measured rows are found, and nothing else.

    Raises:
        InvalidRequestError: a path leads nowhere.
    """
    seen: set[str] = set()
    found: list[FoundFile] = []
    for text in paths:
        for item in _expand(str(text)):
            real = os.path.realpath(item.path)
            if real not in seen:
                seen.add(real)
                found.append(_named(item, names))
    return found


def _named(item: FoundFile, names: Mapping[Path, str]) -> FoundFile:
    for folder, name in names.items():
        if item.path.is_relative_to(folder):
            return replace(item, shown=f"{name.rstrip('/')}/{item.path.relative_to(folder).as_posix()}")
    return item


def _expand(text: str) -> Iterator[FoundFile]:
    path = Path(text).expanduser()
    if path.is_dir():
        yield from _walk(path)
    elif path.exists():
        yield FoundFile(path=path, shown=text)
    elif has_magic(text):
        matches = sorted(glob(os.path.expanduser(text), recursive=True))
        if not matches:
            raise InvalidRequestError(f"no file matches {text!r}", given=text, hint="quote the pattern, ** spans folders")
        for match in matches:
            if Path(match).is_dir():
                yield from _walk(Path(match))
            elif match.lower().endswith(ENDINGS):
                yield FoundFile(path=Path(match), shown=match)
    else:
        raise InvalidRequestError(
            f"there is no {text}", given=text, allowed="a file, a folder, a pattern such as 'runs/*.json'"
        )


def _walk(root: Path) -> Iterator[FoundFile]:
    """Files of interest under a folder; links to folders are followed once."""
    is_home = any((root / mark).exists() for mark in _HOME_MARKS) and (root / "runs").is_dir()
    in_use = _batches_in_use(root) if is_home else None
    visited: set[str] = set()
    for place, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        here = Path(place)
        batches = here.name == "batches" and here.parent.name == "runs"
        if batches and not is_home:  # of one's own home folder: its rows are in the knowledge base already
            folders.clear()
            continue
        internal = _INTERNAL if here.name == "runs" or (is_home and here == root) else ()
        folders[:] = sorted(name for name in folders if not _hidden(name) and name not in internal)
        for name in sorted(files):
            if name.startswith(".") or not name.lower().endswith(ENDINGS):
                continue
            if batches and not (name.endswith(".parquet") and (in_use is None or name.removesuffix(".parquet") in in_use)):
                continue
            if is_home and here == root:
                continue
            yield FoundFile(path=here / name, shown=str(here / name), batch=batches)


def _hidden(folder: str) -> bool:
    """Whether a folder is hidden; not those that lm-evaluation-harness names after a model `./name` or `../name`."""
    return folder.startswith(".") and not folder.startswith((".__", "..__"))


def _batches_in_use(home: Path) -> Collection[str] | None:
    """Ids of the batches of the version that is in use there; None where that cannot be told: then all count."""
    try:
        pointer = read_pointer(home)
        return {batch.id for batch in load_manifest(home, pointer.version).batches} if pointer else None
    except StoreError:
        return None
