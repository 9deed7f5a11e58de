"""The command line as Typer sees it: the root with its lazily loaded commands."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from advisor.cli.groups import LazyGroup, new_app
from advisor.version import VERSION_LINE

_app = new_app(cls=LazyGroup, invoke_without_command=True)


@_app.callback()
def _qadvisor(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and logs; allowed behind any command.")] = False,
) -> None:
    """Which bit-width and quantization method to use, what it costs, and the evidence.

    Exit codes: 0 an answer; 2 the request cannot be understood; 3 understood, but nothing satisfies it; 1 anything else.
    """
    if version:
        sys.stdout.write(VERSION_LINE)
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def run_app(args: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Args:
        args: words after `qadvisor`.

    Raises:
        KeyboardInterrupt: the user interrupted it.
        Exception: whatever the command raises, Typer's own complaints about the command line included.
    """
    try:
        code = typer.main.get_command(_app).main(list(args), prog_name="qadvisor", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0
