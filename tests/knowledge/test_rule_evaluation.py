import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_candidates import candidate_rows, holding_on, make_rule

from knowledge.database import scratch_connection
from knowledge.errors import DataError
from knowledge.rule_conditions import split_condition
from knowledge.rule_evaluation import evaluate, hold, recipe_part
from knowledge.rules import load_rules


@pytest.fixture
def connection():
    with scratch_connection() as opened:
        yield opened


def test_rules_hold_row_by_row_in_the_order_of_the_rows():
    rules = [make_rule("w_bits < 4"), make_rule("method = 'rtn'", id="test-2")]
    found = holding_on(rules, {"w_bits": 3.0}, {"w_bits": 4.0}, {"w_bits": 3.0, "method": "gptq"})
    assert found == [[True, True], [False, True], [True, False]]


def test_an_unknown_value_makes_no_rule_hold():
    rules = [make_rule("w_group <= 128"), make_rule("NOT (w_group <= 128)")]
    assert holding_on(rules, {"w_group": None}, {"w_group": 64}) == [[False, False], [True, False]]


@pytest.mark.parametrize(
    ("row", "fails"),
    [
        pytest.param({"task": "gsm8k", "w_bits": 4.0}, True, id="in scope, must fails"),
        pytest.param({"task": "gsm8k", "w_bits": 8.0}, False, id="in scope, must holds"),
        pytest.param({"task": "mmlu", "w_bits": 4.0}, False, id="out of scope"),
        pytest.param({"task": "gsm8k", "w_bits": None}, False, id="must unknown"),
    ],
)
def test_a_requirement_holds_for_the_rows_that_fail_it(row, fails):
    assert holding_on([make_rule("task = 'gsm8k'", effect="require", must="w_bits >= 8")], row) == [[fails]]


def test_nothing_asked_holds_everywhere(connection):
    assert hold(connection, [None, "w_bits = 4", None], candidate_rows({}, {"w_bits": 3.0})).tolist() == [
        [True, True, True],
        [True, False, True],
    ]
    assert hold(connection, [], candidate_rows({})).shape == (1, 0)


def test_single_values_hold_for_all_rows(connection):
    relation = {"w_bits": np.array([2.0, np.nan, 4.0]), "budget_bytes": np.int64(2**40), "w_sym": None, "model": "it's"}
    conditions = ["w_bits < 3", "w_bits IS NULL", f"budget_bytes = {2**40}", "w_sym IS NULL", "model = 'it''s'"]
    assert hold(connection, conditions, relation).tolist() == [
        [True, False, True, True, True],
        [False, True, True, True, True],
        [False, False, True, True, True],
    ]


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        pytest.param({"w_bits": np.arange(2), "w_bitz": 4}, "no column 'w_bitz'", id="unknown column"),
        pytest.param({"w_bits": np.arange(5), "a_bits": np.arange(4)}, "w_bits 5, a_bits 4", id="lengths differ"),
        pytest.param({"w_bits": 4}, "no array at all", id="no array"),
        pytest.param({"w_bits": np.arange(3), "a_bits": [4, 4, 4]}, "neither an array nor one value", id="a list"),
    ],
)
def test_a_relation_that_is_none_is_refused(connection, relation, message):
    with pytest.raises(DataError) as caught:
        hold(connection, ["w_bits = 4"], relation)
    assert message in f"{caught.value.message} {caught.value.given}"


RECIPES = st.lists(
    st.fixed_dictionaries({
        "w_bits": st.sampled_from([2.0, 3.0, 4.0, 8.0, 16.0, None]),
        "w_dtype": st.sampled_from(["int", "nf", "kquant", "mxfp", None]),
        "a_bits": st.sampled_from([4.0, 8.0, 16.0]),
        "a_dtype": st.sampled_from(["int", "fp", None]),
        "kv_bits": st.sampled_from([2.0, 4.0, 8.0, 16.0]),
        "kv_dtype": st.sampled_from(["int", "block", "kivi", "none"]),
        "method": st.sampled_from(["rtn", "gptq", "awq", "smoothquant", "none"]),
        "method_rank": st.sampled_from([0, 1, 2]),
        "total_bytes": st.sampled_from([4 * 10**9, 16 * 10**9]),
    }),
    min_size=1,
    max_size=3,
)  # fmt: skip
REQUESTS = st.lists(
    st.fixed_dictionaries({
        "params_b": st.sampled_from([0.5, 7.24, 70.0, None]),
        "family": st.sampled_from(["opt", "qwen", "mistral"]),
        "reasoning": st.sampled_from([True, False, None]),
        "moe": st.booleans(),
        "context": st.sampled_from([512, 4096, 65536]),
        "task": st.sampled_from(["mmlu", "gsm8k", "longeval", "adv_sst2"]),
        "task_type": st.sampled_from(["emergent", "long-context", "dialogue"]),
        "ability": st.sampled_from(["math", "retrieval", "ethics", "knowledge"]),
        "objective": st.sampled_from(["balanced", "quality", "speed", "memory"]),
    }),
    min_size=1,
    max_size=3,
)  # fmt: skip
OTHERS = (
    ("w_bits < 4 OR params_b < 7", None),
    ("total_bytes > budget_bytes / 2 AND w_bits = 4 AND task = 'mmlu'", None),
    ("(w_bits = 4 AND moe) IS NULL AND NOT (params_b < 7 AND a_bits = 8)", None),
    ("task = 'gsm8k' AND w_bits < 16", "w_bits >= 8 AND params_b > 7"),
    ("w_bits = 4 -- a comment\nAND reasoning", None),
)
"""Conditions that speak of recipe and request at once, beside those of the rulebook."""


@settings(max_examples=10, deadline=None)
@given(recipes=RECIPES, requests=REQUESTS)
def test_the_parts_of_conditions_together_say_what_the_wholes_say(recipes, requests):
    with scratch_connection() as connection:
        others = [make_rule(when, must=must, condition=split_condition(connection, when, must)) for when, must in OTHERS]
        by_hand = [make_rule(when, must=must) for when, must in OTHERS]
        rules = [*load_rules(), *others, *by_hand]
        relation = candidate_rows(*recipes, about=("recipe",))
        found = evaluate(
            connection, rules, recipe_part(connection, rules, relation), recipes=relation,
            requests=candidate_rows(*requests, about=("request",)), both=candidate_rows(*recipes, about=("both",)),
        )  # fmt: skip
    expected = holding_on(rules, *(recipe | request for request in requests for recipe in recipes))
    assert found.reshape(-1, len(rules)).tolist() == expected
