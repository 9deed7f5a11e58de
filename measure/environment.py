"""On what a run is made: device, driver, library versions, commit."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from knowledge.measurements import Environment

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "llmcompressor",
    "compressed-tensors",
    "bitsandbytes",
    "hqq",
    "optimum-quanto",
    "torchao",
    "lm_eval",
    "datasets",
    "numpy",
)
"""Packages whose version can change a result."""


def package_version(name: str) -> str | None:
    """Installed version of a package, None where it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def capture_environment(device: str = "cpu") -> Environment:
    """The environment of this process, for records made on `device` (`cpu`, `cuda`, `cuda:1`, `mps`)."""
    kind = device.partition(":")[0]
    commit, dirty = _revision(Path(__file__).resolve().parent.parent)
    facts = _cuda_facts(int(device.partition(":")[2] or 0)) if kind == "cuda" else {}
    return Environment(
        tool_version=package_version("qadvisor") or "unknown",
        python=platform.python_version(),
        platform=f"{platform.system()}-{platform.machine()}",
        device=kind,
        cpu_threads=_threads(),
        libraries={name: found for name in PACKAGES if (found := package_version(name))},
        commit=commit,
        dirty=dirty,
        **facts,  # type: ignore[arg-type]
    )


def _threads() -> int | None:
    torch = sys.modules.get("torch")  # threads of the library that computes; not worth importing it for
    return int(torch.get_num_threads()) if torch else os.cpu_count()


def _cuda_facts(index: int) -> dict[str, object]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "device_name": properties.name,
        "device_memory_bytes": int(properties.total_memory),
        "device_count": torch.cuda.device_count(),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "driver": _driver(),
    }


def _driver() -> str | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None


def _revision(folder: Path) -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout that `folder` is the root of; None for an installed package."""
    if not (folder / ".git").exists():
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain") if commit else None
    return commit, None if status is None else bool(status)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
