"""What a rule may say in SQL: one predicate over `candidate`, and one SELECT that re-checks its claim on the evidence.

Rules come from files, so their SQL is parsed before it runs: DuckDB's own parser gives the syntax tree
(`json_serialize_sql`), and whatever the two tables below do not list is refused. Nothing here reads a file, a setting or
the network, neither by a function nor by a table name that DuckDB would take for a file.
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from knowledge.errors import RuleError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Node = Mapping[str, Any]

PREDICATE_FUNCTIONS = frozenset({
    "+", "-", "*", "/", "//", "%", "~~", "!~~", "~~*", "!~~*", "||",
    "abs", "ceil", "exp", "floor", "greatest", "least", "length", "ln", "log2", "pow", "round", "sqrt",
    "contains", "ends_with", "lower", "prefix", "starts_with", "suffix", "upper",
    "regexp_extract", "regexp_full_match", "regexp_matches", "regexp_replace", "replace", "split_part", "trim",
    "ifnull", "isfinite", "isnan", "nullif",
})  # fmt: skip
"""Functions and operators of predicates: pure, of their arguments only."""

QUERY_FUNCTIONS = PREDICATE_FUNCTIONS | {
    "any_value", "arg_max", "arg_min", "avg", "bool_and", "bool_or", "corr", "count", "count_if", "count_star", "max", "median",
    "min", "quantile_cont", "quantile_disc", "stddev_samp", "sum", "rank", "row_number", "list_value",
}  # fmt: skip
"""What queries may use besides: aggregates and two window functions (`list_value` is what `[0.1, 0.9]` parses to)."""

QUERY_TABLES = frozenset({"evidence", "efficiency"})
"""Relations that a check may read: published scores, and published speed and memory figures."""

_CAST_TYPES = frozenset({"BIGINT", "BOOLEAN", "DOUBLE", "FLOAT", "INTEGER", "VARCHAR"})
_PREDICATE_CLASSES = frozenset({
    "BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "TYPE",
})  # fmt: skip
_QUERY_CLASSES = _PREDICATE_CLASSES | {"STAR", "SUBQUERY", "WINDOW"}
_NODE_TYPES = frozenset({
    "SELECT_NODE", "SET_OPERATION_NODE", "BASE_TABLE", "EMPTY", "JOIN", "SUBQUERY",
    "ORDER_MODIFIER", "LIMIT_MODIFIER", "DISTINCT_MODIFIER", "ORDER_DEFAULT", "ASCENDING", "DESCENDING",
})  # fmt: skip
"""Nodes of the syntax tree that are no expressions; a type that is not listed is refused, so new ones are too."""


def check_predicate(connection: "DuckDBPyConnection", text: str, columns: frozenset[str]) -> None:
    """Refuse `text` unless it is one expression over `columns` with allowed functions only.

    Args:
        connection: any connection; it only parses.
        text: SQL of the predicate.
        columns: names of the candidate relation.

    Raises:
        RuleError: not one expression, or it reaches beyond the row.
    """
    node = select_of(connection, f"SELECT\n{text}\n")
    plain = (
        node.get("type") == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["from_table"]["type"] == "EMPTY"
        and not node["cte_map"]["map"]
        and not any(node[part] for part in ("modifiers", "where_clause", "group_expressions", "having", "qualify", "sample"))
        and not node["select_list"][0]["alias"]
    )
    if not plain:
        raise RuleError("a predicate is one expression, not a query", given=text, allowed="w_bits <= 4 AND task = 'gsm8k'")
    for expression in _walk(node["select_list"][0], frozenset()):
        _check_expression(expression, _PREDICATE_CLASSES, PREDICATE_FUNCTIONS)
        if expression["class"] == "COLUMN_REF":
            _check_column(expression["column_names"], columns)


def check_query(connection: "DuckDBPyConnection", text: str) -> None:
    """Refuse `text` unless it is one SELECT over `QUERY_TABLES`, its own CTEs and subqueries, with allowed functions only.

    Raises:
        RuleError: more than one statement, another table, a table function, or a function that is not allowed.
    """
    for expression in _walk(select_of(connection, text), QUERY_TABLES):
        _check_expression(expression, _QUERY_CLASSES, QUERY_FUNCTIONS)


def tables_of(connection: "DuckDBPyConnection", text: str) -> set[str]:
    """Which of `QUERY_TABLES` the query `text` reads."""
    return {name for name in _table_names(select_of(connection, text)) if name in QUERY_TABLES}


def _table_names(tree: object) -> Iterator[str]:
    return (str(node["table_name"]).lower() for node in nodes_of(tree) if node.get("type") == "BASE_TABLE")


def nodes_of(tree: object) -> Iterator[Node]:
    """Every node of a syntax tree, from the outside inwards."""
    if isinstance(tree, dict):
        yield tree
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from nodes_of(item)


def select_of(connection: "DuckDBPyConnection", text: str) -> Node:
    """The syntax tree of one SELECT.

    Raises:
        RuleError: it does not parse, is more than one statement, or takes parameters.
    """
    ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
    parsed: dict[str, Any] = json.loads(tree)
    if parsed["error"]:
        raise RuleError(f"not a SELECT that parses: {parsed['error_message']}", given=text.strip())
    if len(parsed["statements"]) != 1:
        raise RuleError(f"{len(parsed['statements'])} statements where one is allowed", given=text.strip())
    if parsed["statements"][0]["named_param_map"]:
        raise RuleError("parameters are not allowed", given=text.strip())
    node: Node = parsed["statements"][0]["node"]
    return node


def _walk(value: object, tables: frozenset[str]) -> Iterator[Node]:
    """Every expression at or below `value`; refuses tables that are not in `tables` or a CTE in scope, and unknown nodes."""
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, tables)
    if not isinstance(value, dict):
        return
    if "class" in value:
        yield value
    elif "type" in value:
        _check_node(value, tables)
    for entry in value.get("cte_map", {}).get("map", ()):
        name = entry["key"].lower()
        if name in tables:
            raise RuleError(f"a CTE may not be called {name!r}", given=name)
        yield from _walk(entry["value"], tables)
        tables = tables | {name}
    for key, item in value.items():
        if key not in ("cte_map", "literal"):
            yield from _walk(item, tables)


def _check_node(node: Node, tables: frozenset[str]) -> None:
    """Refuse a table that may not be read and any node that is not known to be harmless."""
    kind = str(node["type"])
    if kind not in _NODE_TYPES or node.get("sample") or node.get("at_clause"):
        raise RuleError(f"{_words(kind)} may not stand here", given=kind, allowed=sorted(tables))
    if kind == "BASE_TABLE":
        name = str(node["table_name"])
        if name.lower() not in tables or node["schema_name"] or node["catalog_name"]:
            raise RuleError(f"table {name!r} may not be read", given=name, allowed=sorted(tables))


def _check_expression(node: Node, classes: frozenset[str], functions: frozenset[str]) -> None:
    kind = node["class"]
    if kind not in classes:
        raise RuleError(f"{_words(kind)} may not stand here", given=str(node.get("type", kind)))
    if kind in ("FUNCTION", "WINDOW"):
        name = str(node["function_name"]).lower()
        if name not in functions or node.get("schema") or node.get("catalog"):
            raise RuleError(f"function {name!r} is not allowed", given=name, allowed=sorted(functions))
    if kind == "TYPE" and (node["type_name"].upper() not in _CAST_TYPES or node.get("schema") or node.get("catalog")):
        raise RuleError(f"cast to {node['type_name']} is not allowed", given=node["type_name"], allowed=sorted(_CAST_TYPES))


def _check_column(names: list[str], columns: frozenset[str]) -> None:
    if len(names) != 1 or names[0].lower() not in columns:
        from difflib import get_close_matches

        name = ".".join(names)
        near = get_close_matches(name, sorted(columns), n=3, cutoff=0.5)
        raise RuleError(f"unknown column {name!r}", given=name, allowed=near or sorted(columns))


def _words(kind: str) -> str:
    return kind.lower().replace("_", " ")
