import shutil

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_candidates import PLAIN, candidate_table, make_rule, write_rule

from knowledge.errors import DataError, RuleError
from knowledge.rule_columns import CANDIDATE_COLUMNS, create_candidate_table
from knowledge.rules import RULEBOOK, Claim, ClaimResult, RuleCheck, evaluate, load_rules, natural_order

NOTHING = ClaimResult(value=None, n=0, status="no data")


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        yield opened


def contradicted(when: str, **changes):
    claim = Claim(text="It loses.", sources=("li2024",), query="SELECT 1", unit="share", min_n=1, at_least=0.5)
    against = ClaimResult(value=0.1234, n=20, status="contradicted")
    return make_rule(when, claim=claim, check=RuleCheck(rule_id="test-1", own=NOTHING, others=against), **changes)


# -- evaluation


def test_rules_hold_row_by_row_in_the_order_of_the_table(connection):
    candidate_table(connection, {"w_bits": 3.0}, {"w_bits": 4.0}, {"w_bits": 3.0, "method": "gptq"})
    rules = [make_rule("w_bits < 4"), make_rule("method = 'rtn'", id="test-2")]
    findings = evaluate(connection, rules)
    assert findings.candidate_id.tolist() == [1, 2, 3]
    assert findings.holds.tolist() == [[True, True], [False, True], [True, False]]


def test_an_unknown_value_makes_no_rule_hold(connection):
    candidate_table(connection, {"w_group": None}, {"w_group": 64})
    findings = evaluate(connection, [make_rule("w_group <= 128"), make_rule("NOT (w_group <= 128)")])
    assert findings.holds.tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize(
    ("row", "fails"),
    [
        pytest.param({"task": "gsm8k", "w_bits": 4.0}, True, id="in scope, must fails"),
        pytest.param({"task": "gsm8k", "w_bits": 8.0}, False, id="in scope, must holds"),
        pytest.param({"task": "mmlu", "w_bits": 4.0}, False, id="out of scope"),
        pytest.param({"task": "gsm8k", "w_bits": None}, False, id="must unknown"),
    ],
)
def test_a_requirement_holds_for_the_rows_that_fail_it(connection, row, fails):
    candidate_table(connection, row)
    findings = evaluate(connection, [make_rule("task = 'gsm8k'", effect="require", must="w_bits >= 8", strength="weak")])
    assert findings.holds.tolist() == [[fails]]
    assert findings.mask("avoid", "strong").tolist() == [fails]
    assert findings.mask("avoid", "medium", "weak").tolist() == [False]


def test_masks_tell_effects_and_strengths_apart(connection):
    candidate_table(connection, {"w_bits": 2.0}, {"w_bits": 3.0}, {"w_bits": 4.0})
    rules = [
        make_rule("w_bits = 2", effect="refuse", strength="strong"),
        make_rule("w_bits = 3", effect="avoid", strength="medium"),
        make_rule("w_bits = 4", effect="prefer", strength="weak"),
    ]
    findings = evaluate(connection, rules)
    assert findings.mask("refuse").tolist() == [True, False, False]
    assert findings.mask("avoid").tolist() == [False, True, False]
    assert findings.mask("avoid", "strong").tolist() == [False, False, False]
    assert findings.mask("prefer", "weak", "medium").tolist() == [False, False, True]
    assert findings.mask("caution").tolist() == [False, False, False]


def test_a_contradicted_rule_acts_as_a_caution_and_says_so(connection):
    candidate_table(connection, {})
    findings = evaluate(connection, [contradicted("w_bits = 4", effect="refuse", strength="strong")])
    assert findings.mask("refuse").tolist() == [False]
    assert findings.mask("caution").tolist() == [True]
    (finding,) = findings.of(1)
    entry = finding.as_dict()
    assert entry["effect"] == "caution"
    assert entry["contradicted"] is True
    assert "0.123 where the rule claims >= 0.5 share, n = 20" in entry["why"]


def test_findings_of_a_candidate_by_task(connection):
    candidate_table(connection, {"candidate_id": 7, "task": "mmlu"}, {"candidate_id": 7, "task": "gsm8k"}, {"candidate_id": 8})
    findings = evaluate(connection, [make_rule("task = 'gsm8k'"), make_rule("w_bits = 4", id="test-2")])
    assert [(found.rule.id, found.task) for found in findings.of(7)] == [
        ("test-2", "mmlu"),
        ("test-1", "gsm8k"),
        ("test-2", "gsm8k"),
    ]
    assert [found.rule.id for found in findings.of(7, "mmlu")] == ["test-2"]
    assert findings.of(9) == ()
    entry = findings.of(8)[0].as_dict()
    assert sorted(entry) == ["citations", "effect", "id", "strength", "why"]
    assert entry["citations"][0] == {
        "paper": "Someone 2025", "where": "table 1", "number": "12 %", "url": "https://arxiv.org/abs/2501.00000",
    }  # fmt: skip


def test_no_rules_and_no_candidates_are_fine(connection):
    candidate_table(connection, {})
    empty = evaluate(connection, [])
    assert empty.holds.shape == (1, 0)
    assert empty.mask("refuse").tolist() == [False]


