"""Probe files and their features, by hand; needs no torch."""

import json
import math
from dataclasses import replace

import pytest

from knowledge.errors import DataError
from knowledge.measurements import CalibrationFacts, Environment, ModelFacts
from knowledge.probes import Estimate, Landscape, Probe, TensorStats, probe_features, probe_from_json

TEXT = CalibrationFacts(source="t", samples=2, tokens_per_sample=8, seed=0, sha256="0")


def stats(name="model.layers.0.mlp.down_proj.weight", kind="weight", **values):
    defaults = {
        "layer": 0, "part": "down_proj", "elements": 100, "abs_max": 4.0, "std": 2.0, "kurtosis": 3.0, "outlier_share": 0.0,
        "sqnr_db": {"w4": 20.0, "w2": 5.0},
    }  # fmt: skip
    return TensorStats(name=name, kind=kind, **(defaults | values))


def estimate(value):
    return Estimate(value=value, stderr=0.1, n=8)


LANDSCAPE = Landscape(
    text=TEXT, nll=2.0, nll_stderr=0.1, rounded={"w4": 2.1, "w2": 5.0}, slope=estimate(0.01), curvature=estimate(3.0),
    profile={"0.01": estimate(0.001), "0.1": estimate(0.2)}, hessian_trace=estimate(50.0), expected_rise={"w4": 0.08}, seed=0,
)  # fmt: skip


def make_probe(**values):
    defaults = {
        "model": "m",
        "facts": ModelFacts(family="llama", architecture="LlamaForCausalLM", parameters=200, fingerprint="f"),
        "calibration": None,
        "tensors": [
            stats(), stats(kurtosis=9.0, abs_max=20.0, elements=300, outlier_share=0.04, sqnr_db={"w4": 10.0, "w2": 1.0})
        ],
        "totals": [stats(part="all", layer=None, sqnr_db={"w4": 12.0, "w2": 2.0}), stats(sqnr_db={"w4": 99.0})],
        "environment": Environment(tool_version="0", python="3", platform="p", device="cpu"),
    }  # fmt: skip
    return Probe(**(defaults | values))


def test_features_of_weights_by_hand():
    assert probe_features(make_probe()) == pytest.approx(
        {
            "weight_log_abs_max": (math.log(2) + math.log(10)) / 2,
            "weight_log_kurtosis": (math.log(3) + math.log(9)) / 2,
            "weight_log_kurtosis_max": math.log(9),
            "weight_outlier_share": 0.03,
            "weight_sqnr_db:w4": 12.0,
            "weight_sqnr_db:w2": 2.0,
            "weight_sqnr_db_min:w4": 10.0,
            "weight_sqnr_db_min:w2": 1.0,
        }
    )


def test_features_of_a_landscape_by_hand():
    found = probe_features(make_probe(landscape=LANDSCAPE))
    assert {name: value for name, value in found.items() if not name.startswith("weight")} == pytest.approx(
        {
            "nll": 2.0, "nll_rise:w4": 0.1, "nll_rise:w2": 3.0, "slope": 0.01, "curvature": 3.0, "log_trace": math.log(0.25),
            "expected_rise:w4": 0.08, "profile:0.01": 0.001, "profile:0.1": 0.2,
        }
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["activation", "key", "value"])
def test_other_kinds_have_features_of_their_own(kind):
    found = probe_features(make_probe(tensors=[stats(kind=kind, sqnr_db={"kv4": 7.0})], totals=[]))
    assert found[f"{kind}_sqnr_db_min:kv4"] == 7.0
    assert not any(name.startswith("weight") for name in found)


@pytest.mark.parametrize(
    ("change", "absent"),
    [
        ({"landscape": replace(LANDSCAPE, hessian_trace=estimate(-1.0))}, "log_trace"),
        ({"landscape": replace(LANDSCAPE, nll=math.inf)}, "nll"),
        ({"tensors": [stats(std=0.0)]}, "weight_log_abs_max"),
        ({"tensors": [stats(kurtosis=0.0)]}, "weight_log_kurtosis"),
    ],
    ids=["negative trace", "infinite loss", "constant tensor", "no kurtosis"],
)
def test_what_has_no_value_is_absent(change, absent):
    found = probe_features(make_probe(**change))
    assert absent not in found
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("landscape", [None, LANDSCAPE], ids=["weights", "landscape"])
def test_probes_come_back_equal(landscape):
    probe = make_probe(landscape=landscape)
    assert probe_from_json(probe.to_json()) == probe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, "schema version 1"),
        ({"landscape": {"nll": 2}}, r"landscape\.text"),
        ({"surprise": 1}, "surprise"),
        ({"tensors": [{"name": "w"}]}, r"tensors\.0"),
    ],
    ids=["version", "landscape", "unknown field", "tensor"],
)
def test_other_files_are_refused(change, message):
    document = json.loads(make_probe().to_json()) | change
    with pytest.raises(DataError, match=message):
        probe_from_json(json.dumps(document))
