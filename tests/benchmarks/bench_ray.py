"""What scheduling a sweep on a Ray cluster costs a cell: 1,000 cells whose measuring takes no time, on a cluster started here.

    python tests/benchmarks/bench_ray.py [--workers 2]

Prints the time a cell takes, once with a job for each cell (the worst case: every recipe has one task) and once with ten
tasks a recipe, beside the same cells run in this process. Loading and the start of cluster and workers are counted apart.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
BACKEND = "fake_sweep:ClusterBackend"
KV = ("", "-kv8", "-kv6", "-kv5", "-kv4", "-kv3", "-kv2", "-kvfp8", "-kv4g64", "-kv2g64", "-kv8g64", "-kv3g64")


def recipes(count: int) -> list[str]:
    """That many different recipes."""
    names = [
        f"w{bits}a16-g{group}-{symmetry}{kv}"
        for kv in KV
        for symmetry in ("asym", "sym")
        for group in (16, 32, 64, 96, 128, 256)
        for bits in range(2, 9)
    ]
    return names[:count]


def sweep_times(folder: Path, *, recipe_count: int, tasks: list[str], workers: int) -> dict[str, float]:
    """Seconds here and on Ray of the same cells."""
    from fake_sweep import ClusterBackend, write_model

    from measure.cluster import ClusterOptions, run_on_ray
    from measure.runner import run_plan
    from measure.sweep import RunOptions, SweepRequest, state_recipes

    model = write_model(folder / "model")
    request = SweepRequest(models=(str(model),), recipes=state_recipes(recipes(recipe_count - 1)), tasks=tuple(tasks))
    start = time.perf_counter()
    [plan] = request.plans(folder / "here")
    planned = time.perf_counter()
    summary = run_plan(plan, ClusterBackend(plan.source, plan.settings))
    here = time.perf_counter()
    plans = request.plans(folder / "ray")
    first: list[float] = []

    def watch(event: object) -> None:
        if getattr(event, "record", None) is not None and not first:
            first.append(time.perf_counter())

    begin = time.perf_counter()
    cluster = ClusterOptions(workers=workers, cpus=0.5)
    again = run_on_ray(request, plans, cluster=cluster, run=RunOptions(), on_event=watch, backend=BACKEND)
    end = time.perf_counter()
    assert summary.ok == again.ok == recipe_count * len(tasks), (summary, again)
    return {
        "cells": again.ok,
        "plan": planned - start,
        "here": here - planned,
        "start": first[0] - begin,
        "ray": end - first[0],
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    workers = parser.parse_args().workers
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"QADVISOR_FAKE_SWEEP": name, "PYTHONPATH": str(ROOT / "tests")}
        compare(Path(name), workers)


def compare(folder: Path, workers: int) -> None:
    """Run both shapes of sweep on one cluster."""
    from measure.cluster import connected

    start = time.perf_counter()
    with connected(None):
        print(f"cluster started in {time.perf_counter() - start:.1f} s; {workers} workers", flush=True)
        shapes = ((1000, ["retrieval"]), (100, [f"task-{number}" for number in range(10)]))
        for recipe_count, tasks in shapes:
            found = sweep_times(folder / str(recipe_count), recipe_count=recipe_count, tasks=tasks, workers=workers)
            cells = found["cells"]
            here, there = found["here"] / cells * 1e3, found["ray"] / cells * 1e3
            print(f"{cells} cells, {len(tasks)} a recipe, planned in {found['plan']:.1f} s:")
            print(f"  here {here:.1f} ms a cell; on Ray {there:.1f} ms a cell, first record after {found['start']:.1f} s")


if __name__ == "__main__":
    main()
