import json

import pytest

from advisor import explain, recommend
from advisor.drivers import drivers_of
from advisor.kept_store import kept_store
from advisor.predictor import load_predictor
from advisor.recommendation import study_request
from advisor.request import make_request
from knowledge.errors import InvalidSchemeError, UnknownNameError

REQUEST = {"model": "llama-3.1-8b-instruct", "task": "mmlu", "memory": "12GB"}


def test_the_recommended_recipe_is_explained_as_such() -> None:
    best = recommend(**REQUEST).best
    found = explain(**REQUEST, scheme=best.scheme, method=best.method)
    assert (found.verdict, found.position) == ("recommended", 1)
    assert found.option.quality == best.quality
    assert found.option.memory == best.memory
    assert found.option.evidence == best.evidence


@pytest.mark.parametrize(
    ("scheme", "method", "verdict"),
    [
        ("w16a16", None, "does not fit: needs"),
        ("w2a16-g128", "gptq", "ruled out by"),
        ("w8a16-g128", "gptq", "behind"),
    ],
)
def test_every_standing_has_its_reason(scheme: str, method: str | None, verdict: str) -> None:
    found = explain(**REQUEST, scheme=scheme, method=method)
    assert verdict in found.verdict
    assert (found.position is None) == (verdict != "behind")
    assert found.option.memory.parts
    assert sum(part.bytes for part in found.option.memory.parts) == found.option.memory.total_bytes


def test_what_a_scheme_leaves_open_may_be_anything() -> None:
    found = explain(**REQUEST, scheme="w4a16-g128", method="awq")
    assert found.option.scheme == "w4a16-g128-asym"
    assert found.option.method == "awq"


def test_drivers_name_the_strongest_causes_with_their_shares() -> None:
    drivers = explain(**REQUEST, scheme="gguf:q3_k_s").drivers
    assert 1 <= len(drivers) <= 3
    assert [driver.share for driver in drivers] == sorted((driver.share for driver in drivers), reverse=True)
    assert sum(driver.share for driver in drivers) <= 1 + 1e-9
    assert "3-bit weights" in {driver.text.split(" rather")[0] for driver in drivers}


def test_all_drivers_together_are_the_predicted_loss() -> None:
    request = make_request({**REQUEST, "task": "long-context"})
    with kept_store(None, ()) as store:
        study = study_request(request, store)
    index = next(i for i, candidate in enumerate(study.candidates) if candidate.scheme_name == "gguf:q3_k_s")
    drivers = drivers_of(study, index, load_predictor(), count=99)
    predicted = sum(losses.weight * losses.point[index] for losses in study.losses)
    assert sum(driver.effect for driver in drivers) == pytest.approx(predicted, abs=8 * 0.0005)


def test_nearest_evidence_begins_with_the_model_itself() -> None:
    nearest = explain(**REQUEST, scheme="w4a16-g128", method="gptq").nearest
    assert nearest[0].model == "llama-3.1-8b-instruct"


def test_the_explanation_is_plain_json() -> None:
    document = explain(**REQUEST, scheme="w8a8").as_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["option"]["scheme"].startswith("w8a8")
    assert document["status"] == "ok"


def test_a_scheme_that_nothing_runs() -> None:
    with pytest.raises(InvalidSchemeError, match="no engine of this request runs 'w7a16'") as caught:
        explain(**REQUEST, scheme="w7a16")
    assert caught.value.exit_code == 2
    with pytest.raises(UnknownNameError, match="unknown method"):
        explain(**REQUEST, scheme="w4a16-g128", method="gtpq")
