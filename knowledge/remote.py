"""Files in an object store (s3://, gs://, memory://, …), fetched through fsspec before they are read."""

from pathlib import Path, PurePosixPath
from typing import Any

from knowledge.errors import InvalidRequestError, MissingDependencyError, StoreError

KINDS = (".json", ".jsonl", ".csv", ".parquet", ".yaml", ".yml")
MOST_FILES = 100_000
MOST_BYTES = 8 * 2**30


def is_url(path: str | Path) -> bool:
    """Whether `path` names something in an object store."""
    return "://" in str(path)


def fetch(url: str, folder: Path) -> Path:
    """Copy the file, or all data files below the address or that fit the pattern, into `folder`; returns where they lie.

    Raises:
        MissingDependencyError: fsspec, or its package for this protocol, is not installed.
        InvalidRequestError: no such protocol, nothing there, or more than a refresh takes.
        StoreError: the store refuses, or cannot be reached.
    """
    filesystem, root = _filesystem(url)
    try:
        sizes = _sizes(filesystem, root)
        _check(url, sizes)
        for name in sizes:
            target = folder / _relative(name, root)
            target.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(name, str(target))
    except (InvalidRequestError, MissingDependencyError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise StoreError(
            f"{url} cannot be read: {reason}", given=url, hint="check the address, the network and the credentials"
        ) from error
    return folder


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise MissingDependencyError.of("fsspec", extra="cloud", purpose=url) from error
    try:
        filesystem, root = url_to_fs(url)
    except ValueError as error:
        raise InvalidRequestError(
            f"no object store {url!r}", given=url, allowed="a file, a folder, or a URL such as s3://bucket/runs"
        ) from error
    except ImportError as error:
        package = str(getattr(error, "name", None) or error)
        raise MissingDependencyError.of(package, extra="cloud", purpose=url) from error
    return filesystem, str(root)


def _sizes(filesystem: Any, root: str) -> dict[str, int]:
    """Names and bytes of the data files that `root` means."""
    look = filesystem.glob if any(sign in root for sign in "*?[") else filesystem.find
    found = look(root, detail=True)
    files = {name: int(facts.get("size") or 0) for name, facts in found.items() if facts.get("type") == "file"}
    return {name: size for name, size in sorted(files.items()) if name.lower().endswith(KINDS)}


def _check(url: str, sizes: dict[str, int]) -> None:
    if not sizes:
        raise InvalidRequestError(f"{url} holds no data files", given=url, allowed=f"files that end with {', '.join(KINDS)}")
    if len(sizes) > MOST_FILES or sum(sizes.values()) > MOST_BYTES:
        raise InvalidRequestError(
            f"{url} holds {len(sizes):,} files of {sum(sizes.values()) / 2**30:.1f} GiB",
            given=url,
            allowed=f"at most {MOST_FILES:,} files and {MOST_BYTES / 2**30:.0f} GiB at once",
            hint="refresh from a part of it (a folder, a pattern) at a time",
        )


def _relative(name: str, root: str) -> Path:
    """The place of a file below the folder it is fetched to; what could lead out of it is taken away."""
    fixed = root.split("*")[0].split("?")[0].split("[")[0]
    base = fixed if root == fixed else fixed.rpartition("/")[0]
    below = name.removeprefix(base).lstrip("/") if name != root else PurePosixPath(name).name
    return Path(*(part for part in PurePosixPath(below).parts if part not in ("/", "..", ".")))
