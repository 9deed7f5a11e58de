"""How the figures of an answer read: sizes, losses with their interval, bars. One wording for table, Markdown and errors."""

from math import expm1

from advisor.answer import Estimate, Memory, Quality

GB = 10**9


def size(count: int | float) -> str:
    """Bytes in decimal units, as budgets are given: `9.31 GB`, `512 MB`."""
    if abs(count) >= 0.9995 * GB:
        return f"{count / GB:,.2f} GB"
    return f"{count / 1e6:,.0f} MB"


def number(value: float) -> str:
    """A count with thousands separators, a score with at most four significant digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def share(loss: float, kind: str) -> float:
    """Percent of `loss`: of the above-chance performance, or of the perplexity."""
    return 100 * (expm1(loss) if kind == "delta_nll" else loss)


def percent(loss: float, kind: str) -> str:
    """`1.2` for a relative loss of 0.012; signed for perplexity, where the change is meant: `+2.1`."""
    value = share(loss, kind)
    text = f"{value:+.1f}" if kind == "delta_nll" else f"{value:.1f}"
    return text.replace("-0.0", "0.0") if float(text) == 0 else text


def interval(loss: Estimate, level: float, kind: str) -> str:
    """`90 %: 0.1 to 3.0 %`."""
    return f"{100 * level:.0f} %: {percent(loss.lower, kind)} to {percent(loss.upper, kind)} %"


def loss_sentence(quality: Quality) -> str:
    """What the recipe costs, with its interval, in words."""
    loss, kind = quality.loss, quality.kind
    spread = interval(loss, quality.level, kind)
    if kind == "delta_nll":
        return f"{percent(loss.point, kind)} % perplexity ({spread})"
    if loss.point < 0:
        return f"loses nothing measurable: {percent(loss.point, kind)} % of above-chance performance ({spread})"
    return f"loses {percent(loss.point, kind)} % of above-chance performance ({spread})"


def loss_cell(quality: Quality) -> str:
    """The loss for a table's cell: `1.2 % (0.1 to 3.0)`."""
    loss, kind = quality.loss, quality.kind
    return f"{percent(loss.point, kind)} % ({percent(loss.lower, kind)} to {percent(loss.upper, kind)})"


def basis_sentence(quality: Quality) -> str:
    """Where the figure comes from: scores of this very cell, or the predictor."""
    rows = f"{quality.n_evidence:,} published score{'' if quality.n_evidence == 1 else 's'}"
    if quality.basis == "direct":
        text = f"direct: {rows} of this model, format and task"
    elif quality.n_evidence:
        text = f"predicted; {rows} of this very cell weigh less than the prediction"
    else:
        text = "predicted; no published score of this very model, format and task"
    calibration = [task.n_calibration for task in quality.by_task if task.n_calibration]
    if calibration:
        text += f"; interval from {min(calibration):,} held-out errors"
    return text + ("" if quality.in_support else "; outside what the evidence covers")


def score_sentence(quality: Quality) -> str | None:
    """The expected score beside the unquantized one, where a baseline is known."""
    if quality.expected_score is None or quality.baseline is None:
        return None
    metric = quality.by_task[0].metric if len(quality.by_task) == 1 else "score"
    return f"expected {metric} {number(quality.expected_score)}, unquantized {number(quality.baseline)}"


def memory_parts(memory: Memory) -> list[tuple[str, int]]:
    """The parts of the memory that are not empty, and what is left of the budget."""
    parts = [
        ("weights", memory.weights_bytes),
        ("KV cache", memory.kv_cache_bytes),
        ("state", memory.state_bytes),
        ("buffers", memory.buffers_bytes),
        ("free", max(memory.budget_bytes - memory.total_bytes, 0)),
    ]
    return [(name, count) for name, count in parts if count > 0]


def shares_of(width: int, counts: list[int]) -> list[int]:
    """Cells of a bar of `width` for each count (largest remainder; nothing that is there vanishes while there is room)."""
    total = sum(counts)
    if total <= 0:
        return [0 for _ in counts]
    exact = [width * count / total for count in counts]
    cells = [int(value) for value in exact]
    for n in sorted(range(len(counts)), key=lambda n: (cells[n] > 0, cells[n] - exact[n]))[: width - sum(cells)]:
        cells[n] += 1
    return cells
