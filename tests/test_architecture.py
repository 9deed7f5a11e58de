"""The promises about structure: what advice loads, what is public, which layer may know which."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT

from advisor.version import TOOL_VERSION

HEAVY = ("torch", "transformers", "optimum", "datasets", "accelerate", "sklearn", "scipy", "pandas", "pyarrow")
"""What answering must never load: seconds of start-up, gigabytes of installation."""

PROGRAM = """
import sys
from advisor.cli.main import main
code = main({arguments!r})
sys.stdout.flush()
loaded = sorted({{name.split(".")[0] for name in sys.modules}} & set({watched!r}))
print("LOADED", *loaded, file=sys.stderr)
sys.exit(code)
"""
RECOMMEND = ["recommend", "--model", "mistral-7b", "--task", "long-context", "--mem", "16GB"]


def loaded_by(arguments: list[str], watched: tuple[str, ...]) -> set[str]:
    """Which of the `watched` modules a cold `qadvisor ARGUMENTS` loads."""
    program = PROGRAM.format(arguments=arguments, watched=watched)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "arguments", [[*RECOMMEND, "--json"], RECOMMEND, ["models"], ["--help"]], ids=["json", "text", "models", "help"]
)
def test_answers_load_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(arguments, HEAVY) == set()


COLD = """
import sys
before = set(sys.modules)
from advisor.cli.main import main
code = main({arguments!r})
loaded = set(sys.modules) - before
print("LOADED", *sorted({{name.split(".")[0] for name in loaded}} - set(sys.stdlib_module_names)), file=sys.stderr)
print("SLOW", *sorted(loaded & set({slow!r})), file=sys.stderr)
sys.exit(code)
"""

SLOW = (
    "argparse", "asyncio", "concurrent", "email", "gettext", "html", "http", "importlib.metadata", "importlib.resources",
    "multiprocessing", "numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random", "optparse", "random", "secrets", "socket",
    "sqlite3", "ssl", "subprocess", "tempfile", "unittest", "urllib.request", "xml", "zipfile",
    "advisor.cli.app", "advisor.fit", "advisor.report", "knowledge.hub", "knowledge.model_config", "knowledge.restore",
    "knowledge.rule_files", "knowledge.rule_sql", "knowledge.snapshot", "knowledge.versions",
)  # fmt: skip
"""Parts of the standard library, of NumPy and of this program that start slowly and that an answer has no use for."""


def test_a_cold_answer_as_json_loads_this_and_no_more(tmp_path: Path) -> None:
    program = COLD.format(arguments=[*RECOMMEND, "--json"], slow=SLOW)
    environment = os.environ | {"QADVISOR_HOME": str(tmp_path)}
    for _ in ("builds the knowledge base", "opens it"):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True, env=environment
        )
    *_, loaded, slow = done.stderr.splitlines()
    assert loaded.split()[1:] == ["_duckdb", "advisor", "knowledge", "numpy"]
    assert slow.split()[1:] == []


def test_importing_the_public_interface_is_cheap() -> None:
    program = f"import sys, advisor, knowledge, measure; print(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("layer", ["advisor", "knowledge", "measure"])
def test_public_names_are_sorted_and_there(layer: str) -> None:
    module = importlib.import_module(layer)
    names = list(module.__all__)
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("layer", ["advisor", "knowledge", "measure"])
def test_layers_carry_their_types(layer: str) -> None:
    assert (ROOT / layer / "py.typed").is_file()


def test_one_version() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert declared == TOOL_VERSION
    assert f"## [{TOOL_VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_test_folder_hides_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_import_contracts_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("needs import-linter, which the dev extra brings")
    done = subprocess.run([program, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
