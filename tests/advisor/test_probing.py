"""What a probe of the very model does to its forecast."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advisor import recommend
from advisor.features import encode
from advisor.law import EXCESS_TRUST
from advisor.predictor import load_predictor
from advisor.probing import MOST, read_probe, weight_excess
from advisor.relation import model_columns
from knowledge.catalogue import find_model
from knowledge.errors import InvalidRequestError
from knowledge.measurements import CalibrationFacts, Environment, ModelFacts
from knowledge.probes import Estimate, Landscape, Probe

MODEL = find_model("mistral-7b")
FACTS = model_columns(MODEL, has_kv_cache=True)
SCHEMES = tuple(f"w{bits}a16-g128-asym" for bits in (8, 4, 3, 2))
NOTHING = Estimate(value=0.0, stderr=None, n=1)


def expected_rise(scheme):
    row = FACTS | {"scheme": scheme, "method": "rtn", "task_type": "language-modeling"}
    return float(load_predictor().predict({name: [fact] for name, fact in row.items()}).point[0])


def probe_of(times, *, second_order=1.0, parameters=7_241_732_096):
    """A probe that found `times` the expected rises, and `second_order` times them by curvature."""
    landscape = Landscape(
        text=CalibrationFacts(source="t", samples=2, tokens_per_sample=8, seed=0, sha256="0"), nll=2.0, nll_stderr=0.1,
        rounded={scheme: 2.0 + times * expected_rise(scheme) for scheme in SCHEMES}, slope=NOTHING, curvature=NOTHING,
        profile={}, hessian_trace=NOTHING, expected_rise={scheme: second_order * expected_rise(scheme) for scheme in SCHEMES},
        seed=0,
    )  # fmt: skip
    return Probe(
        model="mine", calibration=None, tensors=[], landscape=landscape,
        facts=ModelFacts(family="mistral", architecture="MistralForCausalLM", parameters=parameters, fingerprint="f"),
        environment=Environment(tool_version="0", python="3", platform="p", device="cpu"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("times", "second_order", "excess"),
    [
        (1.0, 1.0, 0.0),
        (3.0, 1.0, math.log(3)),
        (0.5, 1.0, math.log(0.5)),
        (1000.0, 1.0, MOST),
        (0.001, 1.0, -MOST),
        (-0.1, 2.0, math.log(2)),  # noise ate the rise: the second-order one stands in
        (-0.1, 0.0, None),
    ],
)
def test_excess_is_the_logarithm_of_measured_over_expected(times, second_order, excess):
    found = weight_excess(load_predictor(), probe_of(times, second_order=second_order), FACTS)
    assert found == (None if excess is None else pytest.approx(excess, abs=1e-9))


def test_without_a_landscape_there_is_no_excess():
    assert weight_excess(load_predictor(), replace(probe_of(2.0), landscape=None), FACTS) is None


@pytest.mark.parametrize("scheme", ["w4a16-g128:gptq", "w3a16-g128:rtn", "w8a8:smoothquant", "nf4:rtn"])
def test_part_of_the_excess_is_counted_for_every_recipe_of_weights(scheme):
    name, method = scheme.split(":")
    row = FACTS | {"scheme": name, "method": method, "task": "mmlu", "weight_excess": np.nan}
    law = load_predictor().law
    plain, more, less = (
        law.damage(encode({key: [fact] for key, fact in (row | {"weight_excess": excess}).items()})).kinds["w"][0]
        for excess in (np.nan, 1.0, -1.0)
    )
    assert math.log(more / plain) == pytest.approx(EXCESS_TRUST)
    assert math.log(less / plain) == pytest.approx(-EXCESS_TRUST)


def test_a_cache_does_not_depend_on_the_weights_excess():
    row = {name: [fact, fact] for name, fact in (FACTS | {"scheme": "kv4", "task": "mmlu"}).items()}
    found = load_predictor().predict(row | {"weight_excess": [None, 2.0]})
    assert found.point[0] == found.point[1]


@pytest.mark.parametrize("parameters", [4_000_000_000, 8_000_000_000])
def test_a_probe_of_another_model_is_refused(tmp_path, parameters):
    path = tmp_path / "probe.json"
    path.write_text(probe_of(1.0, parameters=parameters).to_json())
    with pytest.raises(
        InvalidRequestError, match=f"is of mine with {parameters // 10**9} billion parameters, mistral-7b has 7"
    ):
        read_probe(path, model="mistral-7b", parameters=7.24e9)


@pytest.mark.parametrize(("times", "word"), [(4.0, "4 times"), (0.25, "0.25 times")])
def test_an_answer_counts_the_probe_and_says_so(tmp_path, times, word):
    path = tmp_path / "probe.json"
    path.write_text(probe_of(times).to_json())
    asked = {"model": "mistral-7b", "task": "gsm8k", "memory": "5GB", "top": 5}
    plain, probed = recommend(**asked), recommend(**asked, probe=str(path))
    assert any(word in note and "probe" in note for note in probed.notes)
    before, after = (
        {option.scheme: option.quality.loss.point for option in answer.recommendations} for answer in (plain, probed)
    )
    shared = before.keys() & after.keys()
    assert shared
    assert all((after[scheme] > before[scheme]) == (times > 1) for scheme in shared)


FAMILIES = json.loads((Path(__file__).parents[1] / "data" / "pocket" / "families.json").read_text(encoding="utf-8"))
ROUNDED = SCHEMES[1:3]


def test_a_probe_lowers_the_error_on_models_of_families_never_seen():
    """Small models of six architectures, measured by this project; recipes that rise by 0.002 nats or more in the median."""
    law = load_predictor().law

    def forecast(facts, recipes, excess):
        schemes, methods = zip(*((*recipe.split(":"), "rtn")[:2] for recipe in recipes), strict=True)
        rows = {name: [fact] * len(recipes) for name, fact in (facts | {"weight_excess": excess}).items()}
        return law.damage(
            encode(rows | {"scheme": schemes, "method": methods, "task_type": ["language-modeling"] * len(recipes)})
        ).loss

    median = {recipe: np.median([one["rises"][recipe] for one in FAMILIES.values()]) for recipe in FAMILIES["opt"]["rises"]}
    recipes = [recipe for recipe, rise in median.items() if rise >= 0.002 and recipe not in ROUNDED]
    errors = []
    for family, measured in FAMILIES.items():
        facts = {"family": family, "params_b": measured["parameters"] / 1e9, "tuned": False}
        rises = np.array([measured["probe"][f"nll_rise:{scheme}"] for scheme in ROUNDED])
        excess = float(np.clip(np.median(np.log(rises / forecast(facts, ROUNDED, np.nan))), -MOST, MOST))
        found = np.array([measured["rises"][recipe] for recipe in recipes])
        errors.append([np.abs(forecast(facts, recipes, value) - found).mean() for value in (np.nan, excess)])
    plain, probed = np.array(errors).T
    assert (probed < plain).all()
    assert (plain.mean(), probed.mean()) == pytest.approx((1.89, 0.88), abs=0.02)
