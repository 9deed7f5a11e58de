"""A refresh in a process of its own, which can be killed: at some time, or at its n-th call of the operating system.

`python refresh_process.py STEP ARGUMENTS…` runs `qadvisor ARGUMENTS` and writes `ready` before it begins; it kills itself
before its STEP-th call (counted from 1; 0 for never) and writes how many calls there were at the end.
"""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CALLS = ("fsync", "replace", "open", "unlink", "rename")


def start(home: Path, *arguments: object, step: int = 0, largest_file: int | None = None) -> subprocess.Popen[str]:
    """Start `qadvisor ARGUMENTS` on a home folder; returns when it is about to begin.

    With `largest_file` no file can grow beyond so many bytes, as on a disk that is full.
    """
    process = subprocess.Popen(
        [sys.executable, __file__, str(step), *map(str, arguments)],
        env=os.environ | {"QADVISOR_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=None if largest_file is None else partial(_limit, largest_file),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _limit(largest_file: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for its end: exit code (minus the signal that killed it), output, errors."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    """Kill it so many seconds from now, wherever it is then."""
    time.sleep(seconds)
    process.kill()
    process.communicate()


def _main() -> None:
    from advisor.cli.main import main

    step, calls = int(sys.argv[1]), [0]

    def counted(original):
        def call(*args, **values):
            calls[0] += 1
            if calls[0] == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **values)

        return call

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    code = main(sys.argv[2:])
    sys.stdout.write(f"calls {calls[0]}\n")
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    _main()
