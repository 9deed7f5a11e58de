"""What the rules say of the candidates of a request, and where direct evidence overrules them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import sqrt

import numpy as np
import numpy.typing as npt

from advisor.costs import Costs
from advisor.losses import TaskLosses
from advisor.pool import Z90
from advisor.recipe_table import RecipeTable, recipe_table
from advisor.relation import Columns, size_columns
from advisor.same import Same
from knowledge.rule_evaluation import evaluate, recipe_part
from knowledge.rules import Rule
from knowledge.store import KnowledgeStore

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the rules say of each candidate; arrays of shape (candidates, rules), over all tasks of the request."""

    rules: tuple[Rule, ...]
    holds: Bools
    """The rule speaks of the candidate."""
    overruled: Bools
    """Direct evidence for this very cell contradicts the rule: it has no effect here, and the answer says so."""
    by_task: Bools
    """Whether each rule speaks of each candidate on each task: (tasks, candidates, rules), whatever the evidence says."""

    def acting(self, effects: Sequence[str], strengths: Sequence[str] = ("strong", "medium", "weak")) -> Ints:
        """How many rules of these effects and strengths act on each candidate."""
        acts = zip(self.rules, _acting_effects(Same(self.rules)), strict=True)
        wanted = [number for number, (rule, effect) in enumerate(acts) if effect in effects and rule.strength in strengths]
        counts: Ints = (self.holds[:, wanted] & ~self.overruled[:, wanted]).sum(axis=1)
        return counts

    @cached_property
    def strong_avoid(self) -> Bools:
        """A strong rule advises against the candidate, or it misses what a rule requires."""
        return (self.acting(["avoid"], ["strong"]) + self.acting(["require"])) > 0


@lru_cache(maxsize=4)
def _acting_effects(rules: Same[tuple[Rule, ...]]) -> tuple[str, ...]:
    """The effect of each rule as it acts."""
    return tuple(rule.acting for rule in rules.value)


def rules_that_hold(
    store: KnowledgeStore, rules: tuple[Rule, ...], costs: Costs, requests: Columns, budget_bytes: int
) -> Bools:
    """Whether each rule speaks of each candidate on each task, whatever the evidence says.

    Args:
        store: the open knowledge base.
        rules: the rules.
        costs: the candidates with their sizes.
        requests: the request, one row a task (`advisor.relation.request_columns`).
        budget_bytes: memory of the request.

    Returns:
        Array of shape (tasks, candidates, rules).
    """
    table = recipe_table(costs.candidates)
    with store.sandbox() as connection:
        return evaluate(
            connection, rules, _of_recipes(store, table, Same(rules)), recipes=table.candidate_scheme, requests=requests,
            both=size_columns(costs, budget_bytes),
        )  # fmt: skip


@lru_cache(maxsize=32)
def _of_recipes(store: KnowledgeStore, table: RecipeTable, rules: Same[tuple[Rule, ...]]) -> Bools:
    """What the rules say of the recipes alone: the same in every request with these candidates."""
    with store.sandbox() as connection:
        return recipe_part(connection, rules.value, table.candidate_scheme)


def overrule(losses: Sequence[TaskLosses], rules: tuple[Rule, ...], holds: Bools, tolerated: float) -> Findings:
    """What rules say over all tasks; one stands where it holds on some task on which evidence does not clear the candidate.

    Args:
        losses: of all candidates, task by task.
        rules: the rules.
        holds: for each task, candidate and rule whether it speaks of them, as `rules_that_hold` has it.
        tolerated: loss up to which evidence clears a candidate.
    """
    anywhere = np.asarray(holds.any(axis=0))
    overruled = np.zeros_like(anywhere)
    cleared = np.array([_cleared(item, tolerated) for item in losses])
    if (rows := np.flatnonzero(cleared.any(axis=0))).size:
        against = np.array([effect in ("refuse", "avoid", "require") for effect in _acting_effects(Same(rules))], dtype=bool)
        stands = holds[:, rows] & ~(cleared[:, rows, None] & against)
        overruled[rows] = anywhere[rows] & ~stands.any(axis=0)
    return Findings(rules=rules, holds=anywhere, overruled=overruled, by_task=holds)


def _cleared(losses: TaskLosses, tolerated: float) -> Bools:
    """Candidates whose own evidence says, at its upper bound, that they lose less than is tolerated."""
    cells = losses.pooled.cells
    return np.array([cell is not None and cell.mean + Z90 * sqrt(cell.variance) <= tolerated for cell in cells], dtype=bool)
