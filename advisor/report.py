"""A recommendation for people: the answer first, then what it rests on, within 80 columns, with or without colour.

`report_markdown` writes the same for a document, `Recommendation.to_json` for programs.
"""

import io
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from advisor.answer import Option, Recommendation
from advisor.report_blocks import (
    WIDTH,
    bullets,
    evidence_line,
    loss_block,
    memory_block,
    recipe_line,
    rule_line,
    runs_in,
    section,
)
from advisor.report_request import request_line, ruled_out
from advisor.report_words import loss_cell, size

_WIDEST = 100
_MOST_REASONS = 3
_MOST_SOURCES = 4


def to_text(renderable: RenderableType, *, width: int = WIDTH) -> str:
    """`renderable` as plain text of `width` columns, without colour and without blanks at line ends."""
    buffer = io.StringIO()
    make_console(buffer, width=width).print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def make_console(file: TextIO, *, width: int | None = None) -> Console:
    """A console on `file`: 80 columns and no colour unless it is a terminal (then at most 100 columns)."""
    terminal = file.isatty()
    console = Console(
        file=file, width=width, force_terminal=None if terminal else False, highlight=False, markup=False, emoji=False,
        soft_wrap=False, color_system="auto" if terminal else None,
    )  # fmt: skip
    if width is None:
        console.width = min(max(console.width, WIDTH), _WIDEST) if terminal else WIDTH
    return console


def render(answer: Recommendation) -> RenderableType:
    """The whole answer: what to use, memory, loss, why, cautions, runners-up, what was ruled out, what would change it."""
    best, others = answer.best, answer.recommendations[1:]
    headline = Table.grid(padding=(0, 1))
    headline.add_row(Text("Use", style="bold"), recipe_line(best))
    headline.add_row("", runs_in(best))
    blocks: list[RenderableType] = [
        Text(request_line(answer.request, answer.model), style="dim"),
        Text(),
        headline,
        section("Memory", memory_block(best.memory)),
        section("Loss", loss_block(best)),
    ]
    blocks += bullets("Why", _reasons(best))
    blocks += bullets("Cautions", _cautions(best))
    blocks += bullets("Evidence", (evidence_line(row) for row in best.evidence[:_MOST_SOURCES]))
    if others:
        blocks.append(section("Runners-up", _runners_up(others)))
    blocks += bullets("Ruled out", ruled_out(answer))
    blocks += bullets("What would change the answer", answer.changes)
    blocks += bullets("Notes", answer.notes)
    blocks.append(Text(f"\nknowledge {answer.knowledge_version} · qadvisor {answer.tool_version}", style="dim"))
    return Group(*blocks)


def _reasons(option: Option) -> list[str]:
    """The first reasons, then rules that speak for the recipe and are not among them."""
    reasons = list(option.reasons[:_MOST_REASONS])
    rules = [rule for rule in option.rules if rule.effect in ("prefer", "require") and rule.status == "applied"]
    unsaid = [rule_line(rule) for rule in rules if not any(rule.id in reason for reason in reasons)]
    return reasons + unsaid[: _MOST_REASONS - len(reasons)]


def _cautions(option: Option) -> list[str]:
    """What is said against the recipe, and rules of caution that are not among it."""
    rules = [rule for rule in option.rules if rule.effect == "caution"]
    return [*option.cautions, *(rule_line(rule) for rule in rules if not any(rule.id in text for text in option.cautions))]


def _runners_up(others: Sequence[Option]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("scheme", no_wrap=True)
    table.add_column("method", no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("loss (interval)", no_wrap=True)
    table.add_column("runs in", overflow="fold")
    for option in others:
        table.add_row(
            str(option.rank), option.scheme, option.method, size(option.memory.total_bytes), loss_cell(option.quality),
            option.engines[0] if option.engines else "",
        )  # fmt: skip
    return table
