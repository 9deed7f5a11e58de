"""What drives a prediction: the strongest parts of the case, in plain words, each with its share of the predicted loss.

The parts come from `advisor.attribution`: they add up to the predicted loss, against a case that loses nothing.
"""

from typing import Any

import numpy as np

from advisor.attribution import REFERENCE_SIZE_B, REFERENCE_TASK, REFERENCE_TOKENS
from advisor.candidates import Candidate, scheme_columns
from advisor.predictor import Predictor
from advisor.relation import Columns, task_columns
from advisor.report_words import percent
from advisor.study import Study
from knowledge.task_catalogue import find_task
from knowledge.values import value

_SMALL = 0.0005
"""Effects below this are not worth a line."""


@value
class Driver:
    """One cause, with what it adds to (or takes from) the predicted loss."""

    cause: str
    effect: float
    """Its part of the predicted loss; all parts add up to it."""
    share: float
    """Of the sizes of all parts."""
    text: str


def drivers_of(study: Study, index: int, predictor: Predictor, *, count: int = 3) -> tuple[Driver, ...]:
    """The strongest drivers of the prediction for candidate `index`, averaged over the tasks of the request."""
    weights = np.array([losses.weight for losses in study.losses])
    effects = {cause: float(weights @ parts) for cause, parts in predictor.explain(_cases(study, index)).items()}
    total = sum(abs(effect) for effect in effects.values()) or 1.0
    kind = study.losses[0].kind
    found = [
        Driver(cause=cause, effect=effect, share=abs(effect) / total, text=_text(study, index, cause, effect, total, kind))
        for cause, effect in effects.items()
        if abs(effect) >= _SMALL
    ]
    return tuple(sorted(found, key=lambda driver: (-driver.share, driver.cause))[:count])


def _cases(study: Study, index: int) -> dict[str, list[Any]]:
    """Columns of the candidate's case, one row a task."""
    row = {
        name: None if np.ma.is_masked(values[0]) else values[0]
        for name, values in scheme_columns([study.candidates[index]]).items()
    }
    rows: list[Columns] = []
    for losses in study.losses:
        facts = {"context": study.setting.context, "baseline": losses.baseline, "chance": losses.task.chance}
        rows.append(row | study.constants | task_columns(losses.task) | facts)
    return {name: [facts[name] for facts in rows] for name in rows[0]}


def _text(study: Study, index: int, cause: str, effect: float, total: float, kind: str) -> str:
    points = percent(abs(effect), kind).lstrip("+")
    sense = "adds" if effect > 0 else "saves"
    return f"{_words(study, study.candidates[index], cause)}: {sense} {points} points ({100 * abs(effect) / total:.0f} %)"


def _words(study: Study, candidate: Candidate, cause: str) -> str:
    """A cause and what it is compared with."""
    scheme = candidate.scheme
    words = {
        "weights": f"{scheme.w_bits:g}-bit weights rather than 16",
        "activations": f"{scheme.a_bits:g}-bit activations rather than 16",
        "cache": f"{scheme.kv_name} cache rather than 16 bits",
        "method": f"{candidate.method.title} rather than plain rounding",
        "size": f"{float(study.constants['params_b']):.3g} billion parameters rather than {REFERENCE_SIZE_B:g}",
        "model": f"{study.spec.name} rather than a model of no known family",
        "context": f"{study.setting.context:,} tokens rather than {REFERENCE_TOKENS:,}",
    }
    return words.get(cause) or _task_words(study)


def _task_words(study: Study) -> str:
    """The tasks of the request, and the task that they are compared with."""
    names = ", ".join(item.task.name for item in study.tasks)
    if len(study.tasks) == 1 and study.tasks[0].task.ability:
        names += f" ({study.tasks[0].task.ability})"
    return f"{names} rather than {find_task(REFERENCE_TASK).title}"
