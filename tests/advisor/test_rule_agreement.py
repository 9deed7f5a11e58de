"""The rules' claims on predicted losses: what the predictor was taught it says, what it is not taught it cannot."""

from dataclasses import replace

import numpy as np
import pytest

from advisor.predictor import Predictions, load_predictor
from advisor.rule_agreement import check_against_predictor
from knowledge.rules import Claim, load_rules
from knowledge.store import open_store

RULE = next(rule for rule in load_rules() if rule.id == "li2024-27")


class Flat:
    """A predictor that says the same of everything."""

    def __init__(self, loss: float) -> None:
        self.loss = loss

    def predict(self, columns: dict[str, np.ndarray]) -> Predictions:
        n = len(next(iter(columns.values())))
        losses = np.full(n, self.loss)
        return Predictions(
            point=losses, lower=losses, upper=losses, level=0.9, n_calibration=np.zeros(n, dtype=np.intp),
            in_support=np.ones(n, dtype=bool), kind=np.full(n, "relative", dtype=object),
        )  # fmt: skip


def rule_about(query: str, **bound: float) -> object:
    claim = Claim(text="a test", sources=(), query=query, unit="share", min_n=1, **bound)
    return replace(RULE, id="test", claim=claim)


@pytest.mark.parametrize(("loss", "agreement"), [(0.2, "agrees"), (0.01, "disagrees")])
def test_claims_see_predicted_losses(loss: float, agreement: str) -> None:
    rule = rule_about("SELECT median(loss) AS value, count(*) AS n FROM evidence", at_least=0.1)
    with open_store() as store:
        assert check_against_predictor(store, [rule], predictor=Flat(loss)) == {"test": agreement}


def test_scores_follow_from_predicted_losses() -> None:
    rule = rule_about(
        "SELECT max(abs(score - (baseline - 0.5 * (baseline - chance)))) AS value, count(*) AS n FROM evidence "
        "WHERE loss_kind = 'relative'",
        at_most=1e-9,
    )
    with open_store() as store:
        assert check_against_predictor(store, [rule], predictor=Flat(0.5)) == {"test": "agrees"}


def test_a_claim_that_nothing_can_check_has_no_data() -> None:
    rule = rule_about("SELECT median(loss) AS value, count(*) AS n FROM evidence WHERE model = 'nobody'", at_least=0.1)
    with open_store() as store:
        assert check_against_predictor(store, [rule]) == {"test": "no data"}


def test_the_evidence_itself_stays_as_it_is() -> None:
    with open_store() as store:
        before = store.rows("SELECT count(*), sum(loss) FROM evidence")
        check_against_predictor(store, [RULE], predictor=Flat(0.3))
        assert store.rows("SELECT count(*), sum(loss) FROM evidence") == before


def test_the_packaged_predictor_has_learned_most_rules() -> None:
    assert load_predictor()
    with open_store() as store:
        found = list(check_against_predictor(store, load_rules()).values())
    assert found.count("agrees") > 2 * found.count("disagrees")
