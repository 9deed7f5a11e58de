"""The knowledge base with ten million measured rows: how long questions and refreshes take, and what they need.

    python tests/benchmarks/bench_scale.py [--rows 10000000] [--new 100000] [--folder DIR]

The rows are drawn from the packaged evidence, so that models, tasks, schemes and sources keep their skew, with noise of the
size of each row's standard error. They come in as batches of 500,000, in one publish. Then are timed, each in a process of
its own whose wall time, processor time and peak memory are printed: a cold `recommend` for a usual model and for the model
with the most rows, a refresh that takes a table of new rows in without a fit, and one that fits. DIR needs 10 GB; what was
made is removed unless DIR is given.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
BATCH_ROWS = 500_000
MOST_ROWS = "llama-3.1-8b-instruct"
"""The model with the most packaged rows."""
CLI = "from advisor.cli.main import run; run()"
ADOPT = """
import sys
from pathlib import Path
from knowledge.refresh import adopt, publish
home, *files = map(Path, sys.argv[1:])
with adopt(files, home=home) as staged:
    publish(staged)
"""
TABLE = (
    "ref", "model", "family", "params_b", "tuned", "method", "scheme", "task", "task_type", "ability", "shots", "context",
    "metric", "higher_is_better", "score", "baseline", "baseline_dtype",
)  # fmt: skip
"""Columns of a table as a user brings it."""


def drawn(first: int, last: int) -> str:
    """SQL for the rows with these numbers: a packaged row each, its loss moved by at most one standard error."""
    return f"""
        SELECT b.* EXCLUDE (score, loss, source), r.i, 'own:' || b.source AS source, moved AS loss,
            CASE b.loss_kind WHEN 'relative' THEN least(greatest(b.baseline - moved * (b.baseline - b.chance), 0), 100)
                ELSE b.baseline * exp(moved) END AS score
        FROM (SELECT i, hash(i) % (SELECT count(*) FROM base) AS n, (hash(i + 7) % 2000001) / 1e6 - 1 AS u
              FROM range({first}, {last}) t(i)) r
        JOIN base b USING (n), LATERAL (SELECT b.loss + r.u * coalesce(b.loss_se, 0.02) AS moved) l"""


def connection() -> duckdb.DuckDBPyConnection:
    """DuckDB with the packaged rows that have a loss, numbered."""
    from knowledge.evidence import evidence_path

    made = duckdb.connect(config={"memory_limit": "2GB"})
    made.execute("SET enable_progress_bar = false")
    made.execute(
        "CREATE TABLE base AS SELECT row_number() OVER (ORDER BY evidence_id) - 1 AS n, * FROM read_parquet($file)"
        " WHERE loss IS NOT NULL AND metric != 'nll'",
        {"file": str(evidence_path())},
    )
    return made


def write_batches(folder: Path, rows: int) -> None:
    """Batches with `rows` rows."""
    from knowledge.evidence import BATCH_COLUMNS

    own = {
        "licence": "'none stated'", "own": "true", "row_hash": "md5(i::VARCHAR)[:16]", "file": "'generated'",
        "checkpoint": "md5(model || scheme || method || i % 3)[:16]", "key": "NULL::VARCHAR",
    }  # fmt: skip
    columns = ", ".join(f"({own.get(name, name)})::{kind} AS {name}" for name, kind in BATCH_COLUMNS.items())
    with connection() as made:
        for first in range(0, rows, BATCH_ROWS):
            file = folder / f"batch-{first:09}.parquet"
            last = min(first + BATCH_ROWS, rows)
            query = f"SELECT {columns} FROM ({drawn(first, last)}) ORDER BY model, row_hash"
            made.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")


def write_table(file: Path, first: int, rows: int) -> None:
    """A CSV table of `rows` new rows, as `qadvisor refresh` takes it."""
    columns = ", ".join(name if name not in ("tuned", "higher_is_better") else f"{name}::INTEGER AS {name}" for name in TABLE)
    with connection() as made:
        query = f"SELECT 'bench' AS source, {columns} FROM ({drawn(first, first + rows)}) ORDER BY i"
        made.execute(f"COPY ({query}) TO '{file}' (HEADER)")


@dataclass(frozen=True)
class Run:
    """A finished process."""

    seconds: float
    cpu_seconds: float
    memory_gb: float
    """Largest resident memory."""
    text: str

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.cpu_seconds:.2f} s of processor), {self.memory_gb:.2f} GB"


def run(home: Path, program: str, *arguments: object) -> Run:
    """Run a Python program with this home folder."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"QADVISOR_HOME": str(home)},
    )  # fmt: skip
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, text
    return Run(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6, text)


def recommend(home: Path, model: str, runs: int) -> Run:
    """The cold `recommend` of median wall time."""
    arguments = ("recommend", "--model", model, "--task", "long-context", "--mem", "16GB", "--json")
    return sorted((run(home, CLI, *arguments) for _ in range(runs)), key=lambda found: found.seconds)[runs // 2]


def size_gb(folder: Path, pattern: str) -> float:
    """Size of files."""
    return sum(file.stat().st_size for file in folder.glob(pattern)) / 1e9


def draw(folder: Path, rows: int, new: int) -> None:
    """Write the batches and two tables of new rows; in a process of its own, so that its memory is not counted elsewhere."""
    write_batches(folder, rows)
    for number in range(2):
        write_table(folder / f"new-{number}.csv", rows + number * new, new)


def measure(folder: Path, rows: int, new: int, runs: int) -> None:
    """Make the rows, then time everything."""
    empty, home = folder / "empty", folder / "home"
    for place in (empty, home):
        run(place, CLI, "doctor")
    print(f"cold recommend, packaged rows alone: {recommend(empty, 'mistral-7b', runs)}", flush=True)
    child = multiprocessing.get_context("spawn").Process(target=draw, args=(folder, rows, new))
    child.start()
    child.join()
    files = sorted(folder.glob("batch-*.parquet"))
    print(f"{rows:,} rows published: {run(home, ADOPT, home, *files)}", flush=True)
    for file in files:
        file.unlink()
    batches, snapshot = size_gb(home, "runs/batches/*.parquet"), size_gb(home, "snapshots/*.duckdb")
    print(f"on disk: {batches:.2f} GB in batches, {snapshot:.2f} GB in snapshots", flush=True)
    for model in ("mistral-7b", MOST_ROWS):
        print(f"cold recommend, {model}: {recommend(home, model, runs)}", flush=True)
    for number, (step, options) in enumerate((("without a fit", ["--no-fit"]), ("with refit and backtest", []))):
        found = run(home, CLI, "refresh", folder / f"new-{number}.csv", *options)
        print(f"refresh with {new:,} new rows {step}: {found}\n{found.text}", flush=True)
    print(f"cold recommend, mistral-7b: {recommend(home, 'mistral-7b', runs)}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--new", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="qadvisor-scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        measure(folder, asked.rows, asked.new, asked.runs)
    finally:
        if asked.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
