"""Checkpoints that are probably broken: their runs fall far below what the evidence predicts for their scheme.

A figure far outside its interval may be a hard test, a sensitive model or a bad method. A checkpoint whose packing, scales or
chat template went wrong is bad at everything: Qwen3's AWQ files scored 45 on MMLU where GPTQ kept 59 of 60
(github.com/QwenLM/Qwen3/issues/349). So the whole checkpoint is judged, on at least `LEAST_TASKS` tasks.

**Statistic.** For each task the excess of the loss over the prediction, in units of the upper half of the 90 % interval; of the
checkpoint the median over its tasks. Where the user measured two or more other checkpoints of the model, the median excess of
theirs is taken off before if it is positive: a model that suffers under everything is sensitive, not broken.

**Rule.** Flagged is what lies above 1 (beyond the interval on half of its tasks) and survives Benjamini and Hochberg's step-up
at `FALSE_SHARE` over all checkpoints measured. The tail of the statistic is that of published checkpoints whose model was left
out of the fit: 0.9 % lie above 1, and the share falls with the power -1.6 (`python -m advisor.broken_tail`); a median is taken
because errors on the tasks of one checkpoint go together, so that no product of probabilities would hold.

What is flagged is kept and shown, and not learned as the quality of the method.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.features import Column, Floats
from advisor.predictor import Predictor
from advisor.training import model_facts
from knowledge.database import Columns
from knowledge.evidence import BROKEN
from knowledge.store import KnowledgeStore
from knowledge.versions import Flag

LEAST_TASKS = 4
FALSE_SHARE = 0.1
"""Expected share of false alarms among the flagged."""
TAIL_SHARE, TAIL_POWER = 0.0093, 1.63
"""Share of healthy checkpoints above 1, and how fast it falls beyond."""
_LEAST_OTHERS = 2

_RUNS = f"""
SELECT model, scheme, method, source, checkpoint, task, metric, context, any_value(family) AS family, avg(params_b) AS params_b,
    any_value(tuned) AS tuned, any_value(task_type) AS task_type, any_value(ability) AS ability, avg(baseline) AS baseline,
    any_value(chance) AS chance, avg(loss) AS loss
FROM evidence
WHERE own AND loss IS NOT NULL AND method <> 'none' AND (learnable OR starts_with(reason, '{BROKEN}'))
GROUP BY ALL
ORDER BY ALL
"""

Key = tuple[str, str, str, str, str | None]
"""Model, scheme, method, source, checkpoint."""
_FIELDS = ("model", "scheme", "method", "source", "checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One measured checkpoint against what was predicted for it."""

    key: Key
    tasks: int
    score: float
    """Median over tasks of the excess over the prediction, in halves of the interval; what the whole model shows taken off."""
    loss: float
    """Median loss over tasks."""
    predicted: float
    """Median prediction."""


def find_broken(store: KnowledgeStore, predictor: Predictor) -> tuple[Flag, ...]:
    """The user's checkpoints that are probably broken, each with its reason; see the module's head."""
    found = store.columns(_RUNS)
    return flag_broken(measured_checkpoints(found, predictor)) if len(found["loss"]) else ()


def flag_broken(checkpoints: Sequence[Checkpoint]) -> tuple[Flag, ...]:
    """The checkpoints that fail the rule, in their order."""
    p = np.array([tail(checkpoint.score) for checkpoint in checkpoints])
    return tuple(
        Flag(
            model=one.key[0], scheme=one.key[1], method=one.key[2], source=one.key[3], checkpoint=one.key[4],
            reason=(
                f"{BROKEN}: loses {100 * one.loss:.0f} % where {100 * one.predicted:.0f} % was predicted "
                f"(medians of {one.tasks} tasks, {one.score:.1f} times the upper half of the interval)"
            ),
        )
        for one, rejected in zip(checkpoints, step_up(p, FALSE_SHARE), strict=True)
        if rejected and one.score > 1
    )  # fmt: skip


def tail(score: float) -> float:
    """Share of healthy checkpoints at least as bad; 1 for any within the interval."""
    return TAIL_SHARE * score**-TAIL_POWER if score > 1 else 1.0


def step_up(p: Floats, share: float) -> NDArray[np.bool_]:
    """Which hypotheses Benjamini and Hochberg's procedure (1995) rejects, at an expected `share` of false ones."""
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= share * np.arange(1, len(p) + 1) / max(len(p), 1))
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order[: passed[-1] + 1 if len(passed) else 0]] = True
    return rejected


def measured_checkpoints(found: Columns, predictor: Predictor) -> list[Checkpoint]:
    """Every checkpoint with enough tasks among rows of `_RUNS`' columns."""
    columns: dict[str, Column] = {**found, **model_facts(found["model"].tolist())}
    predictions = predictor.predict(columns)
    return judge(found, predictions.point, predictions.upper)


def judge(found: Columns, point: Floats, upper: Floats) -> list[Checkpoint]:
    """Every checkpoint with enough tasks.

    Args:
        found: columns of measured losses: those of `Checkpoint.key`, `task`, `loss`.
        point: prediction for each row.
        upper: upper bound for each row.
    """
    loss = found["loss"].astype(np.float64)
    half = np.maximum(upper - point, 1e-6)
    tasks = _rows_by_task(found)
    excess = {key: np.array([np.mean((loss - point)[rows]) for rows in by_task]) for key, by_task in tasks.items()}
    typical = {key: float(np.median(values)) for key, values in excess.items()}
    out = []
    for key, by_task in tasks.items():
        halves = np.array([np.mean(half[rows]) for rows in by_task])
        rows = [row for members in by_task for row in members]
        out.append(
            Checkpoint(
                key=key,
                tasks=len(by_task),
                score=float(np.median((excess[key] - _sensitivity(key, typical)) / halves)),
                loss=float(np.median(loss[rows])),
                predicted=float(np.median(point[rows])),
            )
        )
    return out


def _rows_by_task(found: Columns) -> dict[Key, list[list[int]]]:
    """The rows of each task of every checkpoint with at least `LEAST_TASKS` tasks."""
    by_key: dict[Key, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (key, task) in enumerate(zip(zip(*(found[name] for name in _FIELDS), strict=True), found["task"], strict=True)):
        by_key[key][str(task)].append(index)
    return {key: list(by_task.values()) for key, by_task in by_key.items() if len(by_task) >= LEAST_TASKS}


def _sensitivity(key: Key, typical: Mapping[Key, float]) -> float:
    """What other checkpoints of the model lose beyond their predictions."""
    others = [excess for other, excess in typical.items() if other[0] == key[0] and other != key]
    return max(float(np.median(others)), 0.0) if len(others) >= _LEAST_OTHERS else 0.0
