"""Named arrays as one file: a JSON header with names, types, shapes and places, then the bytes.

The form is that of safetensors (huggingface/safetensors, README "Format"), so that other programs can read it too. NumPy's own
archives hold the same, but take four times as long: they are ZIP files, and Python's module for these is slow to load.
"""

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {"BOOL": "|b1", "U8": "|u1", "U16": "<u2", "I32": "<i4", "I64": "<i8", "F64": "<f8"}
_NAMES = {text: name for name, text in _TYPES.items()}


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as the content of a file; equal arrays give equal bytes.

    Raises:
        KeyError: an array is of a type that the form has no name for here.
    """
    header: dict[str, object] = {}
    parts: list[bytes] = []
    end = 0
    # Wide types come first, so that all are aligned.
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        content = array.tobytes()
        begin, end = end, end + len(content)
        header[name] = {"dtype": _NAMES[array.dtype.str], "shape": array.shape, "data_offsets": (begin, end)}
        parts.append(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, *parts))


def unpack(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays that `pack` wrote, as read-only views of `content`.

    Raises:
        ValueError: the content is cut off, or no such file.
        KeyError: an entry of the header is incomplete or of an unknown type.
        TypeError: an entry of the header is of another form.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    arrays = {}
    for name, entry in json.loads(content[8:start]).items():
        begin, end = entry["data_offsets"]
        kind, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
        count = prod(shape)
        if begin < 0 or end - begin != count * kind.itemsize:
            raise ValueError(f"array {name!r} does not fill its place")
        arrays[name] = np.frombuffer(content, kind, count=count, offset=start + begin).reshape(shape)
    return arrays
