"""The parts of a prediction add up to it, and a part that is as in the reference adds nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.attribution import PARTS, REFERENCE_SIZE_B, REFERENCE_TOKENS
from advisor.predictor import load_predictor
from knowledge.errors import DataError

TINY = {
    "model": "tinyllama-1.1b-chat-v1.0", "family": "llama", "params_b": 1.1, "active_params_b": 1.1, "tuned": True,
    "method": "gptq", "scheme": "w3a16-g128", "context": 2048, "task": "gsm8k", "task_type": "emergent", "ability": "math",
    "metric": "em", "chance": 0.0,
}  # fmt: skip
PERPLEXITY = {"task": "wikitext2", "task_type": "language-modeling", "metric": "ppl", "ability": None}


def parts_of(*rows):
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    return load_predictor().explain(columns), load_predictor().predict(columns).point


@settings(max_examples=40, deadline=None)
@given(
    scheme=st.sampled_from(["w16a16", "w4a16-g128", "w8a8", "w4a4", "gguf:q3_k_s", "w4a16-g128-kv4", "w16a16-kv2"]),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "model": st.sampled_from([None, "nobody-3b", "opt-6.7b"]),
            "family": st.sampled_from([None, "opt", "nobodies"]),
            "params_b": st.sampled_from([None, 0.5, 7.0, 70.0]),
            "method": st.sampled_from([None, "rtn", "awq", "newquant"]),
            "context": st.sampled_from([None, 512, 100_000]),
            "task": st.sampled_from([None, "mmlu", "newtask"]),
        },
    ),
    perplexity=st.booleans(),
)
def test_parts_add_up_to_the_prediction(scheme, changes, perplexity):
    row = TINY | {"scheme": scheme} | changes | (PERPLEXITY if perplexity else {})
    parts, point = parts_of(row, TINY)
    assert tuple(parts) == tuple(PARTS)
    np.testing.assert_allclose(sum(parts.values()), point, atol=1e-9)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("activations", {}),
        ("cache", {}),
        ("context", {"context": REFERENCE_TOKENS}),
        ("method", {"method": "rtn"}),
        ("size", {"params_b": REFERENCE_SIZE_B, "active_params_b": REFERENCE_SIZE_B}),
        ("model", {"model": None, "family": None, "tuned": None}),
        ("weights", {"scheme": "w16a16-kv4"}),
        ("task", PERPLEXITY),
    ],
)
def test_a_part_that_is_as_in_the_reference_adds_nothing(part, changes):
    parts, _ = parts_of(TINY | changes)
    assert parts[part][0] == pytest.approx(0, abs=1e-12)


def test_an_unquantized_recipe_has_no_parts():
    parts, _ = parts_of(TINY | {"scheme": "w16a16"})
    assert not np.any(list(parts.values()))


def test_the_strongest_parts_of_a_small_model_at_three_bits():
    parts, _ = parts_of(TINY)
    strongest = sorted(PARTS, key=lambda part: -abs(parts[part][0]))
    assert strongest[:2] == ["weights", "size"]
    assert parts["task"][0] > 0 > parts["method"][0]


def test_a_rows_parts_do_not_depend_on_its_neighbours():
    alone, _ = parts_of(TINY)
    beside, _ = parts_of(TINY | {"scheme": "w8a8"}, TINY)
    for part in PARTS:
        assert alone[part][0] == pytest.approx(beside[part][1], abs=1e-12)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(DataError, match="columns differ in length"):
        load_predictor().explain({"w_bits": [4, 3], "task": ["mmlu"]})
