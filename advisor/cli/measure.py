"""`qadvisor measure …` and `qadvisor apply`: handed over to the measuring layer, the only edge from advice to it.

What to measure next is for the advice to say: `measure plan --suggest` is answered here, from the measuring layer's word on
what it can make.
"""

from typing import Any

from typer.core import TyperGroup

from advisor.cli import options
from advisor.cli.suggest import Budget, Only, Panel, suggest_command
from measure.cli import app, apply_app, can_make

__all__ = ["app", "apply_app"]


class _Group(TyperGroup):
    """The commands of the measuring layer, with `plan --suggest` as a way to say `suggest`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that `args` begin with."""
        if args[:1] == ["plan"] and "--suggest" in args:
            args = ["suggest", *(word for word in args[1:] if word != "--suggest")]
        return super().resolve_command(ctx, args)


app.info.cls = _Group


@app.command()
def suggest(budget: Budget = "4h", panel: Panel = False, model: Only = None, json: options.Json = False) -> None:
    """Say what to measure next (also `plan --suggest`): what could change an answer most, per second that it takes.

    Example: qadvisor measure plan --suggest --budget 4h
    """
    suggest_command(can_make, budget=budget, panel=panel, model=model, json=json)
