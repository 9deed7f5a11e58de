"""`qadvisor measure plan --suggest`: what to measure next, for the requests that are asked here."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli import output
from knowledge.errors import InvalidRequestError

if TYPE_CHECKING:
    from advisor.request import AdviceRequest
    from advisor.suggest import Measurable, Suggestion

Budget = Annotated[str, typer.Option("--budget", metavar="TIME", help="Time to spend: 30m, 4h, 2d.")]
Panel = Annotated[bool, typer.Option("--panel", help="Ask the panel of 200 requests, whatever was asked here.")]
Only = Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="Only measurements of this model.")]

_TIME = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([smhd])\s*$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def suggest_command(measurable: "Measurable", *, budget: str, panel: bool, model: str | None, json: bool) -> None:
    """Print the measurements that are worth most within the budget.

    Args:
        measurable: whether a scheme can be made by a method here.
        budget: time to spend, with its unit.
        panel: ask the panel even where there are past requests.
        model: only measurements of this model.
        json: print JSON.

    Raises:
        InvalidRequestError: the budget is no time.
        UnknownNameError: nobody knows the model.
    """
    from advisor.past_requests import past_requests
    from advisor.suggest import past_seconds, suggest
    from knowledge.catalogue import find_model, match_model
    from knowledge.home import home
    from knowledge.store import open_store

    seconds = parse_time(budget)
    asked, origin = (past_requests(), "past requests") if not panel else ({}, "")
    if not asked:
        asked, origin = _panel(), "requests of the panel"
    if model is not None:
        name = find_model(model).name
        asked = {one: count for one, count in asked.items() if (spec := match_model(one.model)) and spec.name == name}
    with open_store() as store:
        found = suggest(store, asked, budget_s=seconds, measurable=measurable, past_s=past_seconds(home()))
    if json:
        output.write_json(output.versioned(requests=len(asked), origin=origin, suggestions=[one.as_dict() for one in found]))
        return
    output.write_text("".join(f"{_line(one)}\n  {one.command}\n" for one in found))
    spent = sum(one.seconds for one in found) / 3600
    output.write_text(f"measurements: {len(found)}, about {spent:.1f} h; they may change answers to {origin}: {len(asked)}\n")


def parse_time(text: str) -> float:
    """Seconds of a time with its unit.

    Raises:
        InvalidRequestError: it is none.
    """
    found = _TIME.match(text)
    if not found or not float(found[1]) > 0:
        raise InvalidRequestError(f"{text!r} is no time", given=text, allowed=["30m", "4h", "2d"])
    return float(found[1]) * _SECONDS[found[2]]


def _panel() -> "dict[AdviceRequest, int]":
    from advisor.panel_requests import panel_requests

    return dict.fromkeys(panel_requests(), 1)


def _line(one: "Suggestion") -> str:
    cell, minutes = one.cell, one.seconds / 60
    how = "estimated from the size" if one.estimated else "as past runs took"
    return (
        f"{cell.model} · {cell.recipe} · {cell.task}: probability {100 * one.flips:.0f} % to change an answer, worth "
        f"{100 * one.value:.2f} points (requests: {one.requests}); {minutes:.0f} min ({how})"
    )
