"""Forecasts of many recipes on several tasks at once: what recipes, model and tasks contribute is worked out apart.

A request asks about some hundred recipes of one model on a handful of tasks. The recipes' features are those of every
request with the same engine and device, so they are kept; model and tasks are encoded as one row each and repeated.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from advisor.features import NAME_COLUMNS, NUMBER_COLUMNS, Features, encode
from advisor.predictor import Predictions, Predictor
from advisor.recipe_table import RecipeTable

_CONSTANT_NAMES = tuple(name for name in (*NAME_COLUMNS, "series") if name != "method")
"""Names that model and task decide; the method is the recipe's."""


def forecast_tasks(
    predictor: Predictor, table: RecipeTable, constants: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]
) -> list[Predictions]:
    """The losses of every recipe of `table` on each task.

    Args:
        predictor: the fitted predictor.
        table: the recipes.
        constants: columns that hold for all rows (facts of the model, the context).
        tasks: columns that hold for all rows of a task (its facts, baseline and chance level).

    Returns:
        For each task the predictions in the order of the recipes: the same as `Predictor.predict` gives for the rows
        written out.
    """
    recipes = _recipe_features(table)
    stacked = _stack([_with_constants(recipes, {**constants, **task}) for task in tasks])
    found = predictor.predict_features(stacked)
    length = len(recipes)
    return [_part(found, slice(start, start + length)) for start in range(0, length * len(tasks), length)]


@lru_cache(maxsize=32)
def _recipe_features(table: RecipeTable) -> Features:
    return encode(table.scheme)


def _with_constants(recipes: Features, constants: Mapping[str, Any]) -> Features:
    """The recipes' features with those of one row of model and task in every row."""
    one, length = encode({name: [value] for name, value in constants.items()}), len(recipes)
    return Features(
        numbers=recipes.numbers | {name: np.full(length, one.numbers[name][0]) for name in NUMBER_COLUMNS},
        names=recipes.names | {name: np.full(length, one.names[name][0], dtype=object) for name in _CONSTANT_NAMES},
        is_nll=np.full(length, one.is_nll[0]),
    )


def _stack(parts: Sequence[Features]) -> Features:
    return Features(
        numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers},
        names={name: np.concatenate([part.names[name] for part in parts]) for name in parts[0].names},
        is_nll=np.concatenate([part.is_nll for part in parts]),
    )


def _part(found: Predictions, rows: slice) -> Predictions:
    return Predictions(
        point=found.point[rows],
        lower=found.lower[rows],
        upper=found.upper[rows],
        level=found.level,
        n_calibration=found.n_calibration[rows],
        in_support=found.in_support[rows],
        kind=found.kind[rows],
    )
