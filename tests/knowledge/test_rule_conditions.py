import pytest

from knowledge.database import scratch_connection
from knowledge.rule_conditions import Condition, split_condition
from knowledge.rules import load_rules


@pytest.mark.parametrize(
    ("when", "must", "condition"),
    [
        ("w_bits < 4", None, Condition(recipe="(w_bits < 4)")),
        ("moe", None, Condition(request="moe")),
        ("true", None, Condition(request="true")),
        ("fits", None, Condition(both="fits")),
        (
            "kv_bits < 4 AND has_kv_cache AND (kv_dtype = 'int' AND context >= 4096)",
            None,
            Condition(recipe="(kv_bits < 4) AND (kv_dtype = 'int')", request="has_kv_cache AND (context >= 4096)"),
        ),
        ("w_bits < 4 OR moe", None, Condition(both="((w_bits < 4) OR moe)")),
        ("a_bits = 8 AND total_bytes > 8e9", None, Condition(recipe="(a_bits = 8)", both="(total_bytes > 8e9)")),
        ("Task = 'gsm8k' -- a comment", None, Condition(request="(Task = 'gsm8k')")),
        ("task = 'gsm8k'", "w_bits >= 8", Condition(request="(task = 'gsm8k')", recipe="(NOT (w_bits >= 8))")),
        (
            "task = 'gsm8k'",
            "w_bits >= 8 AND moe",
            Condition(request="(task = 'gsm8k')", both="(NOT ((w_bits >= 8) AND moe))"),
        ),
    ],
)
def test_a_condition_is_taken_apart_at_its_conjunctions(when, must, condition):
    with scratch_connection() as connection:
        assert split_condition(connection, when, must) == condition


def test_no_packaged_rule_needs_recipe_and_request_together():
    assert [rule.id for rule in load_rules() if rule.condition is None or rule.condition.both] == []
