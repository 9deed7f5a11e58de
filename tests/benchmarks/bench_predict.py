"""How long predictions take in a warm process, beside the goals.

    python tests/benchmarks/bench_predict.py [--runs 20]

- loading: the fitted file from the disk to a predictor, median of all runs;
- one request: 2,000 candidates (recipes x tasks) of one model with `advisor.forecast`, best and median of all runs;
- a table: 10,000 different configurations with `advisor.predict_table.predict_rows`, once, after a first small table that
  opens the knowledge base.

Goals: 20 ms, 30 ms, 1.5 s. Figures are wall-clock times; the program reports, it does not judge.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle, product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from advisor.candidates import generate_candidates
from advisor.forecast import forecast_tasks
from advisor.predict_table import predict_rows
from advisor.predictor import PACKAGED, from_bytes, load_predictor
from advisor.recipe_table import recipe_table
from knowledge.catalogue import find_model, model_names
from knowledge.task_catalogue import all_tasks, find_task

MODEL = "mistral-7b"
TASKS = ("longeval", "mmlu")
RECIPES, ROWS = 1_000, 10_000
GOAL_LOAD_MS, GOAL_REQUEST_MS, GOAL_TABLE_S = 20.0, 30.0, 1.5


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def task_columns(name: str) -> dict[str, object]:
    """The columns that a request fills in for a task."""
    task = find_task(name)
    return {
        "task": task.name,
        "task_type": task.type,
        "ability": task.ability,
        "metric": task.metric,
        "chance": task.chance,
    }


def request() -> tuple[Callable[[], object], str]:
    """One forecast of 1,000 recipes of a model on two tasks, and what it is."""
    spec = find_model(MODEL)
    candidates = generate_candidates(spec).candidates
    places = recipe_table(candidates).spread
    table = recipe_table(tuple(c for c, place in zip(candidates, places, strict=True) if place < RECIPES))
    tasks = [task_columns(name) for name in TASKS]
    constants = {
        "model": spec.name,
        "family": spec.family,
        "params_b": 7.24,
        "moe": False,
        "tuned": spec.tuned,
        "context": 16_000,
    }
    what = f"{len(table.recipes)} recipes x {len(tasks)} tasks = {len(table.recipes) * len(tasks):,} candidates"
    return lambda: forecast_tasks(load_predictor(), table, constants, tasks), what


def configurations() -> list[dict[str, object]]:
    """10,000 configurations, all different: every model of the catalogue in turn, formats and tasks of all kinds."""
    models = model_names()
    tasks = list(all_tasks())
    formats = product((2, 3, 4, 5, 6, 8), (32, 64, 128, -1), (8, 16), (2, 4, 8, 16), ("rtn", "gptq", "awq"))
    rows = zip(range(ROWS), cycle(models), cycle(tasks), cycle(formats), strict=False)
    return [
        {
            "model": model, "method": method, "w_bits": w, "w_dtype": "int", "w_group": group, "a_bits": a, "kv_bits": kv,
            "task": task, "context": 2_048 + number,
        }
        for number, model, task, (w, group, a, kv, method) in rows
    ]  # fmt: skip


def main() -> None:
    """Time all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = range(max(1, parser.parse_args().runs))
    loads = [seconds(lambda: from_bytes(PACKAGED.read_bytes(), PACKAGED.name)) * 1e3 for _ in runs]
    size = PACKAGED.stat().st_size / 1e3
    print(f"load {PACKAGED.name} ({size:.0f} kB): {statistics.median(loads):.1f} ms (goal {GOAL_LOAD_MS:g} ms)")
    forecast, what = request()
    forecast()
    times = [seconds(forecast) * 1e3 for _ in runs]
    print(f"{what}: best {min(times):.1f} ms, median {statistics.median(times):.1f} ms (goal {GOAL_REQUEST_MS:g} ms)")
    rows = configurations()
    predict_rows(rows[:10])
    print(f"{len(rows):,} rows of a table: {seconds(lambda: predict_rows(rows)):.2f} s (goal {GOAL_TABLE_S:g} s)")


if __name__ == "__main__":
    main()
