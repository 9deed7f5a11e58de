from dataclasses import asdict

import numpy as np
import pytest

from advisor.source_noise import estimate_source_noise, fit_source_noise, load_source_noise
from knowledge.store import open_store


@pytest.mark.parametrize(("floor", "share"), [(0.0, 0.2), (0.01, 0.0), (0.01, 0.1)])
def test_known_noise_is_found_again(floor: float, share: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.0, 0.3, 4000)
    items = np.full(4000, 0.005)
    drawn = [truth + rng.standard_normal(4000) * np.hypot(floor + share * truth, items) for _ in range(2)]
    found = fit_source_noise(*drawn, items, items)
    assert found.floor == pytest.approx(floor, abs=0.006)
    assert found.share == pytest.approx(share, abs=0.06)


def test_the_packaged_estimate_is_that_of_the_packaged_evidence() -> None:
    with open_store() as store:
        assert asdict(estimate_source_noise(store.connection)) == asdict(load_source_noise())
