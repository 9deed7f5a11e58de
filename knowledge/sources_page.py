"""The page about the packaged figures, `docs/reference/sources.md`: written from the tables, never by hand."""

import tempfile
from collections import defaultdict
from pathlib import Path

from knowledge.queries import SourceRow, counts_by_bits, source_rows
from knowledge.store import KnowledgeStore, open_store
from knowledge.tasks import TASK_TYPES

_HEAD = """# Sources of the published figures

Written by `python -m knowledge.publish --page docs/reference/sources.md`; a test compares it with the packaged tables.

Only figures were taken from these sources. Every row of `qadvisor evidence` names its source and the table, figure or file
in it. A licence is that of the repository the figures stand in; rows can be left out by licence.
"""
_LEARNED = """
Rows are not learned from, though shown, when they are baselines, means or parts of other rows, called suspect, reprinted
elsewhere, chosen by their result, or measured from a baseline near chance; `knowledge/evidence.py` has the rules and weights.
"""
_KINDS = ("weights", "weights and activations", "KV cache", "KV cache with weights or activations")


def write_page(path: Path) -> None:
    """Write the page from the packaged tables.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(sources_page(), encoding="utf-8")


def sources_page() -> str:
    """The page's text (Markdown), from the packaged tables alone."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder)) as store:
        parts = [_HEAD, _sources_table(source_rows(store)), _LEARNED, _licence_table(source_rows(store)), _bits_tables(store)]
    return "\n".join(parts)


def _sources_table(rows: list[SourceRow]) -> str:
    lines = [
        "## Sources",
        "",
        "| id | what | origin | licence | scores | learned from | share of weight | speed rows | caveats |",
    ]
    lines.append("| --- | --- | --- | --- | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        share = f"{100 * row.share:.1f} %" if row.n_learnable else ""
        cells = (
            row.id,
            row.title,
            row.origin,
            row.licence,
            _n(row.n_accuracy),
            _n(row.n_learnable),
            share,
            _n(row.n_efficiency),
        )
        lines.append("| " + " | ".join((*map(_cell, cells), _cell(row.caveats))) + " |")
    lines.append(
        f"| **all** | {len(rows)} sources | | | {sum(row.n_accuracy for row in rows)} "
        f"| {sum(row.n_learnable for row in rows)} | | "
        f"{sum(row.n_efficiency for row in rows)} | |"
    )
    return "\n".join(lines)


def _licence_table(rows: list[SourceRow]) -> str:
    by_licence: dict[str, list[SourceRow]] = defaultdict(list)
    for row in rows:
        by_licence[row.licence].append(row)
    lines = ["## By licence", "", "| licence | sources | scores | speed rows |", "| --- | ---: | ---: | ---: |"]
    for licence, members in sorted(by_licence.items()):
        scores, speeds = sum(row.n_accuracy for row in members), sum(row.n_efficiency for row in members)
        lines.append(f"| {licence} | {len(members)} | {scores} | {speeds} |")
    return "\n".join(lines) + "\n"


def _bits_tables(store: KnowledgeStore) -> str:
    """Rows by bits and task type, one table for each kind of tensor that is quantized."""
    counts: dict[str, dict[str, dict[str, int]]] = {kind: defaultdict(lambda: defaultdict(int)) for kind in _KINDS}
    found = counts_by_bits(store)
    for w_bits, a_bits, kv_bits, task_type, n in zip(
        *(found[name].tolist() for name in ("w_bits", "a_bits", "kv_bits", "task_type", "n")), strict=True
    ):
        kind, name = _kind(w_bits, a_bits, kv_bits)
        counts[kind][name][task_type] += n
    lines = [
        "## Scores by bits and task type",
        "",
        "Quantized models only. W: weights, A: activations, KV: cache; 16 bits left out.",
    ]
    for kind in _KINDS:
        lines += ["", f"### {kind[0].upper()}{kind[1:]}", "", "| bits | " + " | ".join(TASK_TYPES) + " |"]
        lines.append("| --- |" + " ---: |" * len(TASK_TYPES))
        for name, by_type in counts[kind].items():
            lines.append(f"| {name} | " + " | ".join(_n(by_type[task_type]) for task_type in TASK_TYPES) + " |")
    return "\n".join(lines) + "\n"


def _kind(w_bits: float, a_bits: float, kv_bits: float) -> tuple[str, str]:
    parts = [f"{letter}{bits:g}" for letter, bits in (("W", w_bits), ("A", a_bits), ("KV", kv_bits)) if bits < 16]
    if kv_bits < 16:
        return ("KV cache" if len(parts) == 1 else "KV cache with weights or activations"), " ".join(parts)
    return ("weights" if a_bits == 16 else "weights and activations"), " ".join(parts)


def _n(count: int) -> str:
    return str(count) if count else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
