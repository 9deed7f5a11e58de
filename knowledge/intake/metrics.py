"""Metrics as lm-evaluation-harness and `qadvisor measure` call them, and what they are called here."""

import math
from dataclasses import dataclass
from typing import Literal

Scale = Literal["share", "points", "perplexity", "log-likelihood", "nats"]
"""How a figure is written: a share of 1, points of 100 or a share (the pair decides), a perplexity, or the mean of a
log-likelihood or of its negative, whose exponential is the perplexity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a metric belongs."""

    metric: str
    """A name in `knowledge.tasks.METRICS`."""
    scale: Scale

    @property
    def factor(self) -> float:
        """By what a difference of two figures is multiplied to be one in the metric's unit (perplexity: in nats)."""
        return 100.0 if self.scale == "share" else 1.0


_SHARES = {
    "acc": "acc", "acc_norm": "acc_norm", "exact_match": "exact_match", "em": "em", "mc1": "acc", "mc2": "acc", "mcc": "mcc",
    "pass@1": "pass@1", "pass_at_1": "pass@1", "prompt_level_strict_acc": "prompt_level_strict_acc",
    "inst_level_strict_acc": "inst_level_strict_acc", "pct_stereotype": "pct_stereotype",
}  # fmt: skip
_POINTS = {"f1": "f1", "bleu": "bleu", "rouge1": "rouge1", "rouge2": "rouge2", "rougeL": "rougeL", "score": "score"}
_PERPLEXITIES = {"word_perplexity": "word_perplexity", "byte_perplexity": "byte_perplexity", "perplexity": "ppl", "ppl": "ppl"}
_NATS = {"nll_per_word": "word_perplexity", "nll_per_byte": "byte_perplexity"}


def place_metric(name: str) -> Placed | None:
    """What the metric `name` (without its filter) is here; None where it is no evidence (`ece`, `bits_per_byte`, …)."""
    scales: tuple[tuple[dict[str, str], Scale], ...] = (
        (_SHARES, "share"), (_POINTS, "points"), (_PERPLEXITIES, "perplexity"), (_NATS, "nats"),
    )  # fmt: skip
    for names, scale in scales:
        if name in names:
            return Placed(metric=names[name], scale=scale)
    return None


def in_unit(placed: Placed, score: float, baseline: float) -> tuple[float, float, float]:
    """Score and baseline in the metric's unit, and the factor of their difference (see `Placed.factor`).

    Raises:
        OverflowError: a likelihood so low that its perplexity is no number.
    """
    if placed.scale == "share":
        return 100 * score, 100 * baseline, 100.0
    if placed.scale == "points":
        factor = 100.0 if max(score, baseline) <= 1 else 1.0
        return factor * score, factor * baseline, factor
    if placed.scale in ("nats", "log-likelihood"):
        sign = -1 if placed.scale == "log-likelihood" else 1
        return math.exp(sign * score), math.exp(sign * baseline), 1.0
    return score, baseline, 1.0
