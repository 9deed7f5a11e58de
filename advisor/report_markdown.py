"""A recommendation as Markdown, for issues, notebooks and pull requests."""

from collections.abc import Iterable

from advisor.answer import Option, Recommendation
from advisor.report_request import request_line, ruled_out
from advisor.report_words import basis_sentence, loss_cell, loss_sentence, memory_parts, score_sentence, size


def to_markdown(answer: Recommendation) -> str:
    """The answer as a Markdown document; the same facts as on the terminal."""
    best, others = answer.best, answer.recommendations[1:]
    lines = [
        f"# {answer.model.get('name') or answer.request.get('model')}: {best.scheme}",
        "",
        f"{request_line(answer.request, answer.model)}",
        "",
        f"**Use `{best.scheme}`**, method {best.method}, format {best.format}, in {', '.join(best.engines)}; "
        f"{best.bits_per_weight:.2f} bits per weight.",
        "",
        f"It {loss_sentence(best.quality)}." if best.quality.kind == "relative_loss" else f"{loss_sentence(best.quality)}.",
        f"Basis: {basis_sentence(best.quality)}.",
    ]
    if score := score_sentence(best.quality):
        lines.append(f"{score[0].upper()}{score[1:]}.")
    lines += ["", *_memory(best)]
    lines += _list("Why", best.reasons)
    lines += _list("Cautions", best.cautions)
    lines += _list("Rules", (f"{rule.title} ({rule.id}, {rule.effect}): {'; '.join(rule.citations)}" for rule in best.rules))
    if others:
        lines += ["", "## Runners-up", "", "| # | scheme | method | memory | loss (interval) | runs in |", "| --- " * 6 + "|"]
        lines += [_row(option) for option in others]
    lines += _list("Ruled out", ruled_out(answer))
    lines += _list("What would change the answer", answer.changes)
    lines += _list("Notes", answer.notes)
    return "\n".join([*lines, "", f"knowledge {answer.knowledge_version} · qadvisor {answer.tool_version}"]) + "\n"


def _memory(option: Option) -> list[str]:
    head = f"| total | {size(option.memory.total_bytes)} of {size(option.memory.budget_bytes)} |"
    return [
        "| memory | |",
        "| --- | ---: |",
        head,
        *(f"| {name} | {size(count)} |" for name, count in memory_parts(option.memory)),
    ]


def _row(option: Option) -> str:
    cells = (option.rank, f"`{option.scheme}`", option.method, size(option.memory.total_bytes), loss_cell(option.quality))
    return "| " + " | ".join(map(str, cells)) + f" | {', '.join(option.engines)} |"


def _list(title: str, lines: Iterable[str]) -> list[str]:
    items = [f"- {line}" for line in lines]
    return ["", f"## {title}", "", *items] if items else []
