"""How long `advisor.recommend(...)` takes in a process that has answered before.

    python tests/benchmarks/bench_warm.py [--runs 25]

One untimed call, then `--runs` timed ones of the same request, which find nothing of the last answer but the open knowledge
base and the tables that requests about like models share. The last line asks about another model each time. Figures are
milliseconds of wall clock, and of the processor (all threads), which other programs on the machine disturb less.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from advisor import recommend

TASKS = ("long-context", "mmlu", "gsm8k:2,mmlu:1")
MODELS = ("mistral-7b", "llama-3.1-8b", "qwen2.5-14b", "gemma-2-9b", "mixtral-8x7b", "falcon-7b", "opt-6.7b", "phi-4")


def line(task: str, models: Iterable[str]) -> str:
    """Median and range over requests about `models`, one after the other."""
    times, processor, candidates = [], [], 0
    for model in models:
        start, start_cpu = time.perf_counter(), time.process_time()
        candidates = recommend(model=model, task=task, memory="40GB").n_candidates
        times.append((time.perf_counter() - start) * 1e3)
        processor.append((time.process_time() - start_cpu) * 1e3)
    return (
        f"{statistics.median(times):6.1f} ms ({min(times):.1f} to {max(times):.1f}), processor "
        f"{statistics.median(processor):.1f} ms ({min(processor):.1f} to {max(processor):.1f}), {candidates:,} candidates"
    )


def main() -> None:
    """Print a line a task, and one over several models."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=25, help="timed calls of each request")
    runs = max(2, parser.parse_args().runs)
    for task in TASKS:
        recommend(model=MODELS[0], task=task, memory="40GB")
        print(f"{MODELS[0]}, {task:<16} {line(task, [MODELS[0]] * runs)}")
    for model in MODELS:
        recommend(model=model, task="mmlu", memory="40GB")
    print(f"{len(MODELS)} models in turn, mmlu  {line('mmlu', islice(cycle(MODELS), runs))}")


if __name__ == "__main__":
    main()
