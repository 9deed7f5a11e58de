"""Whether the predictor says what the rules say: their claims recomputed on predicted losses instead of measured ones.

Every scored row of the evidence keeps its model, format and task and gets the predicted loss, and the score that follows
from it; then the rules' own queries run unchanged. A rule and the predictor that disagree are worth a look: one of them has
missed what the other found.
"""

from collections.abc import Sequence
from typing import Literal

from advisor.predictor import Predictor, load_predictor
from knowledge.rule_check import check_rules
from knowledge.rules import Rule, RuleCheck, Status
from knowledge.store import KnowledgeStore

Agreement = Literal["agrees", "disagrees", "no data"]

_WORDS: dict[Status, Agreement] = {"supported": "agrees", "contradicted": "disagrees", "no data": "no data"}

_ROWS = """
SELECT evidence_id, model, family, params_b, tuned, method, scheme, w_bits, w_dtype, w_group, w_sym, a_bits, a_dtype, kv_bits,
    kv_dtype, kv_name, task, task_type, ability, metric, context, baseline, chance
FROM evidence WHERE loss IS NOT NULL ORDER BY evidence_id
"""
_PREDICTED = """
CREATE TEMP TABLE evidence AS
SELECT e.* REPLACE (
    p.loss AS loss,
    CASE WHEN e.loss_kind = 'delta_nll' THEN e.baseline * exp(p.loss)
        ELSE e.baseline - p.loss * (e.baseline - e.chance) END AS score
)
FROM main.evidence AS e JOIN predicted AS p USING (evidence_id) ORDER BY e.evidence_id
"""


def check_against_predictor(
    store: KnowledgeStore, rules: Sequence[Rule], *, predictor: Predictor | None = None
) -> dict[str, Agreement]:
    """Whether the predictor agrees with each rule's claim, by the rule's id.

    Args:
        store: the open knowledge base.
        rules: the rules.
        predictor: the fitted predictor; the packaged one where not given.
    """
    return {check.rule_id: agreement(check) for check in predicted_checks(store, rules, predictor=predictor)}


def agreement(check: RuleCheck) -> Agreement:
    """What a check on predicted losses means."""
    return _WORDS[check.status]


def predicted_checks(
    store: KnowledgeStore, rules: Sequence[Rule], *, predictor: Predictor | None = None
) -> tuple[RuleCheck, ...]:
    """The claims of the rules, computed on predicted losses; arguments as for `check_against_predictor`."""
    columns = store.columns(_ROWS)
    numbers = columns.pop("evidence_id")
    point = (predictor or load_predictor()).predict(columns).point
    with store.sandbox() as connection:
        connection.register("predicted", {"evidence_id": numbers, "loss": point})
        connection.execute(_PREDICTED)
        return tuple(check_rules(connection, rules))
