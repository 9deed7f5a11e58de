"""Evidence aggregated to cells, so that a refit sees some ten thousand rows however many were measured.

A cell is one source's figures for one model, recipe, task and setting of the test. The database takes their mean, variance
and number; in a fit a cell counts once, however often it was measured. Published rows keep their note apart, because it tells
variants of a test from each other.
"""

from collections.abc import Sequence

from advisor import training
from advisor.training import TrainingSet
from knowledge.database import Columns
from knowledge.store import KnowledgeStore

_KEYS = (
    "own", "source", "model", "method", "scheme", "w_bits", "w_dtype", "w_group", "w_sym", "a_bits", "a_dtype", "kv_bits",
    "kv_dtype", "kv_name", "format", "task", "metric", "shots", "context", "chance",
)  # fmt: skip
_CELLS = f"""
SELECT {", ".join(_KEYS)}, CASE WHEN own THEN NULL ELSE note END AS note,
    any_value(family) AS family, avg(params_b) AS params_b, any_value(tuned) AS tuned, any_value(task_type) AS task_type,
    any_value(ability) AS ability, avg(score) AS score, avg(baseline) AS baseline, max(items) AS items,
    avg(loss) AS loss, sqrt(avg(loss_se * loss_se)) AS loss_se, var_samp(loss) AS variance, count(*) AS n
FROM evidence
WHERE learnable AND (NOT own OR evidence_id BETWEEN $first AND $last)
GROUP BY ALL
ORDER BY ALL
"""
"""`loss_se` is that of one row: runs of one test answer the same items, so that their noise does not average out."""

EVERY_ID = 2**31 - 1


def load_cells(store: KnowledgeStore, *, learned: Sequence[tuple[int, int]] = ((0, EVERY_ID),)) -> TrainingSet:
    """The learnable evidence, one row a cell.

    Args:
        store: the open knowledge base.
        learned: first and last `evidence_id` of the user's own rows to take in; published rows are always among them.
    """
    return training.make_training_set({name: training.plain(values) for name, values in cell_columns(store, learned).items()})


def cell_columns(store: KnowledgeStore, learned: Sequence[tuple[int, int]]) -> Columns:
    """Cells by column: those of evidence, and `variance` (NaN for a single row) and `n`."""
    wanted, parameters = _within(learned)
    return store.columns(_CELLS.replace("evidence_id BETWEEN $first AND $last", wanted), parameters)


def count_unlearned(store: KnowledgeStore, learned: Sequence[tuple[int, int]]) -> int:
    """The user's learnable rows outside of `learned`."""
    wanted, parameters = _within(learned)
    return int(store.rows(f"SELECT count(*) FROM evidence WHERE own AND learnable AND NOT ({wanted})", parameters)[0][0])


def _within(ranges: Sequence[tuple[int, int]]) -> tuple[str, dict[str, object]]:
    """A condition on `evidence_id` with its parameters."""
    parameters: dict[str, object] = {}
    for number, (first, last) in enumerate(ranges):
        parameters |= {f"first{number}": first, f"last{number}": last}
    between = (f"evidence_id BETWEEN $first{number} AND $last{number}" for number in range(len(ranges)))
    return " OR ".join(between) or "false", parameters
