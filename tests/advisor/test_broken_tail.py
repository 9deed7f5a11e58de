import numpy as np
import pytest

from advisor import broken_tail
from advisor.broken_tail import estimate_tail, published_checkpoints
from advisor.training import load_training_set


@pytest.mark.parametrize(("share", "power"), [(0.01, 1.3), (0.2, 2.5)])
def test_share_and_power_of_a_known_tail_are_found(share, power):
    rng = np.random.default_rng(0)
    scores = np.where(rng.random(200_000) < share, (1 - rng.random(200_000)) ** (-1 / power), 0.5)
    assert estimate_tail(scores.tolist()) == pytest.approx((share, power), rel=0.06)


def test_a_perfect_forecast_finds_nothing_amiss(monkeypatch):
    monkeypatch.setattr(broken_tail, "left_out_forecast", lambda data, split: (data.loss, data.loss + 0.1))
    found = published_checkpoints(load_training_set())
    assert len(found) > 900
    assert all(one.tasks >= 4 and one.score == 0 for one in found)
