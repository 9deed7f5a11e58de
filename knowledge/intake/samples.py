"""Documents that lm-evaluation-harness has logged beside a result file, and the noise of the difference of two runs on them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge.documents import number_of, object_of
from knowledge.intake.harness import HarnessRun, Score
from knowledge.intake.pairs import se_of_difference

MAX_BYTES = 2 << 30
MAX_LINE_BYTES = 32 << 20
"""One document with its prompts; those of long-context tasks have some megabytes."""

_TOLERANCE = 1e-6
"""Share by which the mean over the documents may differ from the result that they are said to belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What a run scored on one document."""

    value: float
    weight: float
    document: str | None
    """Hash of the document."""


def paired_se(run: HarnessRun, baseline: HarnessRun, score: Score, *, expected: float) -> float | None:
    """Standard error of `score - baseline` over the documents of both runs; None where they are not logged alike.

    Perplexities: of the difference of the mean negative log-likelihoods, in nats.

    Args:
        run: the quantized run.
        baseline: the other run.
        score: which of its numbers.
        expected: the same number of the baseline.
    """
    mine, theirs = _logged(run, score), _logged(baseline, score)
    if not mine or mine.keys() != theirs.keys():
        return None
    pairs = [(mine[place], theirs[place]) for place in mine]
    if any(one.document != other.document or one.weight != other.weight for one, other in pairs):
        return None
    values, before = [one.value for one, _ in pairs], [other.value for _, other in pairs]
    weights = [one.weight for one, _ in pairs]
    if not score.metric.endswith(("perplexity", "ppl")) and not (
        _is_mean(values, score.value) and _is_mean(before, expected)
    ):  # the log belongs to another run, or the metric is no mean over documents
        return None
    return se_of_difference(values, before, weights)


def _is_mean(values: list[float], stated: float) -> bool:
    return abs(sum(values) / len(values) - stated) <= _TOLERANCE * max(1.0, abs(stated))


def _logged(run: HarnessRun, score: Score) -> dict[tuple[str, object], Logged]:
    """Value of a metric by task and document; empty where any of the run's tasks is not logged."""
    stamp = run.path.name.removeprefix("results_").removesuffix(".json")
    found: dict[tuple[str, object], Logged] = {}
    for task in run.leaves:
        path = run.path.with_name(f"samples_{task}_{stamp}.jsonl")
        if "/" in task or "\\" in task or not path.is_file() or path.stat().st_size > MAX_BYTES:
            return {}
        for document in _documents(path):
            if document.get("filter", "none") != (score.filter or "none"):
                continue
            value = _value(document.get(score.metric))
            place = (task, str(document.get("doc_id")))
            if value is None or place in found:
                return {}
            found[place] = Logged(value=value[0], weight=value[1], document=str(document.get("doc_hash")))
    return found


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log that are JSON objects."""
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                yield object_of(json.loads(line))
    except (OSError, ValueError, RecursionError):
        yield {"filter": "none"}  # a line without a value: the whole log counts as none


def _value(value: object) -> tuple[float, float] | None:
    """Value and weight of a document: a number, or of a perplexity the log-likelihood, with the words or bytes that it has."""
    if isinstance(value, bool):
        return float(value), 1.0
    if isinstance(value, list) and len(value) == 2:
        total, count = number_of(value[0]), number_of(value[1])
        return (-total / count, count) if total is not None and count is not None and count > 0 else None
    number = number_of(value)
    return None if number is None else (number, 1.0)
