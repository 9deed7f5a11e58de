"""Command groups: one that loads a command's module when it is called for, one whose bare name lists."""

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from knowledge.errors import UnknownNameError

COMMANDS: dict[str, str] = {
    "recommend": "The best recipe for a model, a task and a memory budget, with reasons.",
    "explain": "Everything known about one candidate: evidence, rules, arithmetic, rank.",
    "memory": "Bytes of weights, KV cache, state and buffers, part by part.",
    "predict": "The loss of every configuration of a table, with its interval.",
    "recipe": "How to make and serve a checkpoint of a recommended recipe.",
    "apply": "Make the checkpoint of a recipe and check it (extra `measure`).",
    "evidence": "Browse the published and measured scores.",
    "rules": "Browse the papers' findings; recompute their claims.",
    "models": "Browse the model catalogue; look into a model file.",
    "tasks": "Browse the tasks: type, metric, chance level, items.",
    "schemes": "Browse the number formats and their bits per weight.",
    "hardware": "Browse the devices; say which one is here.",
    "engines": "Browse the inference engines: weight formats, KV-cache types.",
    "backtest": "The honest error of the predictor on families it has not seen.",
    "measure": "Quantize and score models on this machine (extra `measure`).",
    "refresh": "Take new runs, harness results and tables in; publish the next version.",
    "knowledge": "Versions of the knowledge base: log, diff, rollback, verify.",
    "doctor": "What this installation can do, what is missing; rebuild the store.",
}
"""Every command with its line of help. The command `x` is the Typer application `app` of `advisor.cli.x`."""


def new_app(**options: Any) -> typer.Typer:
    """A Typer application with this program's settings: plain help, no completion options."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **options)


class LazyGroup(TyperGroup):
    """Loads only the module of the command that is called: start-up time is most of a command's time."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command called `cmd_name`.

        Raises:
            UnknownNameError: there is none; lists the nearest.
        """
        if cmd_name not in COMMANDS:
            raise UnknownNameError.of("command", cmd_name, list(COMMANDS), hint="`qadvisor --help` lists the commands")
        command = typer.main.get_command(importlib.import_module(f"advisor.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of commands from their lines of help, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


class ListingGroup(TyperGroup):
    """A group of commands about one kind of thing; without the name of a command it is `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front when no command is named."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)
