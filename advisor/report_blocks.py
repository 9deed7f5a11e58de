"""Building blocks of reports: sections, bulleted lists, memory as a bar, the loss in words, rules and evidence as lines."""

from collections.abc import Iterable
from textwrap import shorten

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from advisor.answer import EvidenceRow, Memory, Option, Quality, RuleEffect
from advisor.report_request import speed_sentence
from advisor.report_words import basis_sentence, loss_sentence, memory_parts, number, percent, score_sentence, shares_of, size

WIDTH = 80
_MOST_ENGINES = 4
_CITATION = 90
_BAR = {
    "weights": ("█", "blue"),
    "KV cache": ("▓", "magenta"),
    "state": ("▒", "cyan"),
    "buffers": ("░", "yellow"),
    "free": ("·", "dim"),
}


def section(title: str, body: RenderableType) -> Group:
    """A heading and, indented beneath it, a body."""
    return Group(Text(f"\n{title}", style="bold"), Padding(body, (0, 0, 0, 2)))


def bullets(title: str, lines: Iterable[str]) -> list[RenderableType]:
    """A section of bulleted lines, each wrapped under its own text; none where there is nothing to say."""
    grid = Table.grid(padding=(0, 1))
    for line in lines:
        grid.add_row("•", Text(line))
    return [section(title, grid)] if grid.row_count else []


def recipe_line(option: Option) -> Text:
    """`w4a16-g128 made with gptq, 4.13 bits per weight`."""
    text = Text(option.scheme, style="bold green")
    if option.method not in ("none", "rtn"):
        text.append(f" made with {option.method}")
    return text.append(f", {option.bits_per_weight:.2f} bits per weight", style="default not bold")


def runs_in(option: Option) -> str:
    """`format gptq · runs in vllm, sglang, lmdeploy, tgi and 2 more`."""
    engines = ", ".join(option.engines[:_MOST_ENGINES])
    more = len(option.engines) - _MOST_ENGINES
    return f"format {option.format} · runs in {engines}" + (f" and {more} more" if more > 0 else "")


def memory_block(memory: Memory) -> Group:
    """Total against the budget, a bar, and its legend."""
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


def loss_block(option: Option) -> Group:
    """The loss with its interval, what it rests on, the expected score, the bytes moved."""
    quality = option.quality
    lines = [
        loss_sentence(quality),
        basis_sentence(quality),
        score_sentence(quality),
        extremes(quality),
        speed_sentence(option.speed),
    ]
    head, *rest = [line for line in lines if line]
    return Group(Text(head, style="bold"), *(Text(line) for line in rest))


def extremes(quality: Quality) -> str | None:
    """Of a mix of tasks, the one that loses most and the one that loses least."""
    if len(quality.by_task) < 2:
        return None
    tasks = sorted(quality.by_task, key=lambda task: -task.loss.point)
    named = [f"{task.task} ({percent(task.loss.point, quality.kind)} %)" for task in (tasks[0], tasks[-1])]
    return f"mean of {len(tasks)} tasks; most on {named[0]}, least on {named[1]}"


def rule_line(rule: RuleEffect) -> str:
    """What a rule says, its id, and the beginning of its first citation; `explain` has them whole."""
    cited = f" [{shorten(rule.citations[0], _CITATION, placeholder=' …')}]" if rule.citations else ""
    status = "" if rule.status == "applied" else f" ({rule.status})"
    return f"{rule.title} (rule {rule.id}){status}{cited}"


def evidence_line(row: EvidenceRow) -> str:
    """A score beside the unquantized one, and where it was published."""
    scores = ""
    if row.score is not None:
        scores = f": {row.metric} {number(row.score)}"
        scores += f", unquantized {number(row.baseline)}" if row.baseline is not None else ""
    method = "" if row.method in ("rtn", "none") else f" {row.method}"
    context = f" at {row.context:,} tokens" if row.context else ""
    return f"{row.model} {row.scheme}{method} on {row.task}{context}{scores} [{row.source}: {row.ref}]"
