"""How long a cold `qadvisor recommend … --json` takes, from process start to exit, side by side with `llmfit recommend --json`.

    python tests/benchmarks/bench_start.py [--runs 20]

The programs are run in turn, so that both see the same machine. The first use ever (an empty home folder) is timed apart.
`llmfit` is left out where no such program is on the path. Figures are wall-clock seconds.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

RECOMMEND = ("recommend", "--model", "mistral-7b", "--task", "long-context", "--mem", "16GB", "--json")


def seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    """Wall-clock time of one run of `command`."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def program(name: str) -> str | None:
    """The executable `name` beside this Python, or on the path."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def line(name: str, times: Sequence[float]) -> str:
    """Median, quartiles and range of some runs."""
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{name:<34} {middle:6.3f} s   ({low:.3f} to {high:.3f}; least {min(times):.3f}, n {len(times)})"


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="runs of each program")
    runs = parser.parse_args().runs
    advisor, other = program("qadvisor"), program("llmfit")
    if advisor is None:
        sys.exit("qadvisor is not installed beside this Python: pip install .")
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"QADVISOR_HOME": home}
        print(f"{'first use ever (builds the store)':<34} {seconds([advisor, *RECOMMEND], environment):6.3f} s")
        times: dict[str, list[float]] = {"python -c pass": [], "qadvisor --version": [], "qadvisor recommend --json": []}
        if other:
            times["llmfit recommend --json"] = []
        for _ in range(runs):
            times["python -c pass"].append(seconds([sys.executable, "-c", "pass"], environment))
            times["qadvisor --version"].append(seconds([advisor, "--version"], environment))
            times["qadvisor recommend --json"].append(seconds([advisor, *RECOMMEND], environment))
            if other:
                times["llmfit recommend --json"].append(seconds([other, "recommend", "--json"], environment))
    for name, values in times.items():
        print(line(name, values))
    if other:
        ratio = statistics.median(times["qadvisor recommend --json"]) / statistics.median(times["llmfit recommend --json"])
        print(f"qadvisor / llmfit, medians: {ratio:.2f}")
    else:
        print("llmfit is not on the path: no comparison")


if __name__ == "__main__":
    main()
