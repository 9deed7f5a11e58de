"""Forecasts of many recipes on several tasks at once: what recipes, model and tasks contribute is worked out apart.

A request asks about some hundred recipes of one model on a handful of tasks. The recipes' features are those of every
request with the same engine and device, so they are kept; model and tasks are encoded as one row each and repeated.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from advisor.features import NAME_COLUMNS, NUMBER_COLUMNS, Features, encode
from advisor.grouping import Places
from advisor.predictor import Predictions, Predictor
from advisor.recipe_table import RecipeTable

_CONSTANT_NAMES = tuple(name for name in (*NAME_COLUMNS, "series") if name != "method")
"""Names that model and task decide; the method is the recipe's."""
_KV_COLUMNS = ("kv_bits", "kv_dtype", "kv_name")
_RECIPE_NAMES = ("method", "kv_method", "code", "a_code", "kv_code")


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
    found = predictor.predict_features(_crossed(recipes, [encode_one({**constants, **task}) for task in tasks]))
    length = len(recipes)
    return [_part(found, slice(number * length, (number + 1) * length)) for number in range(len(tasks))]


@lru_cache(maxsize=32)
def _recipe_features(table: RecipeTable) -> Features:
    """The features of each recipe: those of its weights and those of its cache, which some hundred formats share."""
    weights, weights_place = _encoded(table, table.weights, without=_KV_COLUMNS)
    caches, caches_place = _encoded(table, table.caches, without=())
    places = {name: caches_place if name.startswith("kv_") else weights_place for name in (*weights.numbers, *weights.names)}
    places["kv_method"] = weights_place
    sources = {name: caches if place is caches_place else weights for name, place in places.items()}
    return Features(
        numbers={name: sources[name].numbers[name][places[name]] for name in weights.numbers},
        names={name: sources[name].names[name][places[name]] for name in weights.names},
        is_nll=weights.is_nll[weights_place],
    )


def _encoded(table: RecipeTable, alike: tuple[Places, Places], *, without: Collection[str]) -> tuple[Features, Places]:
    """The features of the recipes that stand for all others, and where each recipe's own are."""
    first, place = alike
    return encode({name: cells[first] for name, cells in table.scheme.items() if name not in without}), place


def encode_one(facts: Mapping[str, Any]) -> Features:
    """The features of one row."""
    return encode({name: [value] for name, value in facts.items()})


def _crossed(recipes: Features, tasks: Sequence[Features]) -> Features:
    """The recipes' features once for each row of model and task, task by task."""
    length, places = len(recipes), np.arange(len(tasks)).repeat(len(recipes))
    factors = {}
    for name in _RECIPE_NAMES:
        distinct, place = recipes.factor(name)
        factors[name] = distinct, np.tile(place, len(tasks))
    factors |= {name: (tuple(str(task.names[name][0]) for task in tasks), places) for name in _CONSTANT_NAMES}
    return Features(
        numbers={name: np.tile(values, len(tasks)) for name, values in recipes.numbers.items()}
        | {name: np.array([task.numbers[name][0] for task in tasks]).repeat(length) for name in NUMBER_COLUMNS},
        names={name: np.array(names, dtype=object)[place] for name, (names, place) in factors.items()},
        is_nll=np.array([task.is_nll[0] for task in tasks]).repeat(length),
        factors=factors,
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
