"""Text to score and to calibrate on: a file of the user, or the language reference that every Python installation carries."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from measure.errors import TaskDataError

_PARTS = ("score", "calibrate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text and where it is from."""

    source: str
    content: str

    @property
    def sha256(self) -> str:
        """Sixteen hexadecimal digits over the content."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]


def builtin_text(part: Literal["score", "calibrate"]) -> Text:
    """English text from `pydoc_data.topics` (the Python language reference): alternate topics, so the parts share nothing.

    The text differs between Python versions; its hash is part of every record.
    """
    from pydoc_data.topics import topics

    chosen = [topics[name] for index, name in enumerate(sorted(topics)) if index % 2 == _PARTS.index(part)]
    return Text(source=f"pydoc_data.topics/{part}", content="\n\n".join(chosen))


def load_text(path: Path | None, *, part: Literal["score", "calibrate"]) -> Text:
    """The text of the file `path`, or the built-in text where it is None.

    Raises:
        TaskDataError: the file cannot be read as UTF-8 text, or is empty.
    """
    if path is None:
        return builtin_text(part)
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TaskDataError(f"cannot read {path}: {error.strerror}", given=str(path), allowed="a UTF-8 text file") from error
    except UnicodeDecodeError as error:
        raise TaskDataError(f"{path} is not UTF-8 text", given=str(path)) from error
    if not content.strip():
        raise TaskDataError(f"{path} is empty", given=str(path))
    return Text(source=path.name, content=content)
