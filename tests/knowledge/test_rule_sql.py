import duckdb
import pytest

from knowledge.errors import RuleError
from knowledge.rule_columns import CANDIDATE_COLUMNS
from knowledge.rule_sql import check_predicate, check_query, tables_of

COLUMNS = frozenset(CANDIDATE_COLUMNS)


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        yield opened


@pytest.mark.parametrize(
    "text",
    [
        "w_bits < 4",
        "w_bits < 4 -- a comment at the end",
        "W_Bits BETWEEN 3 AND 4 AND NOT moe",
        "method IN ('rtn', 'gptq') OR method ILIKE 'a%'",
        "coalesce(w_group, 128) <= 128 AND w_sym IS NOT NULL",
        "CASE WHEN moe THEN active_params_b ELSE params_b END < 4",
        "regexp_matches(task, '^mmlu_') AND CAST(context AS DOUBLE) / 1024 >= 16",
        "w_bits IS DISTINCT FROM 16 AND -w_bits < ln(2.0)",
    ],
)
def test_plain_predicates_pass(connection, text):
    check_predicate(connection, text, COLUMNS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("w_bits < 4; DROP TABLE evidence", "Only SELECT"),
        ("true; SELECT 1", "2 statements"),
        ("true) OR (1 = 1", "syntax error"),
        ("w_bits < 4 /* open", "unterminated"),
        ("w_bits < 4 FROM evidence", "not a query"),
        ("w_bits < 4 WHERE true", "not a query"),
        ("w_bits < 4 LIMIT 1", "not a query"),
        ("w_bits < 4 UNION SELECT true", "not a query"),
        ("DISTINCT moe", "not a query"),
        ("w_bits < 4, moe", "not a query"),
        ("moe AS other", "not a query"),
        ("count(*) > 1", "'count_star' is not allowed"),
        ("sum(w_bits) OVER () > 1", "window"),
        ("EXISTS (SELECT 1)", "subquery"),
        ("(SELECT count(*) FROM secret) > 0", "subquery"),
        ("w_bits IN (SELECT 1)", "subquery"),
        ("w_bits = ANY ([1, 2])", "subquery"),
        ("read_text('/etc/passwd') IS NOT NULL", "'read_text' is not allowed"),
        ("CASE WHEN moe THEN read_blob('x') END IS NULL", "'read_blob' is not allowed"),
        ("getenv('HOME') = 'x'", "'getenv' is not allowed"),
        ("current_setting('home_directory') = ''", "'current_setting' is not allowed"),
        ("getvariable('x') = 1", "'getvariable' is not allowed"),
        ("pg_sleep(9) IS NULL", "'pg_sleep' is not allowed"),
        ("random() < 0.5", "'random' is not allowed"),
        ("nextval('s') > 1", "'nextval' is not allowed"),
        ("main.abs(w_bits) = 1", "'abs' is not allowed"),
        ("list_filter([1], lambda x: x > 1) IS NULL", "'list_filter' is not allowed"),
        ("TRY_CAST(model AS JSON) IS NULL", "cast to JSON"),
        ("w_bits = $1", "parameters"),
        ("w_bits = ?", "parameters"),
        ("*", "star"),
        ("COLUMNS('w.*') > 1", "star"),
        ("wbits < 4", "unknown column 'wbits'"),
        ("evidence.w_bits < 4", "unknown column 'evidence.w_bits'"),
        ("current_user = 'x'", "unknown column 'current_user'"),
        ("", "not a SELECT"),
    ],
)
def test_hostile_predicates_are_refused(connection, text, reason):
    with pytest.raises(RuleError, match=reason):
        check_predicate(connection, text, COLUMNS)


def test_an_unknown_column_names_the_nearest(connection):
    with pytest.raises(RuleError) as caught:
        check_predicate(connection, "kv_bit < 8", COLUMNS)
    assert "kv_bits" in caught.value.allowed


@pytest.mark.parametrize(
    "text",
    [
        "SELECT median(loss) AS value, count(*) AS n FROM evidence WHERE learnable",
        "WITH x AS (SELECT * FROM evidence) SELECT count(*) FILTER (WHERE loss > 1) FROM x JOIN evidence USING (model)",
        "SELECT (SELECT max(loss) FROM evidence) - quantile_cont(loss, 0.9) FROM efficiency",
        "SELECT row_number() OVER (PARTITION BY model ORDER BY loss) FROM evidence QUALIFY true LIMIT 3",
    ],
)
def test_plain_queries_pass(connection, text):
    check_query(connection, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT * FROM 'rows.csv'", "'rows.csv' may not be read"),
        ("SELECT * FROM read_csv('rows.csv')", "table function"),
        ("SELECT * FROM evidence, glob('*')", "table function"),
        ("SELECT * FROM main.evidence", "may not be read"),
        ("SELECT * FROM information_schema.tables", "may not be read"),
        ("SELECT * FROM runs", "'runs' may not be read"),
        ("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x), x", "'x' may not be read"),
        ("WITH evidence AS (SELECT 1) SELECT * FROM evidence", "a CTE may not be called"),
        ("WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT * FROM r) SELECT * FROM r", "recursive"),
        ("SELECT loss FROM evidence UNION SELECT x FROM secret", "'secret' may not be read"),
        ("SELECT count(*) FROM evidence WHERE loss > (SELECT 1 FROM secret)", "'secret' may not be read"),
        ("SELECT 1 FROM evidence ORDER BY getenv('x')", "'getenv' is not allowed"),
        ("SELECT 1 FROM evidence LIMIT (SELECT 1 FROM secret)", "'secret' may not be read"),
        ("SELECT 1 FROM evidence JOIN evidence AS e ON getenv('x') = ''", "'getenv' is not allowed"),
        ("SELECT * REPLACE (getenv('x') AS loss) FROM evidence", "'getenv' is not allowed"),
        ("SELECT sum(loss) OVER (ORDER BY getenv('x')) FROM evidence", "'getenv' is not allowed"),
        ("SELECT * FROM evidence TABLESAMPLE 3", "may not stand here"),
        ("VALUES (1)", "may not stand here"),
        ("DESCRIBE evidence", "may not stand here"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("COPY evidence TO 'x'", "Only SELECT"),
        ("ATTACH 'x'", "Only SELECT"),
        ("PRAGMA database_list", "Only SELECT|may not"),
        ("INSERT INTO evidence VALUES (1)", "Only SELECT"),
    ],
)
def test_hostile_queries_are_refused(connection, text, reason):
    with pytest.raises(RuleError, match=reason):
        check_query(connection, text)


def test_the_tables_of_a_query_leave_its_own_names_out(connection):
    text = "WITH x AS (SELECT 1 FROM efficiency) SELECT * FROM x WHERE EXISTS (SELECT 1 FROM Evidence)"
    assert tables_of(connection, text) == {"evidence", "efficiency"}
