"""The options of `qadvisor recommend` as plain data, for Typer and for the front door alike."""

from typing import Any

FLAGS: dict[str, tuple[str, ...]] = {
    "model": ("--model", "-m"),
    "task": ("--task", "-t"),
    "mem": ("--mem",),
    "context": ("--context", "-c"),
    "batch": ("--batch", "-b"),
    "hardware": ("--hardware",),
    "engine": ("--engine",),
    "max_loss": ("--max-loss",),
    "objective": ("--objective",),
    "probe": ("--probe",),
    "top": ("--top",),
    "online": ("--online",),
    "exclude_licence": ("--exclude-licence",),
    "request": ("--request",),
    "json": ("--json",),
    "markdown": ("--markdown",),
}
"""Spellings of each option, by the name of the command's parameter."""

SWITCHES = frozenset({"online", "json", "markdown"})
"""Options without a value."""

REPEATED = frozenset({"exclude_licence"})
"""Options that may be given more than once."""

PATHS = frozenset({"probe", "request"})
"""Options whose value is a path."""


def request_values(**values: Any) -> dict[str, Any]:
    """The options that were given, as fields of a request."""
    return {name: value for name, value in values.items() if value is not None and value is not False and value != []}
