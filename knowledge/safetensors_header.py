"""The header of a safetensors file: name, type, shape and bytes of every tensor (huggingface/safetensors, README "Format")."""

from math import prod
from pathlib import Path

from knowledge.errors import InvalidModelError
from knowledge.model_fields import Fields, parse_json
from knowledge.models import StoredTensor

HEADER_LIMIT_BYTES = 100_000_000
"""The format's own limit."""


def read_safetensors(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors that the safetensors file at `path` holds, by its header.

    Raises:
        InvalidModelError: it cannot be read, its header is broken, or the file is truncated.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            data = file.read(length) if length <= HEADER_LIMIT_BYTES else b""
        size = path.stat().st_size
    except OSError as error:
        raise InvalidModelError(f"cannot read {path}: {error.strerror or error}", given=str(path)) from error
    if len(data) != length or not length:
        raise _broken(path, "its header is incomplete or larger than the format allows")
    header = Fields(parse_json(data, str(path), limit=HEADER_LIMIT_BYTES), str(path))
    header.values = {name: value for name, value in header.values.items() if name != "__metadata__"}
    return tuple(_tensor(name, header.inner(name), size - 8 - length, path) for name in header.values)


def _tensor(name: str, entry: Fields, room: int, path: Path) -> StoredTensor:
    shape, offsets = entry.items("shape"), entry.items("data_offsets")
    numbers = [*(shape or ()), *(offsets or ())]
    if shape is None or offsets is None or len(offsets) != 2 or any(type(n) is not int or n < 0 for n in numbers):
        raise _broken(path, f"tensor {name!r} has no valid shape or offsets")
    begin, end = offsets
    if not begin <= end <= room:
        raise _broken(path, f"tensor {name!r} lies beyond its end: the file is truncated")
    if prod(shape) and end == begin:
        raise _broken(path, f"tensor {name!r} of shape {shape} has no bytes")
    return StoredTensor(name=name, shape=tuple(shape), dtype=(entry.text("dtype") or "unknown").lower(), bytes=end - begin)


def _broken(path: Path, reason: str) -> InvalidModelError:
    message = f"{path} is no readable safetensors file: {reason}"
    return InvalidModelError(message, given=str(path), hint="download the file again")
