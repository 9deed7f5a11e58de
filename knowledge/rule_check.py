"""Recompute what the rules claim: on the sources a rule rests on, and on all others apart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from knowledge.errors import RuleError
from knowledge.rule_sql import QUERY_TABLES, tables_of
from knowledge.rules import Claim, ClaimResult, Rule, RuleCheck, Status

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NO_DATA = ClaimResult(value=None, n=0, status="no data")


def check_rules(connection: "DuckDBPyConnection", rules: Sequence[Rule]) -> tuple[RuleCheck, ...]:
    """Every rule's claim on the relations `evidence` and `efficiency` of `connection`, in the order of `rules`.

    A rule without a query, or whose query needs a relation that `connection` lacks, has no data.

    Raises:
        RuleError: a query does not return one row of `value` and `n`.
    """
    names = connection.execute("SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views()").fetchall()
    held = {name for (name,) in names if name in QUERY_TABLES}
    return tuple(_check(connection, rule, held) for rule in rules)


def _check(connection: "DuckDBPyConnection", rule: Rule, held: set[str]) -> RuleCheck:
    claim = rule.claim
    if claim is None or not (tables := tables_of(connection, claim.query)) <= held:
        return RuleCheck(rule_id=rule.id, own=NO_DATA, others=NO_DATA)
    own = _recompute(connection, rule, claim, tables, "IN") if claim.sources else NO_DATA
    return RuleCheck(rule_id=rule.id, own=own, others=_recompute(connection, rule, claim, tables, "NOT IN"))


def _recompute(connection: "DuckDBPyConnection", rule: Rule, claim: Claim, tables: set[str], side: str) -> ClaimResult:
    """The claim on the rows whose source is in (or not in) the rule's own."""
    import duckdb

    names = ", ".join("?" for _ in claim.sources) or "''"
    parts = [f"{table} AS (SELECT * FROM {table} WHERE source {side} ({names}))" for table in sorted(tables)]
    query = f"WITH {', '.join(parts)} SELECT value::DOUBLE, n::BIGINT FROM (\n{claim.query}\n)"
    try:
        rows = connection.execute(query, list(claim.sources) * len(tables)).fetchall()
    except duckdb.Error as error:
        raise RuleError(f"rule {rule.id}: its check fails: {str(error).splitlines()[0]}", given=claim.query) from error
    if len(rows) != 1:
        message = f"rule {rule.id}: its check returned {len(rows)} rows"
        raise RuleError(message, given=claim.query, allowed="one row of value and n")
    value, n = rows[0]
    return ClaimResult(value=value, n=n or 0, status=_status(claim, value, n or 0))


def _status(claim: Claim, value: float | None, n: int) -> Status:
    if value is None or value != value or n < claim.min_n:
        return "no data"
    holds = value >= claim.at_least if claim.at_least is not None else value <= (claim.at_most or 0.0)
    return "supported" if holds else "contradicted"
