"""The answer: ranked recipes with their memory, quality, speed, rules and evidence. Values only; `report` renders them."""

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from knowledge.errors import NoAnswerError
from knowledge.values import field_names, value

SCHEMA_VERSION = 1
"""Version of the JSON contract; it changes only when a field changes its meaning or goes."""

_DIGITS = 6


@value
class MemoryPart:
    """One addend of the memory, with the formula behind it."""

    name: str
    bytes: int
    formula: str
    source: str


@value
class Memory:
    """Bytes at the requested context and batch, against the budget."""

    weights_bytes: int
    kv_cache_bytes: int
    state_bytes: int
    buffers_bytes: int
    total_bytes: int
    budget_bytes: int
    policy: str = ""
    """How the engine keeps the cache (rolling window, full, paged)."""
    parts: tuple[MemoryPart, ...] = ()
    notes: tuple[str, ...] = ()


@value
class Estimate:
    """A loss with its interval."""

    point: float
    lower: float
    upper: float


@value
class TaskQuality:
    """The loss on one task: the predictor's estimate, that of the direct evidence, and both pooled."""

    task: str
    weight: float
    loss: Estimate
    predicted: Estimate
    direct: Estimate | None
    n_evidence: int
    in_support: bool
    n_calibration: int
    baseline: float | None
    expected_score: float | None
    chance: float | None
    metric: str


@value
class Quality:
    """What the recipe costs on the requested task or mix of tasks."""

    kind: str
    """`relative_loss` or `delta_nll`."""
    unit: str
    loss: Estimate
    expected_loss: float
    """Mean of what the loss may turn out to be; more than `loss` where the worse side is the wider. Ranking goes by it."""
    level: float
    basis: str
    """`direct` when most of the weight is evidence for this very cell, else `predicted`."""
    n_evidence: int
    in_support: bool
    expected_score: float | None
    baseline: float | None
    by_task: tuple[TaskQuality, ...]


@value
class RuleEffect:
    """What one rule says about this recipe."""

    id: str
    title: str
    effect: str
    strength: str
    why: str
    citations: tuple[str, ...]
    status: str
    """`applied`, `overruled` (direct evidence contradicts it here) or `contradicted` (evidence contradicts its claim)."""


@value
class EvidenceRow:
    """One published or measured score behind the answer."""

    source: str
    ref: str
    model: str
    scheme: str
    method: str
    task: str
    metric: str
    context: int | None
    score: float | None
    baseline: float | None
    loss: float | None


@value
class Option:
    """One recommended recipe."""

    rank: int
    scheme: str
    method: str
    format: str
    engines: tuple[str, ...]
    bits_per_weight: float
    memory: Memory
    quality: Quality
    speed: Mapping[str, Any] | None
    pareto: bool
    rules: tuple[RuleEffect, ...] = ()
    evidence: tuple[EvidenceRow, ...] = ()
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


@value
class Rejection:
    """A recipe, or a group of them, that was ruled out."""

    scheme: str
    method: str
    reason: str
    limit: str
    """Which limit ruled it out: `memory`, `max_loss`, `rule`, `engine`, `hardware`, `stored`."""


@value
class Recommendation:
    """The whole answer to one request."""

    knowledge_version: str
    tool_version: str
    request: Mapping[str, Any]
    model: Mapping[str, Any]
    recommendations: tuple[Option, ...]
    rejected: tuple[Rejection, ...]
    n_candidates: int
    changes: tuple[str, ...] = ()
    """What would change the answer."""
    notes: tuple[str, ...] = ()
    status: str = "ok"
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def best(self) -> Option:
        """The first recommendation.

        Raises:
            NoAnswerError: there is none.
        """
        if not self.recommendations:
            raise NoAnswerError("there is no recommendation", status=self.status)
        return self.recommendations[0]

    def as_dict(self) -> dict[str, Any]:
        """The JSON contract as plain values, floats rounded to six significant digits."""
        document = {
            "schema_version": self.schema_version,
            "tool_version": self.tool_version,
            "knowledge_version": self.knowledge_version,
            "status": self.status,
            "request": dict(self.request),
            "model": dict(self.model),
            "recommendations": [option_dict(option) for option in self.recommendations],
            "rejected": [slots(rejection) for rejection in self.rejected],
            "n_candidates": self.n_candidates,
            "changes": list(self.changes),
            "notes": list(self.notes),
        }
        return round_floats(document)  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """The JSON contract as text: the same request and knowledge give the same bytes."""
        return _as_text(self.as_dict())


def to_json(document: Any) -> str:
    """JSON text of plain values, two-space indent, floats rounded to six significant digits."""
    return _as_text(round_floats(document))


def _as_text(rounded: Any) -> str:
    return json.dumps(rounded, indent=2, ensure_ascii=False, allow_nan=False)


def round_floats(value: Any) -> Any:
    """`value` with every float rounded to six significant digits, and NaN turned into None."""
    if isinstance(value, float):
        return None if value != value else float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {str(key): round_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_floats(item) for item in value]
    return value


def slots(value: Any) -> dict[str, Any]:
    """The fields of a value type by name."""
    return {name: getattr(value, name) for name in field_names(value)}


def option_dict(option: Option) -> dict[str, Any]:
    """An option as the JSON contract has it."""
    document = slots(option)
    document["memory"] = slots(option.memory) | {"parts": [slots(part) for part in option.memory.parts]}
    document["quality"] = _quality_dict(option.quality)
    document["rules"] = [slots(rule) for rule in option.rules]
    document["evidence"] = [slots(row) for row in option.evidence]
    return document


def _quality_dict(quality: Quality) -> dict[str, Any]:
    by_task = []
    for task in quality.by_task:
        entry = slots(task)
        loss = entry.pop("loss")
        entry |= {quality.kind: loss.point, "lower": loss.lower, "upper": loss.upper}
        entry["predicted"] = slots(task.predicted)
        entry["direct"] = slots(task.direct) if task.direct else None
        by_task.append(entry)
    document = slots(quality)
    loss, kind = document.pop("loss"), document.pop("kind")
    return {kind: loss.point, "lower": loss.lower, "upper": loss.upper} | document | {"by_task": by_task}
