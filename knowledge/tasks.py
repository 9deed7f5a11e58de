"""Tasks: what a score is a score of, its chance level, and how large its noise is."""

from typing import Literal

from knowledge.values import value

TaskType = Literal["basic-nlp", "emergent", "trustworthiness", "dialogue", "long-context", "language-modeling", "code"]
"""The five types of Li et al. 2024, plus language modeling (perplexity) and code."""

TASK_TYPES: tuple[TaskType, ...] = (
    "basic-nlp", "emergent", "trustworthiness", "dialogue", "long-context", "language-modeling", "code",
)  # fmt: skip


@value
class MetricSpec:
    """One metric: its direction, and how a loss follows from it."""

    name: str
    higher_is_better: bool
    loss: Literal["relative", "delta_nll", "none"]
    """`relative`: share of the above-chance performance lost; `delta_nll`: ln of the perplexity ratio; `none`: only shown."""
    maximum: float | None = None
    """Best possible score, where there is one (100 for accuracies, 10 for judges)."""


def _percent(name: str) -> MetricSpec:
    return MetricSpec(name=name, higher_is_better=True, loss="relative", maximum=100)


def _shown(name: str, *, higher: bool = False) -> MetricSpec:
    return MetricSpec(name=name, higher_is_better=higher, loss="none")


METRICS: dict[str, MetricSpec] = {
    metric.name: metric
    for metric in (
        *map(_percent, ("acc", "acc_norm", "em", "exact_match", "f1", "pass@1", "score", "win-rate", "edit_sim", "bleu")),
        *map(_percent, ("rouge", "rouge1", "rouge2", "rougeL", "prompt_level_strict_acc", "inst_level_strict_acc")),
        MetricSpec(name="mcc", higher_is_better=True, loss="relative", maximum=100),
        MetricSpec(name="score10", higher_is_better=True, loss="relative", maximum=10),
        MetricSpec(name="csl", higher_is_better=True, loss="relative", maximum=5),
        MetricSpec(name="ppl", higher_is_better=False, loss="delta_nll"),
        MetricSpec(name="word_perplexity", higher_is_better=False, loss="delta_nll"),
        MetricSpec(name="byte_perplexity", higher_is_better=False, loss="delta_nll"),
        MetricSpec(name="nll", higher_is_better=False, loss="delta_nll"),
        _shown("kl"),
        _shown("acc_drop"),
        _shown("bias"),
        _shown("pct_stereotype"),
    )
}
"""Every metric that has a meaning here; `csl` is FollowBench's count of levels satisfied in a row, 0 to 5."""


@value
class TaskSpec:
    """One task, with what is needed to read its scores."""

    name: str
    title: str
    type: TaskType
    ability: str
    metric: str
    """Usual metric; a name in `METRICS`."""
    metrics: tuple[str, ...] = ()
    """Further metrics it is scored by."""
    chance: float | None = None
    """Score of an uninformed answer, in the metric's unit (percent); None = unknown: shown, never learned from."""
    items: int | None = None
    """Test items, for the standard error of a score."""
    unit: str = "percent"
    context: int | None = None
    """Typical tokens of context."""
    representative: bool = False
    """Whether a request for the whole type or ability is answered from this task."""
    source: str = ""
    aliases: tuple[str, ...] = ()
    part_of: str | None = None
    """The task whose items these are some of (`mmlu_stem` of `mmlu`): never counted beside it."""
    average: bool = False
    """Mean over other tasks rather than a test of its own."""


@value
class WeightedTask:
    """One task of a request, with its share of the whole (all shares sum to 1)."""

    task: TaskSpec
    weight: float
