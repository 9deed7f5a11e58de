"""`docs/how-to/refresh.md` is a script: its shell blocks run one after the other, as a reader would run them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

pytestmark = [pytest.mark.measure, pytest.mark.slow]  # some 80 s of processor, most of it two starts of the harness
PAGE = ROOT / "docs" / "how-to" / "refresh.md"


def script() -> str:
    return "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


def test_the_page_is_a_script_that_works(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "data" / "pocket" / "pocket-s", tmp_path / "pocket")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, module in (("qadvisor", "advisor.cli.main"), ("python", None)):
        call = f'-c "from {module} import run; run()" "$@"' if module else '"$@"'
        (tools / name).write_text(f"#!/bin/sh\nexec '{sys.executable}' {call}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "QADVISOR_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1",
    }  # fmt: skip
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("needs bash; this system has none")
    done = subprocess.run(
        [shell, "-euo", "pipefail", "-c", script()], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    basis = {name: (tmp_path / f"{name}.txt").read_text(encoding="utf-8").strip() for name in ("before", "after", "back")}
    assert basis == {"before": '"basis": "predicted",', "after": '"basis": "direct",', "back": '"basis": "predicted",'}
    summary = done.stdout
    assert "read           4 run record, 2 harness output" in summary
    assert re.search(r"refused +0\n", summary)
    assert "known already  6" in summary
