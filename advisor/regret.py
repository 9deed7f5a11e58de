"""Regret: what choosing by a forecast costs against choosing by the measured losses, under a memory budget.

For each model x task of one source with at least four recipes measured (contexts and languages of one task averaged, or
each of them apart), and budgets of 25, 33, 50 and 75 % of the 16-bit
size, the recipe chosen is the one with the least predicted loss among those that fit (on a tie the larger one). Measured
losses are noisy themselves, so even a perfect forecast has regret: its recipe is the measured best, judged by losses
redrawn with their item noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.features import Floats, Names
from advisor.scores import Interval, weighted_mean

Ints = NDArray[np.intp]

BUDGETS = (0.25, 0.33, 0.5, 0.75)
LEAST_RECIPES = 4
_REDRAWS = 40
_LEAST_SE = 0.003
_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One model x task under one budget: recipes that fit, in the order of their size."""

    rows: Ints
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """Mean regret over all choices, in the unit of the loss."""

    choices: int
    forecast: Interval
    perfect: Interval
    """A perfect forecast of noisy scores."""
    excess: Interval
    four_bit: Interval
    """Always AWQ, else GPTQ, at 4 bits where it fits; else the highest bits that fit."""
    highest_bits: Interval


def find_choices(groups: Ints, bits_per_weight: Floats, models: Names) -> tuple[Choice, ...]:
    """Every group with at least four recipes and two that fit, for each budget."""
    out = []
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(rows) < LEAST_RECIPES:
            continue
        for budget in BUDGETS:
            fitting = rows[bits_per_weight[rows] <= budget * 16]
            if len(fitting) > 1:
                by_size = fitting[np.argsort(-bits_per_weight[fitting], kind="stable")]
                out.append(Choice(rows=by_size, model=str(models[rows[0]])))
    return tuple(out)


def merge_cells(groups: Ints, cells: Ints, recipes: Ints) -> tuple[Ints, ...]:
    """Rows of each recipe of a model and task, over the cells (contexts, languages) that most of its recipes share.

    Recipes that were not measured in all of these are left out, so that means are over the same cells.

    Args:
        groups: one number for each source x model x task.
        cells: one number for each context and language.
        recipes: one number for each recipe.
    """
    out: list[Ints] = []
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        by_cell: dict[int, set[int]] = {}
        by_recipe: dict[int, list[int]] = {}
        for row in rows.tolist():
            by_cell.setdefault(int(cells[row]), set()).add(int(recipes[row]))
            by_recipe.setdefault(int(recipes[row]), []).append(row)
        most = max(map(len, by_cell.values()))
        shared = {cell for cell, measured in by_cell.items() if len(measured) == most}
        for members in by_recipe.values():
            kept = [row for row in members if int(cells[row]) in shared]
            if {int(cells[row]) for row in kept} == shared:
                out.append(np.array(kept, dtype=np.intp))
    return tuple(out)


def known_error(loss_se: Floats) -> Floats:
    """Item noise of measured losses, 0.003 where it is not known or smaller."""
    return np.maximum(np.nan_to_num(loss_se, nan=_LEAST_SE), _LEAST_SE)


def regret(choices: tuple[Choice, ...], loss: Floats, loss_se: Floats, predicted: Floats, four_bit: Floats) -> Regret:
    """Regret of a forecast and of the rules of thumb.

    Args:
        choices: from `find_choices`.
        loss: measured losses.
        loss_se: their item noise.
        predicted: predicted losses.
        four_bit: preference of "always 4-bit": 2 for AWQ, 1 for GPTQ at 4 bits, else 0.
    """
    rng = np.random.default_rng(_SEED)
    columns: dict[str, list[float]] = {name: [] for name in ("forecast", "perfect", "excess", "four_bit", "highest_bits")}
    for choice in choices:
        rows, measured = choice.rows, loss[choice.rows]
        best = measured.min()
        ours = measured[np.argmin(np.round(predicted[rows], 6))] - best
        redrawn = measured + rng.standard_normal((_REDRAWS, len(rows))) * loss_se[rows]
        perfect = float(np.mean(redrawn[:, np.argmin(measured)] - redrawn.min(axis=1)))
        columns["forecast"].append(ours)
        columns["perfect"].append(perfect)
        columns["excess"].append(ours - perfect)
        columns["four_bit"].append(measured[np.argmax(four_bit[rows])] - best)
        columns["highest_bits"].append(measured[0] - best)
    models = np.array([choice.model for choice in choices], dtype=object)
    names, place, counts = np.unique(models.astype(str), return_inverse=True, return_counts=True)
    weights = np.asarray(counts[place] ** -0.5 if len(names) else np.zeros(0), dtype=np.float64)
    means = {name: weighted_mean(np.array(values), weights, models) for name, values in columns.items()}
    return Regret(choices=len(choices), **means)
