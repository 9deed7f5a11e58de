"""The README cannot go stale: its answer is the program's, its commands are the ones the checks run.

`python tests/test_readme.py` writes the answer anew.
"""

import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ANSWER = re.compile(r"<!-- answer: qadvisor (?P<command>.+?) -->\n```text\n(?P<text>.*?)```\n<!-- /answer -->", re.DOTALL)


def printed(command: str) -> str:
    """What `qadvisor COMMAND` prints into a pipe."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from helpers import run_cli

    result = run_cli(*shlex.split(command))
    assert result.code == 0, result.err
    return result.out


def test_the_answer_shown_is_the_answer_given() -> None:
    found = ANSWER.search(README.read_text(encoding="utf-8"))
    assert found, "README.md has no marked answer"
    assert found["text"] == printed(found["command"]), "python tests/test_readme.py writes it anew"


def test_the_first_block_holds_the_two_commands() -> None:
    block = re.search(r"^```sh\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block
    first, second = block[1].splitlines()
    assert first == "pip install . && qadvisor recommend --model mistral-7b --task long-context --mem 16GB"
    assert second == 'pip install ".[dev]" && python -m pytest'


def test_the_checks_run_the_readme_rather_than_a_copy() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_command 1" in script
    assert "readme_command 2" in script
    assert "--task long-context" not in script


@pytest.mark.parametrize(
    "snippet", re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
)
def test_python_examples_run(snippet: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(snippet, "README.md", "exec"), {})  # the README's own code
    assert capsys.readouterr().out


def refresh() -> None:
    """Write the marked answer of README.md anew, from a home folder of its own: nobody's runs belong in it."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["QADVISOR_HOME"] = home
        text = README.read_text(encoding="utf-8")
        fresh = ANSWER.sub(
            lambda found: found[0].replace(f"```text\n{found['text']}```", f"```text\n{printed(found['command'])}```"), text
        )
    README.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    refresh()
