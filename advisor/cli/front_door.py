"""A plain `qadvisor recommend …` read without Typer, whose import would be a quarter of the command's time.

Only lines that can mean one thing are read here: whole option names, each once, each with its value behind it. Everything
else (`--help`, abbreviations, `--name=value`, mistakes) is left to Typer, so that there is one place that says what is wrong.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advisor.cli.flags import FLAGS, PATHS, REPEATED, SWITCHES

_NAMES = {flag: name for name, flags in FLAGS.items() for flag in flags}


def read_recommend(args: Sequence[str]) -> dict[str, Any] | None:
    """The parameters of `advisor.cli.recommend.recommend` that a command line gives; None where Typer must read it.

    Args:
        args: words after `qadvisor`.
    """
    if not args or args[0] != "recommend":
        return None
    given: dict[str, Any] = {}
    words = iter(args[1:])
    for word in words:
        name = _NAMES.get(word)
        if name is None or (name in given and name not in REPEATED):
            return None
        if name in SWITCHES:
            given[name] = True
            continue
        value = next(words, "-")
        if value.startswith("-"):
            return None
        if name in REPEATED:
            given.setdefault(name, []).append(value)
        else:
            given[name] = Path(value) if name in PATHS else value
    return given
