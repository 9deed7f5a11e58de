"""How the fields of a request are read: each reader takes text or a value, and complains with a `ValueError`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

Reader = Callable[[Any], Any]


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ValueError("input should be a valid string")
    return value


def filled_text(value: Any) -> str:
    """A string that is not empty."""
    if not text(value):
        raise ValueError("string should have at least 1 character")
    return str(value)


def switch(value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError("input should be a valid boolean")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Several strings."""
    if isinstance(value, str) or not isinstance(value, Collection):
        raise ValueError("input should be a valid tuple")
    return tuple(text(item) for item in value)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int
    most: int

    def __call__(self, value: Any) -> int:
        """The number."""
        number = _number(value, "integer")
        if not number.is_integer():
            raise ValueError(f"input should be a valid integer, {_NOT_WHOLE[isinstance(value, str)]}")
        if number < self.least:
            raise ValueError(f"input should be greater than or equal to {self.least}")
        if number > self.most:
            raise ValueError(f"input should be less than or equal to {self.most}")
        return int(number)


_NOT_WHOLE = {True: "unable to parse string as an integer", False: "got a number with a fractional part"}


@dataclass(frozen=True, slots=True)
class Share:
    """A number above 0 and at most `most`."""

    most: float

    def __call__(self, value: Any) -> float:
        """The number."""
        number = _number(value, "number")
        if not number <= self.most:  # nor is NaN
            raise ValueError(f"input should be less than or equal to {self.most:g}")
        if number <= 0:
            raise ValueError("input should be greater than 0")
        return number


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        """The word."""
        if value not in self.words:
            *others, last = (repr(word) for word in self.words)
            raise ValueError(f"input should be {', '.join(others)} or {last}")
        return str(value)


def _number(value: Any, kind: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"input should be a valid {kind}")
    try:
        return float(value)
    except ValueError:
        article = "an" if kind == "integer" else "a"
        raise ValueError(f"input should be a valid {kind}, unable to parse string as {article} {kind}") from None
