"""A rule's condition in three parts: what it says of the recipe, of the request, and of both together.

A condition is mostly a conjunction (`kv_bits < 4 AND task_type = 'long-context'`), and most of its members speak of the
recipe alone or of the request alone. DuckDB's own syntax tree is taken apart at its AND and each part written out again by
DuckDB. A conjunction is true where all its members are, so the parts together say what the whole says, whatever is unknown.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from knowledge.rule_columns import CANDIDATE_COLUMNS, About
from knowledge.values import value

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from knowledge.rule_sql import Node


@value
class Condition:
    """SQL of the rows for which a rule holds; a part that is None always holds."""

    recipe: str | None = None
    request: str | None = None
    both: str | None = None
    """What compares recipe and request, or speaks of the bytes that follow from both."""


def whole_condition(when: str, must: str | None) -> str:
    """SQL of the rows for which a rule holds; line breaks shut in a comment at the end of a predicate."""
    scope = f"(\n{when}\n)"
    return scope if must is None else f"({scope} AND NOT (\n{must}\n))"


def split_condition(connection: "DuckDBPyConnection", when: str, must: str | None) -> Condition:
    """The condition of a rule in parts.

    Args:
        connection: any connection; it only parses and prints.
        when: the rule's scope, a predicate that `knowledge.rule_sql.check_predicate` allows.
        must: what the rule requires there, likewise.

    Raises:
        RuleError: it does not parse.
    """
    from knowledge.rule_sql import nodes_of, select_of  # not on the way of an answer, whose rules are compiled

    parts: dict[About, list[str]] = {}
    select = select_of(connection, f"SELECT {whole_condition(when, must)}")
    for member in _members(select["select_list"][0]):
        names = {node["column_names"][0].lower() for node in nodes_of(member) if node.get("class") == "COLUMN_REF"}
        parts.setdefault(_about(names), []).append(_text(connection, select, member))
    return Condition(**{about: " AND ".join(texts) for about, texts in parts.items()})


def _members(node: "Node") -> "Iterator[Node]":
    """The members of a conjunction, those of conjunctions inside it too."""
    if node["type"] != "CONJUNCTION_AND":
        yield node
        return
    for child in node["children"]:
        yield from _members(child)


def _about(names: set[str]) -> About:
    """What a member that mentions these columns speaks of; without any column it is one of the request."""
    found = {CANDIDATE_COLUMNS[name].about for name in names} or {"request"}
    return found.pop() if len(found) == 1 else "both"


def _text(connection: "DuckDBPyConnection", select: "Node", expression: "Node") -> str:
    """SQL of one expression of `select`, in parentheses where it is not an atom."""
    tree: dict[str, Any] = {
        "error": False,
        "statements": [{"node": {**select, "select_list": [expression]}, "named_param_map": []}],
    }
    ((text,),) = connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchall()
    return str(text).removeprefix("SELECT ")
