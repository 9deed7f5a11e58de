"""The header of a GGUF file: key-value pairs, and the type, shape and bytes of every tensor.

Layout as in ggml-org/llama.cpp `docs/gguf.md`; the numbers of tensor and file types from the `gguf` package. The package's
own `GGUFReader` copies every token of the vocabulary (seconds for 128,256 of them); here arrays of text are stepped over, and
nothing that a header claims is believed before it is compared with the size of the file.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from knowledge.errors import InvalidModelError
from knowledge.ggml import GGML_TYPES
from knowledge.models import StoredTensor

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_PAIRS = 2**16
_MOST_TENSORS = 2**18
_KEPT = 2**16
"""Arrays of numbers up to this length are kept (one value a layer); of longer ones and of texts only the length."""

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says about itself before the weights begin."""

    values: dict[str, Any]
    """Numbers, texts and short lists of numbers by key."""
    lengths: dict[str, int]
    """Length of every array by key."""
    tensors: tuple[StoredTensor, ...]
    header_bytes: int
    """Bytes before the first tensor."""
    file_bytes: int


def read_header(path: Path) -> GgufHeader:
    """The header of the GGUF file at `path`.

    Raises:
        InvalidModelError: it cannot be opened, is no GGUF file, of a version or byte order that is not read, or truncated.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise _broken(path, "it is too short for a header")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Cursor(data, path).header()
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidModelError):
            raise
        raise InvalidModelError(f"cannot read {path}: {error}", given=str(path)) from error


def file_type_name(number: int) -> str | None:
    """Name of a `general.file_type` as llama.cpp prints it, in lower case (`q4_k_m`); None for an unknown number."""
    return _file_types().get(number)


def _broken(path: Path, reason: str) -> InvalidModelError:
    return InvalidModelError(f"{path} is no readable GGUF file: {reason}", given=str(path), hint="download the file again")


@cache
def _tensor_types() -> dict[int, str]:
    from gguf.constants import GGMLQuantizationType

    return {int(kind): kind.name.lower() for kind in GGMLQuantizationType}


@cache
def _file_types() -> dict[int, str]:
    from gguf.constants import LlamaFileType

    return {int(kind): kind.name.lower().removeprefix("mostly_").removeprefix("all_") for kind in LlamaFileType}


class _Cursor:
    """Reads forward through the mapped file; every step is checked against its size."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data = data
        self.path = path
        self.size = len(data)
        self.at = 0

    def header(self) -> GgufHeader:
        """The whole header."""
        if self.data[:4] != _MAGIC:
            raise _broken(self.path, "it does not begin with 'GGUF'")
        self.at = 4
        version = self.number("<I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            reason = "it is big-endian" if swapped in _VERSIONS else f"version {version} is not read (2 and 3 are)"
            raise _broken(self.path, reason)
        n_tensors, n_pairs = self.count(_MOST_TENSORS, "tensors"), self.count(_MOST_PAIRS, "keys")
        values: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        for _ in range(n_pairs):
            key = self.text()
            values[key] = self.value(self.number("<I"), key, lengths)
        values = {key: value for key, value in values.items() if value is not None}
        entries = [self.entry() for _ in range(n_tensors)]
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
            raise _broken(self.path, f"general.alignment is {alignment!r}")
        start = -(-self.at // alignment) * alignment
        tensors = tuple(self.tensors(entries, start))
        return GgufHeader(values=values, lengths=lengths, tensors=tensors, header_bytes=start, file_bytes=self.size)

    def number(self, form: str) -> int:
        """One whole number, or a float or flag, in struct's notation."""
        end = self.at + struct.calcsize(form)
        if end > self.size:
            raise _broken(self.path, "it ends within the header (truncated download?)")
        value: int = struct.unpack_from(form, self.data, self.at)[0]
        self.at = end
        return value

    def count(self, most: int, what: str) -> int:
        """A 64-bit count of things of which no real file has more than `most`."""
        count = self.number("<Q")
        if count > most:
            raise _broken(self.path, f"it claims {count} {what}")
        return count

    def skip(self, length: int) -> int:
        """Step over `length` bytes; where they began."""
        begin, self.at = self.at, self.at + length
        if self.at > self.size:
            raise _broken(self.path, "it ends within the header (truncated download?)")
        return begin

    def text(self) -> str:
        """A text with its length before it."""
        begin = self.skip(self.number("<Q"))
        return self.data[begin : self.at].decode("utf-8", errors="replace")

    def value(self, kind: int, key: str, lengths: dict[str, int]) -> Any:
        """A value of type `kind`; None for an array that is not kept."""
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self.array(key, lengths)
        if kind not in _SCALARS:
            raise _broken(self.path, f"{key} has the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def array(self, key: str, lengths: dict[str, int]) -> list[Any] | None:
        """An array: short ones of numbers as a list, others None with their length noted."""
        kind, length = self.number("<I"), self.number("<Q")
        lengths[key] = length
        if kind == _TEXT:
            self.skip_texts(length)
            return None
        if kind not in _SCALARS:
            raise _broken(self.path, f"{key} is an array of type {kind}")
        form = _SCALARS[kind]
        begin = self.skip(length * struct.calcsize(form))
        return list(struct.unpack_from(f"<{length}{form[1]}", self.data, begin)) if length <= _KEPT else None

    def skip_texts(self, length: int) -> None:
        """Step over `length` texts: the hot loop of reading a header, so without calls."""
        data, at, size = self.data, self.at, self.size
        if length > size // 8:
            raise _broken(self.path, f"it claims {length} texts")
        for _ in range(length):
            at += 8 + int.from_bytes(data[at : at + 8], "little")
            if at > size:
                raise _broken(self.path, "it ends within the header (truncated download?)")
        self.at = at

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """One tensor's name, shape as ggml orders it, type number and offset."""
        name = self.text()
        dims = self.number("<I")
        if not 0 < dims <= 4:
            raise _broken(self.path, f"tensor {name!r} has {dims} dimensions")
        shape = tuple(self.number("<Q") for _ in range(dims))
        return name, shape, self.number("<I"), self.number("<Q")

    def tensors(self, entries: list[tuple[str, tuple[int, ...], int, int]], start: int) -> Iterator[StoredTensor]:
        """Every tensor with its bytes; types that `knowledge.ggml` lacks get what lies before the next tensor."""
        offsets = sorted({offset for *_, offset in entries} | {self.size - start})
        following = dict(pairwise(offsets))
        for name, shape, kind, offset in entries:
            dtype = _tensor_types().get(kind, f"type-{kind}")
            form = GGML_TYPES.get(dtype)
            if form is None:
                size = following.get(offset, 0)
            elif shape[0] % form.block:
                raise _broken(self.path, f"rows of tensor {name!r} are no whole number of {dtype} blocks")
            else:
                size = prod(shape) // form.block * form.bytes
            if start + offset + size > self.size:
                raise _broken(self.path, f"tensor {name!r} lies beyond its end: the file is truncated")
            yield StoredTensor(name=name, shape=tuple(reversed(shape)), dtype=dtype, bytes=size)
