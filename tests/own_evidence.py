"""Knowledge bases in memory: the published evidence with rows of the user's own beside it."""

from pathlib import Path
from typing import Any

import duckdb

from knowledge.catalogue import find_model
from knowledge.columns import columns_of, kv_kind
from knowledge.evidence import COLUMNS
from knowledge.schemes import parse_scheme
from knowledge.snapshot import STORED_COLUMNS, create_tables
from knowledge.store import KnowledgeStore
from knowledge.task_catalogue import find_task
from knowledge.tasks import METRICS
from knowledge.versions import FIRST_OWN_ID


def own_row(model: str, scheme: str, method: str, task: str, loss: float, **changes: Any) -> dict[str, Any]:
    """One row of the user's, as a refresh writes it: a loss with its noise, measured in one checkpoint."""
    spec, form, test = find_model(model), parse_scheme(scheme), find_task(task)
    relative = METRICS[test.metric].loss == "relative"
    baseline = 60.0 if relative else 6.0
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    values |= {
        "source": "own:measure", "ref": "run", "licence": "none stated", "model": spec.name, "family": spec.family,
        "params_b": 7.0, "method": method, "scheme": form.name, "task": test.name, "task_type": test.type,
        "ability": test.ability, "metric": test.metric, "higher_is_better": relative, "baseline": baseline,
        "score": baseline - loss * (baseline - (test.chance or 0)), "chance": test.chance, "items": test.items,
        "loss_kind": "relative" if relative else "delta_nll", "unit": "", "loss": loss, "loss_se": 0.01, "suspect": False,
        "is_average": False, "weight": 1.0, "learnable": True, "own": True,
        "checkpoint": f"{spec.name}-{form.name}-{method}",
    }  # fmt: skip
    recipe = {name: value for name, value in columns_of(form, method).items() if name in COLUMNS}
    cache = {"kv_dtype": kv_kind(form.kv_cache), "kv_name": form.kv_name}
    return values | recipe | cache | changes


def make_store(*rows: dict[str, Any], published: bool = True) -> KnowledgeStore:
    """The published evidence (or none) with `rows` beside it, as a snapshot has them; numbered in their order."""
    connection = duckdb.connect(config={"threads": "1"})
    create_tables(connection, lambda batch: Path(batch.id), (), (), "test")
    if not published:
        connection.execute("DELETE FROM evidence")
    marks = ", ".join("?" * len(STORED_COLUMNS))
    values = [
        [number if name == "evidence_id" else row[name] for name in STORED_COLUMNS]
        for number, row in enumerate(rows, start=FIRST_OWN_ID)
    ]
    if values:
        connection.executemany(f"INSERT INTO evidence VALUES ({marks})", values)
    return KnowledgeStore(connection, version=f"test-{len(rows)}")
