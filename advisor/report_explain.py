"""An explanation for people: one candidate's standing, its memory part by part, its loss task by task, rules and evidence."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from advisor.answer import Estimate, Memory, Quality, RuleEffect
from advisor.explanation import Explanation
from advisor.report_blocks import bullets, evidence_line, loss_block, memory_block, recipe_line, runs_in, section
from advisor.report_request import request_line
from advisor.report_words import percent, size


def render_explanation(found: Explanation) -> RenderableType:
    """Everything known about the candidate, the verdict first."""
    option = found.option
    standing = f"{found.position:,} of {found.n_allowed:,} that satisfy the request" if found.position else "not among them"
    head = Table.grid(padding=(0, 1))
    head.add_row(recipe_line(option))
    head.add_row(Text(found.verdict, style="bold"))
    head.add_row(f"{runs_in(option)} · {standing}")
    blocks: list[RenderableType] = [
        Text(request_line(found.request, found.model), style="dim"),
        Text(),
        head,
        section("Memory", Group(memory_block(option.memory), Text(), _parts(option.memory))),
        section("Loss", Group(loss_block(option), Text(), _by_task(option.quality))),
    ]
    blocks += bullets("What drives the prediction", (driver.text for driver in found.drivers))
    blocks += bullets("Reasons", option.reasons)
    blocks += bullets("Cautions", option.cautions)
    blocks += bullets("Rules", map(_rule, option.rules))
    blocks += bullets("Evidence for it", map(evidence_line, option.evidence))
    blocks += bullets("Nearest evidence", map(evidence_line, found.nearest))
    blocks += bullets("Speed", _speed(option.speed))
    blocks.append(Text(f"\nknowledge {found.knowledge_version} · qadvisor {found.tool_version}", style="dim"))
    return Group(*blocks)


def _parts(memory: Memory) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("part", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("how", overflow="fold")
    for part in memory.parts:
        table.add_row(part.name, size(part.bytes), part.formula)
    return table


def _by_task(quality: Quality) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("task", no_wrap=True)
    for name in ("share", "loss", "predicted", "direct", "rows"):
        table.add_column(name, justify="right", no_wrap=True)
    for task in quality.by_task:
        table.add_row(
            task.task,
            f"{100 * task.weight:.0f} %",
            _estimate(task.loss, quality.kind),
            _estimate(task.predicted, quality.kind),
            _estimate(task.direct, quality.kind) if task.direct else "",
            str(task.n_evidence),
        )
    return table


def _estimate(estimate: Estimate, kind: str) -> str:
    return f"{percent(estimate.point, kind)} % ({percent(estimate.lower, kind)} to {percent(estimate.upper, kind)})"


def _rule(rule: RuleEffect) -> str:
    status = "" if rule.status == "applied" else f", {rule.status}"
    return f"{rule.id} ({rule.effect}, {rule.strength}{status}): {rule.title}. {rule.why} [{'; '.join(rule.citations)}]"


def _speed(speed: object) -> Sequence[str]:
    """The rates measured on like cases, as their sources give them."""
    rows = speed.get("evidence", ()) if isinstance(speed, dict) else ()
    return [_rate(row) for row in rows]


def _rate(row: dict[str, object]) -> str:
    tokens, latency = row["decode_tokens_per_s"], row["latency_ms_per_token"]
    rate = f"{tokens:.4g} tokens/s" if tokens is not None else f"{latency:.4g} ms a token"
    where = f" on {row['hardware']}" if row["hardware"] else ""
    batch = f", batch {row['batch']}" if row["batch"] else ""
    return f"{row['model']} in {row['engine']}{where}{batch}: {rate} [{row['source']}: {row['ref']}]"
