"""A recommendation for people: the answer first, then what it rests on, within 80 columns, with or without colour.

`report_markdown` writes the same for a document, `Recommendation.to_json` for programs.
"""

import io
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from advisor.answer import EvidenceRow, Option, Recommendation, RuleEffect
from advisor.report_request import request_line, ruled_out, speed_sentence
from advisor.report_words import (
    basis_sentence,
    loss_cell,
    loss_sentence,
    memory_parts,
    number,
    score_sentence,
    shares_of,
    size,
)

WIDTH = 80
_MOST_REASONS = 3
_MOST_SOURCES = 4
_BAR = {
    "weights": ("█", "blue"),
    "KV cache": ("▓", "magenta"),
    "state": ("▒", "cyan"),
    "buffers": ("░", "yellow"),
    "free": ("·", "dim"),
}


def to_text(renderable: RenderableType, *, width: int = WIDTH) -> str:
    """`renderable` as plain text of `width` columns, without colour."""
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
        console.width = min(max(console.width, WIDTH), 100) if terminal else WIDTH
    return console


def render(answer: Recommendation) -> RenderableType:
    """The whole answer: what to use, memory, loss, why, cautions, runners-up, what was ruled out, what would change it."""
    best, others = answer.best, answer.recommendations[1:]
    blocks: list[RenderableType] = [
        Text(request_line(answer), style="dim"),
        Text(),
        _headline(best),
        _section("Memory", _memory(best)),
        _section("Loss", _loss(best)),
    ]
    blocks += _bullets("Why", _reasons(best))
    blocks += _bullets("Cautions", [*best.cautions, *(_rule(rule) for rule in best.rules if rule.effect == "caution")])
    blocks += _bullets("Evidence", (_evidence(row) for row in best.evidence[:_MOST_SOURCES]))
    if others:
        blocks.append(_section("Runners-up", _runners_up(others)))
    blocks += _bullets("Ruled out", ruled_out(answer))
    blocks += _bullets("What would change the answer", answer.changes)
    blocks += _bullets("Notes", answer.notes)
    blocks.append(Text(f"\nknowledge {answer.knowledge_version} · qadvisor {answer.tool_version}", style="dim"))
    return Group(*blocks)


def _headline(best: Option) -> Text:
    text = Text("Use ")
    text.append(best.scheme, style="bold green")
    text.append(f" made with {best.method}", style="bold") if best.method not in ("none", "rtn") else None
    text.append(f"  {best.bits_per_weight:.2f} bits per weight\n")
    text.append(f"    format {best.format} · runs in {', '.join(best.engines)}")
    return text


def _section(title: str, body: RenderableType) -> Group:
    return Group(Text(f"\n{title}", style="bold"), Padding(body, (0, 0, 0, 2)))


def _bullets(title: str, lines: Iterable[str]) -> list[RenderableType]:
    """A section of bulleted lines, each wrapped under its own text; none where there is nothing to say."""
    grid = Table.grid(padding=(0, 1))
    for line in lines:
        grid.add_row("•", Text(line))
    return [_section(title, grid)] if grid.row_count else []


def _memory(option: Option) -> Group:
    memory = option.memory
    parts = memory_parts(memory)
    bar, legend = Text(), Text()
    for n, ((name, count), cells) in enumerate(zip(parts, shares_of(WIDTH - 4, [count for _, count in parts]), strict=True)):
        mark, style = _BAR[name]
        bar.append(mark * cells, style=style)
        legend.append("  " if n else "")
        legend.append(mark, style=style)
        legend.append(f" {name} {size(count)}")
    line = f"{size(memory.total_bytes)} of {size(memory.budget_bytes)}" + (f" ({memory.policy})" if memory.policy else "")
    return Group(Text(line), bar, legend)


def _loss(option: Option) -> Group:
    quality = option.quality
    lines = [loss_sentence(quality), basis_sentence(quality), score_sentence(quality), speed_sentence(option.speed)]
    if len(quality.by_task) > 1:
        tasks = sorted(quality.by_task, key=lambda task: -task.loss.point)
        lines.append("worst task: " + f"{tasks[0].task}, best: {tasks[-1].task}")
    head, *rest = [line for line in lines if line]
    return Group(Text(head, style="bold"), *(Text(line) for line in rest))


def _reasons(option: Option) -> list[str]:
    """The first reasons, and the rules that speak for the recipe with their citations."""
    rules = [_rule(rule) for rule in option.rules if rule.effect in ("prefer", "require") and rule.status == "applied"]
    return [*option.reasons[:_MOST_REASONS], *rules[: max(_MOST_REASONS - len(option.reasons), 1)]]


def _rule(rule: RuleEffect) -> str:
    cited = f" [{'; '.join(rule.citations[:2])}]" if rule.citations else ""
    status = "" if rule.status == "applied" else f" ({rule.status})"
    return f"{rule.title} (rule {rule.id}){status}{cited}"


def _evidence(row: EvidenceRow) -> str:
    scores = ""
    if row.score is not None:
        scores = f": {row.metric} {number(row.score)}"
        scores += f", unquantized {number(row.baseline)}" if row.baseline is not None else ""
    return f"{row.model} {row.scheme} {row.method} on {row.task}{scores} [{row.source}: {row.ref}]"


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
