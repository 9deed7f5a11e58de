"""What the user says about runs that do not say it themselves: a table from files or models to what they were made from.

CSV with the columns `file` or `model`, then `base`, `scheme` and `method`; or YAML, a list of objects with the same names.
`file` and `model` may be patterns (`*`). A scheme `none` says that the model is not quantized; `method` may be left out where
it is plain rounding, or stand behind the scheme (`w4a16-g128:gptq`).
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from knowledge.errors import InvalidRequestError, QAdvisorError
from knowledge.recipes import QuantRecipe, find_method, parse_recipe

_COLUMNS = ("file", "model", "base", "scheme", "method")
_MAX_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One line of the table."""

    file: str | None
    model: str | None
    base: str | None
    recipe: QuantRecipe | None
    method: str | None
    """Said alone where the checkpoint itself states the scheme."""

    def concerns(self, file: str, model: str) -> bool:
        """Whether it is about this run."""
        return _fits(self.file, file) and _fits(self.model, model)


def read_mapping(path: Path) -> list[Statement]:
    """The lines of the table.

    Raises:
        InvalidRequestError: it cannot be read, or a line says nothing that can be understood.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidRequestError(f"{path} is too large for a map", given=str(path), allowed=f"{_MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"cannot read the map {path}: {error}", given=str(path)) from error
    lines = _from_csv(text) if path.suffix.lower() == ".csv" else _from_yaml(text, path)
    return [_statement(line, f"{path}, entry {number}") for number, line in enumerate(lines, start=1)]


def find_statement(statements: Iterable[Statement], file: str, model: str) -> Statement | None:
    """The first line that is about a run."""
    return next((statement for statement in statements if statement.concerns(file, model)), None)


def _from_csv(text: str) -> list[Mapping[str, object]]:
    return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]


def _from_yaml(text: str, path: Path) -> list[Mapping[str, object]]:
    import yaml

    try:
        lines = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidRequestError(f"{path} is neither CSV nor YAML: {error}", given=str(path)) from error
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise InvalidRequestError(f"{path} holds no list of entries", given=str(path), allowed="- model: …, base: …, scheme: …")
    return lines


def _statement(line: Mapping[str, object], where: str) -> Statement:
    unknown = [str(name) for name in line if name not in _COLUMNS]
    if unknown:
        raise InvalidRequestError(f"{where}: unknown column {', '.join(unknown)}", given=", ".join(unknown), allowed=_COLUMNS)
    cells = {name: str(line.get(name) or "").strip() for name in _COLUMNS}
    if not (cells["file"] or cells["model"]):
        raise InvalidRequestError(f"{where}: neither file nor model is given", given=str(dict(line)), allowed=_COLUMNS)
    text = f"{cells['scheme']}:{cells['method']}" if cells["method"] else cells["scheme"]
    try:
        recipe = parse_recipe("none" if cells["scheme"] == "none" else text) if cells["scheme"] else None
        method = find_method(cells["method"]).name if cells["method"] else None
    except QAdvisorError as error:
        raise InvalidRequestError(f"{where}: {error.message}", given=text, allowed=error.allowed, hint=error.hint) from error
    return Statement(
        file=cells["file"] or None, model=cells["model"] or None, base=cells["base"] or None, recipe=recipe, method=method
    )


def _fits(pattern: str | None, text: str) -> bool:
    """Whether a pattern is that of a path, or of its last parts."""
    if pattern is None:
        return True
    path = PurePath(text).as_posix()
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")
