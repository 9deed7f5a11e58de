"""What the rules say of the candidates of a request, and where direct evidence overrules them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from advisor.losses import TaskLosses
from advisor.pool import Z90
from advisor.relation import Columns
from knowledge.rule_columns import create_candidate_table
from knowledge.rules import Rule, evaluate
from knowledge.store import KnowledgeStore
from knowledge.values import value

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@value
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
        wanted = [rule.acting in effects and rule.strength in strengths for rule in self.rules]
        counts: Ints = (self.holds & ~self.overruled)[:, wanted].sum(axis=1)
        return counts

    @property
    def strong_avoid(self) -> Bools:
        """A strong rule advises against the candidate, or it misses what a rule requires."""
        return (self.acting(["avoid"], ["strong"]) + self.acting(["require"])) > 0


def rules_that_hold(store: KnowledgeStore, rules: Sequence[Rule], columns: Columns) -> Bools:
    """Whether each rule speaks of each candidate on each task, whatever the evidence says.

    Args:
        store: the open knowledge base.
        rules: the rules.
        columns: the candidate relation, one row a candidate and task, task by task (`advisor.relation.rule_columns`).

    Returns:
        Array of shape (tasks, candidates, rules).
    """
    order = {name: number for number, name in enumerate(dict.fromkeys(columns["task"]))}
    with store.sandbox() as connection:
        rows = create_candidate_table(connection, columns)
        found = evaluate(connection, rules)
    holds = np.zeros((len(order), rows // max(1, len(order)), len(rules)), dtype=bool)
    holds[np.array([order[name] for name in found.task], dtype=np.int64), found.candidate_id] = found.holds
    return holds


def overrule(losses: Sequence[TaskLosses], rules: tuple[Rule, ...], holds: Bools, tolerated: float) -> Findings:
    """What rules say over all tasks; one stands where it holds on some task on which evidence does not clear the candidate.

    Args:
        losses: of all candidates, task by task.
        rules: the rules.
        holds: for each task, candidate and rule whether it speaks of them, as `rules_that_hold` has it.
        tolerated: loss up to which evidence clears a candidate.
    """
    against = np.array([rule.acting in ("refuse", "avoid", "require") for rule in rules], dtype=bool)
    cleared = np.array([_cleared(item, tolerated) for item in losses])
    stands = holds & ~(cleared[:, :, None] & against)
    anywhere = np.asarray(holds.any(axis=0))
    return Findings(rules=rules, holds=anywhere, overruled=anywhere & ~stands.any(axis=0), by_task=holds)


def _cleared(losses: TaskLosses, tolerated: float) -> Bools:
    """Candidates whose own evidence says, at its upper bound, that they lose less than is tolerated."""
    upper = [np.inf if cell is None else cell.mean + Z90 * float(np.sqrt(cell.variance)) for cell in losses.pooled.cells]
    return np.array(upper) <= tolerated
