"""Writing results: JSON or rendered, on stdout; what is not a result goes to stderr."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.answer import SCHEMA_VERSION, to_json
from knowledge.errors import InvalidRequestError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text


def write_json(document: Any) -> None:
    """Write a JSON document."""
    sys.stdout.write(to_json(document) + "\n")
    sys.stdout.flush()


def write_text(text: str) -> None:
    """Write text as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_rich(*parts: "RenderableType") -> None:
    """Render for the terminal, or as plain text of 80 columns where stdout is not one."""
    from rich.console import Group

    from advisor.report import make_console, to_text

    if sys.stdout.isatty():
        make_console(sys.stdout).print(Group(*parts))
    else:
        write_text(to_text(Group(*parts)))


def warn(message: str) -> None:
    """Write a line about the work, not about the result, to stderr."""
    sys.stderr.write(f"qadvisor: {message}\n")


def versioned(**fields: Any) -> dict[str, Any]:
    """A JSON document that carries the version of the contract."""
    return {"schema_version": SCHEMA_VERSION} | fields


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = (), whole: Iterable[str] = ()
) -> "Table":
    """A table of `rows`: the first column (the name to copy), `whole` and `right` never wrap; unknown (None) stays empty."""
    from rich.table import Table

    to_right, unwrapped = set(right), {*columns[:1], *right, *whole}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in to_right else "left", overflow="fold", no_wrap=name in unwrapped)
    for row in rows:
        table.add_row(*(cell_text(cell) for cell in row))
    return table


def make_facts(facts: Mapping[str, object]) -> "Table":
    """Name and value, one a line; what is unknown (None) or empty is left out."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value not in (None, "", (), []):
            table.add_row(name, cell_text(value))
    return table


def count_line(count: int, noun: str, more: str = "") -> "Text":
    """`12 models`, in grey, behind a table; `more` is said after it."""
    from rich.text import Text

    return Text(f"\n{count:,} {noun}{'' if count == 1 else 's'}{more}", style="dim")


def cell_text(value: object) -> str:
    """A value as a table shows it: None empty, integers with separators, floats with four significant digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell_text(item) for item in value)
    return str(value)


def check_writable(path: Path) -> Path:
    """`path`, once it is sure that a file can be written there: before the work, not after it.

    Raises:
        InvalidRequestError: the folder is missing, or the file cannot be written.
    """
    import os

    folder = path.parent
    if path.is_dir() or not folder.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in {folder}, which is no folder"
        raise InvalidRequestError(f"cannot write {path}: it {what}", given=str(path), allowed="a file in an existing folder")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise InvalidRequestError(
            f"cannot write {path}: permission denied", given=str(path), allowed="a file that this user may write",
            hint="choose another --output",
        )  # fmt: skip
    return path
