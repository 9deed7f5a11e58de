"""From an error to what the user sees and to the exit code: 2 not understood, 3 no answer, 1 anything else."""

import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from advisor.answer import SCHEMA_VERSION, Rejection, to_json
from knowledge.errors import NoAnswerError, QAdvisorError
from knowledge.values import field_names

WIDTH = 80
_DEBUG_HINT = "run again with --debug for the traceback"
_EXAMPLES = 3


def show_error(error: Exception, *, as_json: bool, debug: bool) -> int:
    """Show `error` (JSON on stdout, else text on stderr) and return the exit code."""
    if debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    document = error_document(error)
    if as_json:
        sys.stdout.write(to_json(document) + "\n")
    else:
        sys.stderr.write(error_text(error, document["error"]))
    return exit_code(error)


def exit_code(error: Exception) -> int:
    """The exit code of the contract: 2 for requests that cannot be understood, 3 for no answer, 1 for the rest."""
    if isinstance(error, QAdvisorError):
        return error.exit_code
    return 2 if is_usage_error(error) else 1


def is_usage_error(error: Exception) -> bool:
    """Whether the command line itself was wrong (Typer's own errors: unknown option, missing value)."""
    return hasattr(error, "format_message") and getattr(error, "exit_code", None) == 2


def error_document(error: Exception) -> dict[str, Any]:
    """The JSON document of the contract for `error`."""
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "status": "error", "error": _error_fields(error)}
    if isinstance(error, NoAnswerError):
        document["status"] = error.status
        document["rejected"] = [_rejection(item) for item in error.rejected]
    return document


def _error_fields(error: Exception) -> dict[str, Any]:
    if isinstance(error, QAdvisorError):
        return error.as_dict()
    fields: dict[str, Any] = {"code": "internal", "message": f"{type(error).__name__}: {error}", "given": None, "allowed": None}
    if is_usage_error(error):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "qadvisor"
        message = error.format_message()  # type: ignore[attr-defined]
        return fields | {"code": "usage", "message": message, "hint": f"{command} --help"}
    return fields | {"hint": _DEBUG_HINT}


def _rejection(item: object) -> object:
    if isinstance(item, Rejection):
        return {name: getattr(item, name) for name in field_names(item)}
    return str(item)


def error_text(error: Exception, fields: dict[str, Any]) -> str:
    """The message with what was given, what is allowed and what to do, one thing a line, within 80 columns."""
    lines = _wrap("qadvisor: ", str(fields["message"]))
    for name in ("given", "allowed", "hint"):
        value = fields.get(name)
        if value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines += _wrap(f"  {name:<8}", text)
    if isinstance(error, NoAnswerError):
        lines += _rejected_lines(item for item in error.rejected if isinstance(item, Rejection))
    return "\n".join(lines) + "\n"


def _wrap(label: str, text: str) -> list[str]:
    indent = " " * len(label)
    wrapped = textwrap.wrap(text, WIDTH - len(label), break_long_words=False, break_on_hyphens=False) or [""]
    return [(label if n == 0 else indent) + line for n, line in enumerate(wrapped)]


def _rejected_lines(rejected: Iterable[Rejection]) -> list[str]:
    by_limit: dict[str, list[Rejection]] = {}
    for item in rejected:
        by_limit.setdefault(item.limit, []).append(item)
    lines: list[str] = []
    for limit, items in by_limit.items():
        examples = "; ".join(f"{item.scheme} {item.method}: {item.reason}" for item in items[:_EXAMPLES])
        more = f"; and {len(items) - _EXAMPLES} more" if len(items) > _EXAMPLES else ""
        lines += _wrap("  ruled out by ", f"{limit} – {examples}{more}")
    return lines
