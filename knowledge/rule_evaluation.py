"""Rules evaluated by DuckDB over all candidates of a request: recipes, request and both apart, each in one query.

What a rule says of recipes alone is the same in every request with the same engine and device; it can be kept.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from knowledge.errors import DataError
from knowledge.rule_columns import CANDIDATE_COLUMNS
from knowledge.rule_conditions import Condition, whole_condition
from knowledge.rules import Rule

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Bools = npt.NDArray[np.bool_]
Relation = Mapping[str, object]
"""Columns of the candidate relation, or those about one thing: for each an array with a value a row, or one plain value
that holds for all rows (None = unknown). NaN, None and masked entries become NULL. One column at least is an array."""

_INPUT = "qadvisor_rule_input"


def hold(connection: "DuckDBPyConnection", conditions: Sequence[str | None], relation: Relation) -> Bools:
    """Whether each condition holds for each row, worked out in one query; one whose value is unknown does not.

    Args:
        connection: any DuckDB connection, read-only ones included.
        conditions: SQL predicates over the columns of `relation`; None always holds.
        relation: the rows.

    Returns:
        Array of shape (rows, conditions).

    Raises:
        DataError: the columns are none of the candidate relation's, or arrays differ in length.
    """
    distinct = {text: f"h{number}" for number, text in enumerate(dict.fromkeys(filter(None, conditions)))}
    found = np.ones((_rows(relation), len(conditions)), dtype=np.bool_)
    if not distinct:
        return found
    arrays = {name: cells for name, cells in relation.items() if isinstance(cells, np.ndarray)}
    constants = {name: _plain(name, cell) for name, cell in relation.items() if name not in arrays}
    wanted = ", ".join(f"coalesce({text}, false) AS {name}" for text, name in distinct.items())
    columns = ", ".join(_column(name, cells) for name, cells in relation.items())
    connection.register(_INPUT, arrays)
    try:
        result = connection.execute(f"SELECT {wanted} FROM (SELECT {columns} FROM {_INPUT})", constants).fetchnumpy()
    finally:
        connection.unregister(_INPUT)
    for number, text in enumerate(conditions):
        if text:
            found[:, number] = result[distinct[text]]
    return found


def recipe_part(connection: "DuckDBPyConnection", rules: Sequence[Rule], recipes: Relation) -> Bools:
    """Whether what each rule says of recipes alone holds: (recipes, rules); `recipes` has the columns about recipes."""
    return hold(connection, [condition_of(rule).recipe for rule in rules], recipes)


def evaluate(
    connection: "DuckDBPyConnection",
    rules: Sequence[Rule],
    of_recipes: Bools,
    *,
    recipes: Relation,
    requests: Relation,
    both: Relation,
) -> Bools:
    """Whether each rule holds for each request and recipe. A `require` rule holds where its `must` fails in its scope.

    Args:
        connection: any DuckDB connection.
        rules: the rules.
        of_recipes: `recipe_part` of the same rules and recipes.
        recipes: columns about recipes, one row a recipe.
        requests: columns about requests, one row a request: the tasks of one question are requests of their own.
        both: columns about both, one row a recipe, where they are the same for all requests.

    Returns:
        Array of shape (requests, recipes, rules).
    """
    conditions = [condition_of(rule) for rule in rules]
    of_requests = hold(connection, [condition.request for condition in conditions], requests)
    found: Bools = of_requests[:, None, :] & of_recipes[None, :, :]
    joint = [number for number, condition in enumerate(conditions) if condition.both]
    if joint:
        of_both = hold(connection, [conditions[number].both for number in joint], _joined(recipes, requests, both))
        found[:, :, joint] &= of_both.reshape(*found.shape[:2], len(joint))
    return found


def condition_of(rule: Rule) -> Condition:
    """The condition of a rule in parts; one that was made by hand speaks of both together as a whole."""
    return rule.condition or Condition(both=whole_condition(rule.when, rule.must))


def _joined(recipes: Relation, requests: Relation, both: Relation) -> Relation:
    """The whole candidate relation: one row for each request and recipe, request by request."""
    per_recipe, n_recipes, n_requests = {**recipes, **both}, _rows(recipes), _rows(requests)
    tiled = {name: np.tile(cells, n_requests) if isinstance(cells, np.ndarray) else cells for name, cells in per_recipe.items()}
    repeated = {
        name: np.repeat(cells, n_recipes) if isinstance(cells, np.ndarray) else cells for name, cells in requests.items()
    }
    return {**tiled, **repeated}


def _rows(relation: Relation) -> int:
    """Rows of a relation.

    Raises:
        DataError: its arrays differ in length, or there is none.
    """
    lengths = {name: len(cells) for name, cells in relation.items() if isinstance(cells, np.ndarray)}
    if len(set(lengths.values())) != 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError("the columns of a relation must be arrays of one length", given=shown or "no array at all")
    return next(iter(lengths.values()))


def _column(name: str, cells: object) -> str:
    """SQL of a column with its type: from the arrays of the relation, or from a parameter."""
    if name not in CANDIDATE_COLUMNS:
        raise DataError(f"the candidate relation has no column {name!r}", given=name, allowed=list(CANDIDATE_COLUMNS))
    source = f'"{name}"' if isinstance(cells, np.ndarray) else f"${name}"
    return f'CAST({source} AS {CANDIDATE_COLUMNS[name].sort}) AS "{name}"'


def _plain(name: str, cell: object) -> object:
    plain = cell.item() if isinstance(cell, np.generic) else cell
    if plain is None or isinstance(plain, str | int | float):
        return plain
    message = f"candidate column {name!r} is neither an array nor one value"
    raise DataError(message, given=type(cell).__name__, allowed="a NumPy array")
