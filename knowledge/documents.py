"""JSON of strangers, read within limits: size, depth, numbers, text."""

import json
import math
from pathlib import Path
from typing import Any

from knowledge.errors import DataError

MAX_BYTES = 32 << 20
"""Largest JSON file that is read; a record with 100,000 samples has about 5 MB."""


def load_document(path: Path, *, limit: int = MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file; numbers that are none (NaN, infinity, beyond what a float holds) are read as None.

    Raises:
        DataError: too large, no UTF-8, no JSON, nested too deep, or no object.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise DataError(f"{size:,} bytes are more than a JSON file may have ({limit:,})")
        return parse_document(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error


def parse_document(content: bytes) -> dict[str, Any]:
    """The JSON object in `content`; see `load_document`."""
    try:
        document = json.loads(content, parse_constant=lambda text: None, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8 text") from error
    except RecursionError as error:
        raise DataError("is nested too deep") from error
    except ValueError as error:  # no JSON, or an integer of thousands of digits
        raise DataError(f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"holds no JSON object but a {type(document).__name__}")
    return document


def number_of(value: object) -> float | None:
    """A finite number that is one; None for anything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def text_of(value: object) -> str | None:
    """Text that any file can hold; None for anything else, and for the empty text."""
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    return value if _encodes(value) else None


def object_of(value: object) -> dict[str, Any]:
    """A JSON object; the empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
