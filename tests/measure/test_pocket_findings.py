"""How predictions are decided, on samples whose answer is known."""

import numpy as np
import pytest

pytest.importorskip("torch")

from measure.pocket.findings import Sweep, _rank_correlation, decide, text_findings

pytestmark = pytest.mark.measure


@pytest.mark.parametrize(
    ("lower", "upper", "region", "verdict"),
    [
        (0.1, 0.2, (0.0, np.inf), "yes"),
        (-0.1, 0.2, (0.0, np.inf), "unclear"),
        (-0.2, -0.1, (0.0, np.inf), "no"),
        (0.02, 0.03, (-np.inf, 0.01), "no"),
        (-0.02, 0.005, (-np.inf, 0.01), "yes"),
        (0.0, 0.05, (0.0, 0.1), "unclear"),
        (0.01, 0.05, (0.0, 0.1), "yes"),
        (0.2, 0.3, (0.0, 0.1), "no"),
    ],
)
def test_a_prediction_holds_when_the_whole_interval_does(lower, upper, region, verdict):
    assert decide(lower, upper, region) == verdict


def test_rank_correlation():
    assert _rank_correlation(np.array([1.0, 2, 3]), np.array([10.0, 20, 40])) == pytest.approx(1)
    assert _rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert _rank_correlation(np.array([1.0, 1, 1]), np.array([3.0, 2, 1])) == 0


class Windows(Sweep):
    """A sweep whose windows rise by what its name says."""

    def __init__(self, rises):
        self.model, self._rises = "made-up", rises

    def text_rise(self, recipe):
        return np.random.default_rng(1).normal(self._rises[recipe], 0.001, 50)


def test_findings_of_a_model_that_behaves_as_studies_say():
    rises = {
        "w8a16-g128-asym": 0.001, "w4a16-g128-asym": 0.03, "w3a16-g128-asym": 0.3, "w2a16-g128-asym": 2.0,
        "w3a16-g128-asym:gptq": 0.2, "w3a16-g128-asym:awq": 0.4, "w4a4-g128-asym": 0.5, "w4a8-g128-asym": 0.04,
    }  # fmt: skip
    found = [(finding.id, finding.verdict) for finding in text_findings(Windows(rises))]
    assert found == [("P1", "yes"), ("P2", "yes"), ("P3", "yes"), ("P4", "yes"), ("P8", "yes"), ("P8", "no"), ("P11", "yes")]
