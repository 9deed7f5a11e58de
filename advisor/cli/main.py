"""Entry point of the command `qadvisor`."""

import gc
import logging
import os
import sys
from collections.abc import Sequence

from advisor.cli.front_door import read_recommend
from advisor.version import VERSION_LINE

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""


def run() -> None:
    """Run the command line of this process and exit.

    Advice ends the process at once: taking the modules of numpy and DuckDB apart again costs a seventh of a command's time.
    Measuring, which starts threads and processes of its own, ends in the ordinary way.
    """
    if sys.argv[1:2] == ["recommend"]:
        gc.disable()  # an answer ends before there is garbage to speak of, and looking for it takes a twentieth of the time
    code = main()
    if "measure" in sys.modules:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are shown, never raised.

    Args:
        arguments: words after `qadvisor`; those of this process where None.
    """
    args, debug = _take_debug(list(sys.argv[1:] if arguments is None else arguments))
    _make_streams_forgiving()
    _log_to_stderr(debug=debug)
    try:
        code = _dispatch(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader (head, less) has gone: nothing to say, and nobody to say it to
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:  # noqa: BLE001 - last line of defence: a user sees one message, not a traceback
        from advisor.cli.errors import show_error

        return show_error(error, as_json="--json" in args, debug=debug)


def _dispatch(args: Sequence[str]) -> int:
    """Run a plain `recommend` or `--version` at once, and everything else through Typer."""
    if args == ["--version"]:
        sys.stdout.write(VERSION_LINE)
        return 0
    if (given := read_recommend(args)) is not None:
        from advisor.cli.answering import answer_command

        return answer_command(**given)
    from advisor.cli.app import run_app

    return run_app(args)


def _take_debug(args: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, which may stand before or behind the command, and whether it was there."""
    end = args.index("--") if "--" in args else len(args)
    return [word for n, word in enumerate(args) if n >= end or word != "--debug"], "--debug" in args[:end]


def _log_to_stderr(*, debug: bool) -> None:
    """Warnings of the library as lines on stderr, everything with `debug`; only the command line configures logging."""
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    elif logging.lastResort:
        logging.lastResort.setFormatter(logging.Formatter("qadvisor: %(message)s"))


def _make_streams_forgiving() -> None:
    """Write a question mark where the terminal's encoding lacks a character, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")
