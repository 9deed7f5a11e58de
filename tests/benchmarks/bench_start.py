"""How long a cold `qadvisor recommend … --json` takes, from process start to exit, side by side with `llmfit recommend --json`.

    python tests/benchmarks/bench_start.py [--runs 20]

The programs are run in turn, so that all see the same machine; each once before, untimed. The first use ever (an empty home
folder) is timed apart. `floor` is Python loading NumPy and DuckDB's bindings and opening a database in memory: what an answer
cannot do without. `llmfit` is left out where no such program is beside this Python or on the path. Figures are wall-clock
seconds, seconds of CPU (user and system, all threads), and the largest resident memory.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RECOMMEND = ("recommend", "--model", "mistral-7b", "--task", "long-context", "--mem", "16GB", "--json")
FLOOR = "import numpy, _duckdb; _duckdb.connect(config={'threads': '1'}).execute('SELECT 1').fetchall()"


@dataclass
class Times:
    """What the runs of one command took."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    memory_bytes: int = 0

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run `command` once more."""
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        self.wall_s.append(time.perf_counter() - start)
        self.cpu_s.append(used.ru_utime + used.ru_stime)
        self.memory_bytes = max(self.memory_bytes, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed with {process.returncode}")


def program(name: str) -> str | None:
    """The executable `name` beside this Python, or on the path."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def line(name: str, times: Times) -> str:
    """Median and quartiles of the wall-clock times, median CPU time, memory."""
    low, middle, high = statistics.quantiles(times.wall_s, n=4)
    return (
        f"{name:<34} {middle:6.3f} s   ({low:.3f} to {high:.3f}; least {min(times.wall_s):.3f})   "
        f"CPU {statistics.median(times.cpu_s):.3f} s   {times.memory_bytes / 1e6:5.0f} MB"
    )


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="runs of each program")
    runs = max(2, parser.parse_args().runs)
    advisor, other = program("qadvisor"), program("llmfit")
    if advisor is None:
        sys.exit("qadvisor is not installed beside this Python: pip install .")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "floor": [sys.executable, "-c", FLOOR],
        "qadvisor --version": [advisor, "--version"],
        "qadvisor recommend --json": [advisor, *RECOMMEND],
    } | ({"llmfit recommend --json": [other, "recommend", "--json"]} if other else {})
    with tempfile.TemporaryDirectory() as home:
        # Installing compiles the modules; an environment that forbids it would have them compiled at every start.
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["QADVISOR_HOME"] = home
        first = Times()
        first.run(commands["qadvisor recommend --json"], environment)
        print(f"{'first use ever (builds the store)':<34} {first.wall_s[0]:6.3f} s   {first.memory_bytes / 1e6:.0f} MB")
        times = {name: Times() for name in commands}
        for command in commands.values():
            Times().run(command, environment)
        for _ in range(runs):
            for name, command in commands.items():
                times[name].run(command, environment)
    print(f"{runs} runs of each in turn, medians and quartiles:")
    for name, values in times.items():
        print(line(name, values))
    if other:
        ours, theirs = (
            statistics.median(times[name].wall_s) for name in ("qadvisor recommend --json", "llmfit recommend --json")
        )
        print(f"qadvisor / llmfit, medians: {ours / theirs:.2f}")
    else:
        print("llmfit is not there: no comparison (pip install llmfit)")


if __name__ == "__main__":
    main()
