import pytest
from rule_candidates import RULE_TEXT, write_rule

from knowledge.errors import RuleError
from knowledge.rule_files import read_rule_files


def read(path):
    (rule,) = read_rule_files([path], packaged=False)
    return rule


def test_a_plain_file_is_read_whole(tmp_path):
    rule = read(write_rule(tmp_path))
    assert (rule.id, rule.effect, rule.when) == ("test-1", "avoid", "w_bits < 4 AND method = 'rtn'")
    assert rule.claim.bound == ">= 0.1"
    assert rule.claim.sources == ("li2024",)
    assert rule.citations[0].number == "12 %"
    assert not rule.packaged


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param([("when: w_bits < 4 AND", "when: wbits < 4 AND")], "unknown column 'wbits'", id="unbound column"),
        pytest.param([("AND method = 'rtn'", "AND starts_with(w_bits, 3)")], "does not bind", id="wrong types"),
        pytest.param(
            [("when: w_bits < 4 AND method = 'rtn'", "when: w_bits + 1")], "true or false, this one is", id="a number"
        ),
        pytest.param([("AND method = 'rtn'", "; DROP TABLE evidence")], "Only SELECT", id="second statement"),
        pytest.param([("method = 'rtn'", "getenv('HOME') = 'x'")], "'getenv' is not allowed", id="environment"),
        pytest.param([("method = 'rtn'", "EXISTS (FROM evidence)")], "subquery may not stand here", id="subquery"),
        pytest.param([("FROM evidence WHERE", "FROM 'x.csv' WHERE")], "'x.csv' may not be read", id="query on a file"),
        pytest.param([("median(loss) AS value, ", "")], "`value` and a whole `n`", id="no value"),
        pytest.param([("count(*) AS n", "avg(loss) AS n")], "`value` and a whole `n`", id="n not whole"),
        pytest.param([("median(loss)", "median(lost)")], "does not bind", id="query column"),
        pytest.param([("id: test-1", "id: test-2")], "the file's name says 'test-1'", id="name"),
        pytest.param([("effect: avoid", "effect: forbid")], "effect: Input should be 'refuse'", id="effect"),
        pytest.param([("strength: medium", "strenght: medium")], "strength: Field required|strenght", id="misspelt key"),
        pytest.param([("why: Because.", "why: Because.\nweight: 3")], "weight: Extra inputs", id="extra key"),
        pytest.param([("kind: candidate", "kind: task-trust")], "can only be a caution", id="kind"),
        pytest.param([("why: Because.", "why: Because.\nmust: w_bits >= 8")], "`must` goes with effect require", id="must"),
        pytest.param([("effect: avoid", "effect: require")], "`must` goes with effect require", id="require without must"),
        pytest.param([("  at_least: 0.1\n", "")], "one of at_least and at_most", id="no bound"),
        pytest.param([("  min_n: 2\n", "  min_n: 2\n  at_most: 1\n")], "one of at_least and at_most", id="two bounds"),
        pytest.param([("why: Because.", "why: Because.\nno_check: none")], "give a check", id="check and no check"),
        pytest.param([("https://arxiv.org/abs/2501.00000", "arxiv")], "citations.0.url", id="no address"),
        pytest.param([("title: A rule", "title: [")], "not readable YAML", id="broken YAML"),
        pytest.param([(RULE_TEXT, "- a list")], "a mapping of its parts", id="not a mapping"),
        pytest.param([("title: A rule", "title: !!python/object/apply:os.getcwd []")], "not readable YAML", id="python tag"),
    ],
)
def test_a_refused_file_is_named_with_the_reason(tmp_path, changes, reason):
    path = write_rule(tmp_path, *changes)
    with pytest.raises(RuleError, match=reason) as caught:
        read(path)
    assert str(path) in caught.value.message


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "test-1.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RuleError, match="not readable YAML"):
        read(path)


def test_a_rule_without_a_check_says_why(tmp_path):
    text = RULE_TEXT.split("check:")[0] + "no_check: No table prints it.\n"
    path = tmp_path / "test-1.yaml"
    path.write_text(text, encoding="utf-8")
    assert read(path).no_claim == "No table prints it."


def test_a_requirement_binds_both_predicates(tmp_path):
    good = write_rule(tmp_path, ("effect: avoid", "effect: require"), ("why: Because.", "why: Because.\nmust: w_bits >= 8"))
    assert read(good).must == "w_bits >= 8"
    bad = write_rule(tmp_path, ("effect: avoid", "effect: require"), ("why: Because.", "why: Because.\nmust: nothing >= 8"))
    with pytest.raises(RuleError, match="unknown column 'nothing'"):
        read(bad)
