"""What probes of small models of several families were worth, and the arithmetic behind the figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from knowledge.measurements import CalibrationFacts, Environment, ModelFacts
from knowledge.probes import Estimate, Landscape, Probe
from measure.pocket.families import SEEN, collect, errors_table, left_out_errors

FOUND = Estimate(value=1.0, stderr=0.1, n=8)
PROBE = Probe(
    model="m", calibration=None, tensors=[],
    facts=ModelFacts(family="llama", architecture="LlamaForCausalLM", parameters=200, fingerprint="f"),
    environment=Environment(tool_version="0", python="3", platform="p", device="cpu"),
    landscape=Landscape(
        text=CalibrationFacts(source="t", samples=2, tokens_per_sample=8, seed=0, sha256="0"), nll=2.0, nll_stderr=0.1,
        rounded=dict.fromkeys(SEEN, 2.1), slope=FOUND, curvature=FOUND, profile={}, hessian_trace=FOUND,
        expected_rise=dict.fromkeys(SEEN, 0.1), seed=0,
    ),
)  # fmt: skip

TABLE = json.loads((Path(__file__).parents[1] / "data" / "pocket" / "families.json").read_text(encoding="utf-8"))


def made_up(levels, reading="curvature"):
    """Families that differ by a factor on all rises, which one reading of their probes shows."""
    probe = {
        "curvature": 1.0, "log_trace": 0.0, "weight_log_kurtosis": 1.0, f"weight_sqnr_db:{SEEN[1]}": 13.0,
        **{f"{kind}:{scheme}": 0.1 for kind in ("nll_rise", "expected_rise") for scheme in SEEN},
    }  # fmt: skip
    return {
        f"family-{level}": {
            "probe": probe | {reading: probe[reading] * level},
            "rises": {recipe: level * rise for recipe, rise in {"w3": 0.03, "w2": 0.3, **dict.fromkeys(SEEN, 0.01)}.items()},
        }
        for level in levels
    }


def test_a_reading_that_tells_all_leaves_no_error():
    found = left_out_errors(made_up([1.0, 2.0, 4.0]), trust=1.0)
    np.testing.assert_allclose(found["curvature"], 0, atol=1e-12)
    # the first family is 1/2 and 1/4 of the others: off by the mean of ln 2 and ln 4
    np.testing.assert_allclose(found["nothing"][0], [1.5 * math.log(2), 0, 1.5 * math.log(2)], atol=1e-12)


def test_half_the_trust_leaves_half_the_error():
    found = left_out_errors(made_up([1.0, 2.0, 4.0]), trust=0.5)
    np.testing.assert_allclose(found["curvature"][0], found["nothing"][0] / 2, atol=1e-12)


@pytest.mark.parametrize("trust", [0.5, 1.0])
@pytest.mark.parametrize("reading", ["rise by rounding", "curvature"])
def test_the_landscape_lowers_the_error_on_unseen_families(reading, trust):
    found = left_out_errors(TABLE, trust=trust)
    (logs, nats), (plain, plain_nats) = found[reading], found["nothing"]
    assert (logs < plain + 0.02).sum() >= len(TABLE) - 1
    assert logs.mean() < 0.75 * plain.mean()
    assert nats.mean() < 0.75 * plain_nats.mean()


@pytest.mark.parametrize("reading", ["noise of rounding", "kurtosis"])
def test_the_spread_of_weights_tells_nothing_of_models_without_outliers(reading):
    found = left_out_errors(TABLE, trust=1.0)
    np.testing.assert_allclose(found[reading][0], found["nothing"][0], atol=0.1)


def test_every_family_has_the_same_recipes_and_readings():
    assert len(TABLE) >= 5
    assert len({tuple(entry["rises"]) for entry in TABLE.values()}) == 1
    assert len({tuple(entry["probe"]) for entry in TABLE.values()}) == 1


def test_the_table_names_every_family_and_reading():
    shown = errors_table(TABLE)
    assert all(name in shown for name in (*TABLE, "curvature", "kurtosis", "rise by rounding"))


def test_rises_and_readings_come_from_records_and_probes(tmp_path):
    pocket = Path(__file__).parents[1] / "data" / "pocket"
    for size in "sml":
        (tmp_path / f"pocket-{size}.probe.json").write_text(PROBE.to_json())
    table = collect(tmp_path, pocket / "records.jsonl.xz")
    assert list(table) == ["pocket-l", "pocket-m", "pocket-s"]
    for entry in table.values():
        assert entry["rises"]["w8a16-g128-asym"] < entry["rises"]["w3a16-g128-asym"] < entry["rises"]["w2a16-g128-asym"]
        assert "none" not in entry["rises"]
        assert entry["probe"]["nll"] == PROBE.landscape.nll
