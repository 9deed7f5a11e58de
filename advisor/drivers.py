"""What drives a prediction: the loss that goes when one thing about the case changes, in plain words with its share.

Each driver compares the predicted loss with that of the same case but for one change (weights left at 16 bits, a model of
70 billion parameters, …). The shares are those of the sizes of these differences; they do not add up to the loss, since
causes act together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from advisor.candidates import scheme_columns
from advisor.predictor import Predictor
from advisor.relation import Columns, task_columns
from advisor.report_words import percent
from advisor.study import Study
from knowledge.task_catalogue import find_task

_LARGE_B = 70.0
"""Parameters in 1e9 of a model that the studies find tolerant."""
_PLAIN_TASK = "hellaswag"
"""A task of ordinary sensitivity, measured by most sources."""
_SMALL = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One cause, with what it adds to (or takes from) the predicted loss."""

    cause: str
    effect: float
    """Loss with it minus loss without it."""
    share: float
    """Of the sizes of all effects."""
    text: str


def drivers_of(study: Study, index: int, predictor: Predictor, *, count: int = 3) -> tuple[Driver, ...]:
    """The strongest drivers of the prediction for candidate `index`, averaged over the tasks of the request."""
    changes = list(_changes(study, index))
    base = _loss(study, index, predictor, {})
    effects = [(cause, text, base - _loss(study, index, predictor, change)) for cause, text, change in changes]
    total = sum(abs(effect) for _, _, effect in effects) or 1.0
    found = [
        Driver(cause=cause, effect=effect, share=abs(effect) / total, text=f"{text}: {_words(effect, study)}")
        for cause, text, effect in effects
        if abs(effect) >= _SMALL
    ]
    return tuple(sorted(found, key=lambda driver: (-driver.share, driver.cause))[:count])


def _words(effect: float, study: Study) -> str:
    points = percent(abs(effect), study.losses[0].kind).lstrip("+")
    return f"{points} points {'more' if effect > 0 else 'less'} loss"


def _changes(study: Study, index: int) -> Iterator[tuple[str, str, Columns]]:
    """Each cause with its words and the columns that take it away."""
    candidate = study.candidates[index]
    scheme, method = candidate.scheme, candidate.method
    if scheme.weights is not None:
        plain = {"scheme": scheme.kv_name if scheme.kv_cache else "none", "w_bits": 16.0, "w_dtype": None, "w_group": None}
        yield "weights", f"{scheme.w_bits:g}-bit weights rather than 16", plain | {"w_sym": None, "bits_per_weight": 16.0}
    if scheme.activations is not None:
        yield "activations", f"{scheme.a_bits:g}-bit activations rather than 16", {"a_bits": 16.0, "a_dtype": None}
    if scheme.kv_cache is not None:
        left = scheme.weights_name
        yield "cache", f"{scheme.kv_name} cache rather than 16 bits", {
            "scheme": left, "kv_bits": 16.0, "kv_dtype": "none", "kv_name": "kv16",
        }  # fmt: skip
    if method.name not in ("none", "rtn") and scheme.weights is not None:
        yield "method", f"{method.title} rather than plain rounding", {"method": "rtn"}
    size = float(study.constants["params_b"])
    if size < _LARGE_B / 2:
        large = {"params_b": _LARGE_B, "active_params_b": _LARGE_B}
        yield "size", f"{size:.3g} billion parameters rather than {_LARGE_B:g}", large
    plain_task = find_task(_PLAIN_TASK)
    if study.losses[0].kind == "relative_loss":
        names = ", ".join(item.task.name for item in study.tasks)
        change = task_columns(plain_task) | {"chance": plain_task.chance, "baseline": None, "context": 2048}
        yield "task", f"{names} rather than {plain_task.title}", change


def _loss(study: Study, index: int, predictor: Predictor, change: Columns) -> float:
    """Predicted loss of the candidate with some columns changed, averaged over the tasks."""
    row = {name: values[0] if not np.ma.is_masked(values[0]) else None for name, values in _row(study, index).items()}
    total = 0.0
    for losses in study.losses:
        facts: dict[str, Any] = row | study.constants | task_columns(losses.task)
        facts |= {"context": study.setting.context, "baseline": losses.baseline, "chance": losses.task.chance} | change
        total += losses.weight * float(predictor.predict({name: [value] for name, value in facts.items()}).point[0])
    return total


def _row(study: Study, index: int) -> Columns:
    return scheme_columns([study.candidates[index]])