ROWS = st.lists(
    st.fixed_dictionaries({
        "w_bits": st.sampled_from([2.0, 3.0, 4.0, 8.0, 16.0, None]),
        "w_dtype": st.sampled_from(["int", "nf", "kquant", "mxfp", None]),
        "a_bits": st.sampled_from([4.0, 8.0, 16.0]),
        "a_dtype": st.sampled_from(["int", "fp", None]),
        "kv_bits": st.sampled_from([2.0, 4.0, 8.0, 16.0]),
        "kv_dtype": st.sampled_from(["int", "block", "kivi", "none"]),
        "method": st.sampled_from(["rtn", "gptq", "awq", "smoothquant", "none"]),
        "method_rank": st.sampled_from([0, 1, 2]),
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
    max_size=4,
)  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(rows=ROWS)
def test_all_rules_at_once_say_what_each_says_alone(rows):
    rules = load_rules()
    with duckdb.connect() as connection:
        candidate_table(connection, *rows)
        together = evaluate(connection, rules).holds
        for number, rule in enumerate(rules):
            assert evaluate(connection, [rule]).holds[:, 0].tolist() == together[:, number].tolist(), rule.id


# -- the candidate table


def test_single_values_hold_for_all_rows(connection):
    columns = dict(PLAIN) | {
        "candidate_id": np.arange(3),
        "w_bits": np.array([2.0, np.nan, 4.0]),
        "budget_bytes": np.int64(2**40),
    }
    assert create_candidate_table(connection, columns) == 3
    rows = connection.execute("SELECT candidate_id, w_bits, model, w_sym, budget_bytes FROM candidate").fetchall()
    assert rows[1] == (1, None, "mistral-7b-v0.1", None, 2**40)
    kinds = {name: kind for name, kind, *_ in connection.execute("DESCRIBE candidate").fetchall()}
    assert kinds == {name: column.sort for name, column in CANDIDATE_COLUMNS.items()}


def test_a_second_table_takes_the_place_of_the_first(connection):
    candidate_table(connection, {}, {})
    candidate_table(connection, {})
    assert connection.execute("SELECT count(*) FROM candidate").fetchone() == (1,)


def test_the_table_can_be_made_where_files_are_shut_off(tmp_path):
    path = tmp_path / "store.duckdb"
    duckdb.connect(str(path)).close()
    locked = {"enable_external_access": "false", "lock_configuration": "true"}
    with duckdb.connect(str(path), read_only=True, config=locked) as connection:
        candidate_table(connection, {})
        assert evaluate(connection, [make_rule("w_bits = 4")]).holds.tolist() == [[True]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"w_bitz": 4}, "does not know w_bitz", id="unknown column"),
        pytest.param({"w_bits": None, "drop": "kv_bits"}, "lacks kv_bits", id="missing column"),
        pytest.param({"w_bits": np.arange(5)}, "one length", id="lengths differ"),
        pytest.param({"w_bits": [4, 4, 4]}, "neither an array nor one value", id="a list"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(connection, change, message):
    columns = dict(PLAIN) | {"candidate_id": np.arange(3)} | change
    columns.pop(str(columns.pop("drop", "")), None)
    with pytest.raises(DataError, match=message):
        create_candidate_table(connection, columns)


# -- loading


def test_user_rules_come_after_the_packaged_and_replace_them_by_id(tmp_path):
    write_rule(tmp_path, ("id: test-1", "id: li2024-1"), name="li2024-1")
    write_rule(tmp_path)
    rules = {rule.id: rule for rule in load_rules(extra=tmp_path)}
    assert not rules["li2024-1"].packaged
    assert rules["li2024-1"].title == "A rule"
    assert rules["test-1"].check is None
    assert rules["li2024-2"].packaged
    assert len(rules) == len(load_rules()) + 1


def test_a_missing_user_folder_is_no_error(tmp_path):
    assert load_rules(extra=tmp_path / "none") == load_rules()


def test_a_file_that_is_gone_takes_its_rule_with_it(tmp_path):
    folder = tmp_path / "rulebook"
    shutil.copytree(RULEBOOK, folder)
    (folder / "li2024-27.yaml").unlink()
    assert {rule.id for rule in load_rules()} - {rule.id for rule in load_rules(folder)} == {"li2024-27"}


def test_a_changed_file_is_read_again(tmp_path):
    folder = tmp_path / "rulebook"
    shutil.copytree(RULEBOOK, folder)
    path = folder / "li2024-4.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("effect: refuse", "effect: avoid"), encoding="utf-8")
    changed = {rule.id: rule for rule in load_rules(folder)}["li2024-4"]
    assert changed.effect == "avoid"
    assert changed.check is None


def test_a_broken_compiled_form_is_an_error_that_names_the_folder(tmp_path):
    (tmp_path / "compiled.json").write_text("[", encoding="utf-8")
    with pytest.raises(RuleError, match="cannot read the rules of"):
        load_rules(tmp_path)


def test_ids_sort_by_number():
    assert sorted(["li2024-10", "li2024-9", "jin2024-j3", "li2024-1-kv", "li2024-1"], key=natural_order) == [
        "jin2024-j3", "li2024-1", "li2024-1-kv", "li2024-9", "li2024-10",
    ]  # fmt: skip
