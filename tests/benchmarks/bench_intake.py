"""How long a table of scores takes from file to rows of evidence: `python tests/benchmarks/bench_intake.py [--rows N]`.

Every model of the catalogue x ten schemes x five tasks, again and again with other scores, as a CSV file of a user would be.
"""

import argparse
import csv
import itertools
import random
import resource
import tempfile
import time
from pathlib import Path

from knowledge.catalogue import model_names
from knowledge.intake import take_in

SCHEMES = (
    "w4a16-g128", "w3a16-g128", "w8a16-g128", "gguf:q4_k_m", "nf4", "fp8", "w4a16-g64-asym", "mxfp4", "w4a16-g128-kv8",
    "w2a16-g64",
)  # fmt: skip
TASKS = ("arc_easy", "hellaswag", "piqa", "mmlu", "gsm8k")
COLUMNS = ("source", "ref", "model", "method", "scheme", "task", "metric", "shots", "score", "baseline", "note")


def write_table(path: Path, rows: int) -> None:
    """A table of `rows` scores."""
    rng = random.Random(0)
    seeds = (itertools.product([seed], model_names(), SCHEMES, TASKS) for seed in itertools.count())
    cells = itertools.chain.from_iterable(seeds)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for seed, model, scheme, task in itertools.islice(cells, rows):
            score = f"{rng.uniform(50, 70):.2f}"
            writer.writerow(["lab", f"seed {seed}", model, "rtn", scheme, task, "acc", 0, score, "70", ""])


def main() -> None:
    """Print rows, time and memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "scores.csv"
        write_table(table, rows)
        wall, processor = time.perf_counter(), time.process_time()
        intake = take_in([table])
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{rows:,} rows: {len(intake.rows):,} taken, {len(intake.quarantined):,} refused, {intake.known:,} twice")
    print(f"{processor:.1f} s of processor, {wall:.1f} s on the clock, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
