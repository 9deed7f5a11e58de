"""The panel: what two versions of the knowledge base answer differently, and why."""

from collections import Counter
from dataclasses import replace

import pytest
from own_evidence import make_store, own_row

from advisor.panel import Version, choice_of, panel_changes
from advisor.panel_requests import panel_requests
from advisor.predictor import load_predictor
from advisor.recommendation import study_request
from advisor.request import make_request
from knowledge.catalogue import find_model
from knowledge.task_catalogue import resolve_tasks


def ask(model="llama-2-7b", task="mmlu", memory="9GB", **fields):
    return make_request({"model": model, "task": task, "memory": memory, **fields})


@pytest.fixture(scope="module")
def published():
    with make_store() as store:
        yield Version(store=store, predictor=load_predictor())


@pytest.fixture(scope="module")
def chosen(published):
    """What the published evidence recommends for the request that the tests ask."""
    return choice_of(study_request(ask(), published.store))


def after(*rows):
    return Version(store=make_store(*rows), predictor=load_predictor())


def measured(choice, loss, **changes):
    return own_row("llama-2-7b", choice.scheme, choice.method, "mmlu", loss, **changes)


def test_the_panel_is_spread_over_models_tasks_and_objectives() -> None:
    requests = panel_requests()
    assert len(requests) == 200
    assert len({find_model(request.model).family for request in requests}) >= 40
    assert {item.task.type for request in requests for item in resolve_tasks(request.task)} >= {
        "language-modeling", "basic-nlp", "emergent", "trustworthiness", "dialogue", "code", "long-context",
    }  # fmt: skip
    assert min(Counter(request.objective for request in requests).values()) >= 20
    assert {request.engine for request in requests} == {None, "vllm", "llama.cpp", "transformers"}
    assert len(set(requests)) == 200, "no request twice"


def test_a_version_does_not_differ_from_itself(published) -> None:
    assert panel_changes(published, published, requests=[ask()]) == ()


def test_equal_evidence_in_another_store_changes_nothing(published) -> None:
    assert panel_changes(published, after(), requests=[ask(), ask(task="wikitext2")]) == ()


def test_a_recommended_recipe_that_was_measured_as_broken_gives_way(published, chosen) -> None:
    with_row = after(*[measured(chosen, 0.4, ref=f"run {i}") for i in range(3)])
    other_model = ask(model="opt-6.7b")
    (change,) = panel_changes(published, with_row, requests=[other_model, ask()])
    assert change.recommendation
    assert change.before == chosen
    assert change.after.recipe != chosen.recipe
    assert "3 scores more of this model" in change.why
    assert f"{chosen.recipe} is now put at" in change.why
    assert change.request.startswith("llama-2-7b · mmlu")
    assert change.as_dict()["before"]["scheme"] == chosen.scheme


def test_a_prediction_that_is_confirmed_becomes_direct(published, chosen) -> None:
    row = measured(chosen, chosen.loss, loss_se=0.002)
    changes = panel_changes(published, after(row), requests=[ask()])
    assert [change.what for change in changes] == ([("basis",)] if chosen.basis == "predicted" else [])


def test_another_predictor_is_named_as_the_cause(published, chosen) -> None:
    predictor = load_predictor()
    harsher = {name: values + 2.0 * name.startswith("w0:one:") for name, values in predictor.law.tables.items()}
    other = replace(predictor, law=replace(predictor.law, tables=harsher))
    (change,) = panel_changes(published, Version(store=published.store, predictor=other), requests=[ask()])
    assert change.what[0] in ("recipe", "loss")
    assert change.why.startswith("another predictor")


def test_a_request_without_an_answer_is_no_change_but_a_new_answer_is(published) -> None:
    none = ask(memory="2GB", max_loss=0.5)
    assert choice_of(study_request(none, published.store)).status in ("nothing_fits", "nothing_within_loss")
    assert panel_changes(published, after(), requests=[none]) == ()
