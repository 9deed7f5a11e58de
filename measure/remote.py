"""A folder of records in an object store (s3://, gs://, az://, …) through fsspec.

An object appears whole or not at all, which is what makes it fit for records: whoever reads sees no half of one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from knowledge.errors import InvalidRequestError, MissingDependencyError, StoreError


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """Objects below one URL.

    Attributes:
        url: without a slash at its end.
    """

    url: str

    @classmethod
    def open(cls, url: str) -> "RemoteFolder":
        """The folder at `url`; nothing is read or made yet.

        Raises:
            MissingDependencyError: fsspec, or its package for this protocol, is not installed.
            InvalidRequestError: fsspec knows no such protocol.
        """
        folder = cls(url.rstrip("/"))
        folder._filesystem()
        return folder

    def __str__(self) -> str:
        return self.url

    def name(self, file: str) -> str:
        """URL of a file in this folder."""
        return f"{self.url}/{file}"

    def write(self, file: str, text: str) -> None:
        """Write an object in one request, replacing what is there.

        Raises:
            StoreError: the store refuses, or cannot be reached.
        """
        filesystem, path = self._filesystem()
        try:
            filesystem.makedirs(path, exist_ok=True)
            filesystem.pipe_file(f"{path}/{file}", text.encode())
        except Exception as error:  # every store has errors of its own
            raise self._failed("written", error) from error

    def read(self, files: Iterable[str] | None = None) -> dict[str, bytes]:
        """Contents by file name: of `files` those that are there, or of all `*.json`. Objects are fetched side by side.

        Raises:
            StoreError: the store refuses, or cannot be reached.
        """
        filesystem, path = self._filesystem()
        try:
            filesystem.invalidate_cache(path)
            wanted = filesystem.glob(f"{path}/*.json") if files is None else [f"{path}/{file}" for file in files]
            found = filesystem.cat(wanted, on_error="return") if wanted else {}
        except Exception as error:
            raise self._failed("read", error) from error
        for content in found.values():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise self._failed("read", content)
        return {str(name).rsplit("/", 1)[-1]: content for name, content in found.items() if isinstance(content, bytes)}

    def _filesystem(self) -> tuple[Any, str]:
        """The file system and the path in it; fsspec keeps one instance a process, so that this costs nothing."""
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise MissingDependencyError.of("fsspec", extra="cloud", purpose=self.url) from error
        try:
            filesystem, path = url_to_fs(self.url)
        except ValueError as error:
            raise InvalidRequestError(
                f"no object store {self.url!r}", given=self.url, allowed="a folder, or a URL such as s3://bucket/runs"
            ) from error
        except ImportError as error:
            package = str(getattr(error, "name", None) or error)
            raise MissingDependencyError.of(package, extra="cloud", purpose=self.url) from error
        return filesystem, str(path)

    def _failed(self, verb: str, error: Exception) -> StoreError:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return StoreError(
            f"{self.url} cannot be {verb}: {reason}", given=self.url, hint="check the address, the network and the credentials"
        )
