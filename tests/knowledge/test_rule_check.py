import duckdb
import pytest
from rule_candidates import make_rule

from knowledge.errors import RuleError
from knowledge.rule_check import check_rules
from knowledge.rules import Claim

QUERY = "SELECT median(loss) AS value, count(*) AS n FROM evidence"


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        opened.execute("CREATE TABLE evidence (source VARCHAR, loss DOUBLE)")
        yield opened


def fill(connection, **losses):
    for source, values in losses.items():
        for value in values:
            connection.execute("INSERT INTO evidence VALUES (?, ?)", [source, value])


def claim(query: str = QUERY, *, sources=("mine",), min_n=2, **bound) -> Claim:
    return Claim(text="x", sources=tuple(sources), query=query, unit="share", min_n=min_n, **(bound or {"at_least": 0.5}))


def check(connection, claim):
    (result,) = check_rules(connection, [make_rule("true", claim=claim)])
    return result


@pytest.mark.parametrize(
    ("mine", "others", "own_status", "others_status", "status"),
    [
        pytest.param([0.6, 0.7], [0.8, 0.9], "supported", "supported", "supported", id="both support"),
        pytest.param([0.6, 0.7], [0.1, 0.2], "supported", "contradicted", "contradicted", id="others outrank the own source"),
        pytest.param([0.1, 0.2], [0.8, 0.9], "contradicted", "supported", "supported", id="others rescue"),
        pytest.param([0.6, 0.7], [0.1], "supported", "no data", "supported", id="too few others"),
        pytest.param([0.1, 0.2], [], "contradicted", "no data", "contradicted", id="own source contradicts"),
        pytest.param([0.6], [], "no data", "no data", "no data", id="too few of all"),
    ],
)
def test_own_and_other_sources_apart(connection, mine, others, own_status, others_status, status):
    fill(connection, mine=mine, yours=others[::2], theirs=others[1::2])
    result = check(connection, claim())
    assert (result.own.status, result.others.status, result.status) == (own_status, others_status, status)
    assert (result.own.n, result.others.n) == (len(mine), len(others))


def test_values_and_an_upper_bound(connection):
    fill(connection, mine=[0.1, 0.3], yours=[0.5, 0.7])
    result = check(connection, claim(at_most=0.25))
    assert result.own.value == pytest.approx(0.2)
    assert (result.own.status, result.others.status) == ("supported", "contradicted")


def test_the_bound_itself_holds(connection):
    fill(connection, yours=[0.5, 0.5])
    assert check(connection, claim(at_least=0.5)).status == "supported"
    assert check(connection, claim(at_most=0.5)).status == "supported"


def test_a_rule_without_own_sources_is_checked_on_all(connection):
    fill(connection, a=[0.6], b=[0.8])
    result = check(connection, claim(sources=()))
    assert result.own.status == "no data"
    assert (result.others.n, result.others.status) == (2, "supported")


def test_a_rule_without_a_claim_has_no_data(connection):
    (result,) = check_rules(connection, [make_rule("true", no_claim="none")])
    assert result.status == "no data"


def test_a_relation_that_is_not_there_is_no_data(connection):
    assert check(connection, claim("SELECT 1.0 AS value, count(*) AS n FROM efficiency")).status == "no data"


def test_a_query_with_a_relation_of_its_own_and_a_join(connection):
    fill(connection, mine=[0.6, 0.8], yours=[0.2])
    query = """
        WITH x AS (SELECT * FROM evidence)
        SELECT avg(a.loss) AS value, count(*) AS n FROM x AS a JOIN evidence AS b USING (source)
    """
    result = check(connection, claim(query))
    assert (result.own.value, result.own.n) == (pytest.approx(0.7), 4)
    assert result.others.n == 1


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        pytest.param("SELECT loss AS value, 1 AS n FROM evidence", "returned 2 rows", id="many rows"),
        pytest.param("SELECT missing AS value, 1 AS n FROM evidence", "its check fails", id="does not bind"),
    ],
)
def test_a_query_that_gives_no_answer_is_an_error_with_the_rule(connection, query, reason):
    fill(connection, mine=[0.1, 0.2])
    with pytest.raises(RuleError, match=f"rule test-1: .*{reason}"):
        check(connection, claim(query))


def test_user_rows_count_as_another_source(connection):
    fill(connection, mine=[0.6, 0.7], run=[0.0, 0.1])
    assert check(connection, claim()).status == "contradicted"
