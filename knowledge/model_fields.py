"""Careful reading of a model's JSON: size limits, types and ranges, every refusal naming file, field and reason."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knowledge.errors import InvalidModelError

JSON_LIMIT_BYTES = 16 * 2**20
"""A config.json has some 10 kB, the index of a checkpoint with 100,000 tensors some 10 MB."""

LARGEST = 2**40
"""No dimension of a language model comes near it; what is larger is a broken or hostile file."""


def load_json(path: Path, *, limit: int = JSON_LIMIT_BYTES) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        InvalidModelError: it cannot be read, is larger than `limit` bytes, is no JSON, or no object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidModelError(f"cannot read {path}: {error.strerror or error}", given=str(path)) from error
    return parse_json(data, str(path), limit=limit)


def parse_json(data: bytes, where: str, *, limit: int = JSON_LIMIT_BYTES) -> dict[str, Any]:
    """The JSON object in `data`, which was read from `where`.

    Raises:
        InvalidModelError: it is larger than `limit` bytes, no JSON, or no object.
    """
    if len(data) > limit:
        raise InvalidModelError(f"{where} is larger than {limit} bytes: no model description is", given=where)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:  # bad UTF-8 and bad JSON are ValueErrors
        raise InvalidModelError(f"{where} is no valid JSON: {error}", given=where, hint="download the file again") from error
    if not isinstance(value, dict):
        raise InvalidModelError(f"{where} holds a JSON {type(value).__name__}, not an object", given=where)
    return value


class Fields:
    """Typed look-up in one JSON object, by the first of several spellings that is there and not null.

    Args:
        values: the object.
        where: file name for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def find(self, *names: str) -> tuple[str, Any] | None:
        """The first of `names` that has a value, with it."""
        return next(((name, self.values[name]) for name in names if self.values.get(name) is not None), None)

    def whole(self, *names: str, least: int = 1, most: int = LARGEST) -> int | None:
        """A whole number between `least` and `most`; None if no name is there."""
        if (found := self.find(*names)) is None:
            return None
        name, value = found
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refusal(name, value, f"a whole number from {least} to {most}")
        return value

    def number(self, *names: str) -> float | None:
        """A finite number above 0; None if no name is there."""
        if (found := self.find(*names)) is None:
            return None
        name, value = found
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.refusal(name, value, "a number above 0")
        return float(value)

    def flag(self, *names: str) -> bool | None:
        """True or false; None if no name is there."""
        if (found := self.find(*names)) is None:
            return None
        name, value = found
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self.refusal(name, value, "true or false")
        return bool(value)

    def text(self, *names: str) -> str | None:
        """A string; None if no name is there."""
        if (found := self.find(*names)) is None:
            return None
        name, value = found
        if not isinstance(value, str):
            raise self.refusal(name, value, "text")
        return value

    def items(self, *names: str) -> list[Any] | None:
        """A list; None if no name is there."""
        if (found := self.find(*names)) is None:
            return None
        name, value = found
        if not isinstance(value, list):
            raise self.refusal(name, value, "a list")
        return value

    def inner(self, *names: str) -> "Fields":
        """The object under the first of `names`; empty if no name is there."""
        if (found := self.find(*names)) is None:
            return Fields({}, self.where)
        name, value = found
        if not isinstance(value, dict):
            raise self.refusal(name, value, "an object")
        return Fields(value, f"{self.where}, {name}")

    def refusal(self, name: str, value: object, allowed: str) -> InvalidModelError:
        """The error for a `value` of field `name` that cannot be."""
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return InvalidModelError(f"{self.where}: {name} is {shown}, expected {allowed}", given=shown, allowed=allowed)
