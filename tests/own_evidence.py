"""Knowledge bases in memory: the published evidence with rows of the user's own beside it."""

from typing import Any

import duckdb

from knowledge.catalogue import find_model
from knowledge.columns import columns_of, kv_kind
from knowledge.evidence import COLUMNS, efficiency_path, evidence_path
from knowledge.schemes import parse_scheme
from knowledge.store import KnowledgeStore
from knowledge.task_catalogue import find_task
from knowledge.tasks import METRICS

OWN_IDS = 100_000_000


def own_row(model: str, scheme: str, method: str, task: str, loss: float, **changes: Any) -> dict[str, Any]:
    """One row of the user's, as a refresh writes it: a loss with its noise, measured in one checkpoint."""
    spec, form, test = find_model(model), parse_scheme(scheme), find_task(task)
    relative = METRICS[test.metric].loss == "relative"
    baseline = 60.0 if relative else 6.0
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    values |= {
        "source": "own:measure", "ref": "run", "licence": "none stated", "model": spec.name, "family": spec.family,
        "params_b": 7.0,
        "method": method, "scheme": form.name, "task": test.name, "task_type": test.type, "ability": test.ability,
        "metric": test.metric, "score": baseline - loss * (baseline - (test.chance or 0)), "baseline": baseline,
        "chance": test.chance,
        "items": test.items, "loss_kind": "relative" if relative else "delta_nll", "unit": "", "loss": loss, "loss_se": 0.01,
        "higher_is_better": relative, "suspect": False, "is_average": False, "weight": 1.0, "learnable": True, "own": True,
        "checkpoint": f"{spec.name}-{form.name}-{method}",
    }  # fmt: skip
    recipe = {name: value for name, value in columns_of(form, method).items() if name in COLUMNS}
    cache = {"kv_dtype": kv_kind(form.kv_cache), "kv_name": form.kv_name}
    return values | recipe | cache | changes


def make_store(*rows: dict[str, Any]) -> KnowledgeStore:
    """The published evidence with `rows` of the user's, as a snapshot has them."""
    connection = duckdb.connect(config={"threads": "1"})
    connection.from_parquet(str(evidence_path())).order("model, task, evidence_id").create("evidence")
    connection.from_parquet(str(efficiency_path())).create("efficiency")
    connection.execute("CREATE TABLE sources (id VARCHAR, title VARCHAR, origin VARCHAR, licence VARCHAR, caveats VARCHAR)")
    connection.execute(
        "CREATE TABLE provenance (evidence_id INTEGER, batch VARCHAR, file VARCHAR, checkpoint VARCHAR, key VARCHAR)"
    )
    for number, row in enumerate(rows, start=OWN_IDS):
        values = [number if name == "evidence_id" else row[name] for name in COLUMNS]
        connection.execute(f"INSERT INTO evidence VALUES ({', '.join('?' * len(values))})", values)
        connection.execute(
            "INSERT INTO provenance VALUES (?, 'batch', ?, ?, NULL)", [number, f"{number}.json", row["checkpoint"]]
        )
    return KnowledgeStore(connection, version=f"test-{len(rows)}")
