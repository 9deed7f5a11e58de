"""The documentation cannot drift: the command reference is the programs' own help, links resolve, what exists is documented.

`python tests/test_docs.py` writes the command reference anew.
"""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference" / "cli.md"
PAGES = sorted(path for path in (*DOCS.rglob("*.md"), *ROOT.glob("*.md")))
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")


def reference() -> str:
    """The command reference: the help of every command and subcommand."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from helpers import run_cli

    from advisor.cli.groups import COMMANDS

    parts = [
        "# Commands",
        "",
        "Written by `python tests/test_docs.py` from the commands' own help; a test holds it current.",
        "",
    ]
    parts += ["```text", run_cli("--help").out.rstrip(), "```"]
    for name in COMMANDS:
        text = run_cli(name, "--help").out.rstrip()
        parts += ["", f"## qadvisor {name}", "", "```text", text, "```"]
        for sub in re.findall(r"^  (\w+)", text.partition("Commands:\n")[2], re.MULTILINE):
            parts += ["", f"### qadvisor {name} {sub}", "", "```text", run_cli(name, sub, "--help").out.rstrip(), "```"]
    return "\n".join(parts) + "\n"


def test_the_command_reference_is_current() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "python tests/test_docs.py writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for found in LINK.finditer(text):
        target, _, anchor = found["target"].partition("#")
        if re.match(r"https?:|mailto:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page.name} links to {target}#{anchor}, which is not there"


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists() or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += [
            (page.parent / found["target"].partition("#")[0]).resolve() for found in LINK.finditer(page.read_text("utf-8"))
        ]
    assert [str(page.relative_to(DOCS)) for page in sorted(DOCS.rglob("*.md")) if page not in reached] == []


def test_every_rule_is_documented() -> None:
    from knowledge.rules import load_rules

    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert [rule.id for rule in load_rules() if rule.id not in text] == []


def test_every_setting_is_documented() -> None:
    sources = [path for layer in ("advisor", "knowledge", "measure") for path in (ROOT / layer).rglob("*.py")]
    settings = {name for path in sources for name in re.findall(r"\"(QADVISOR_[A-Z_]+)\"", path.read_text(encoding="utf-8"))}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in sorted(settings) if name not in text] == []


def test_no_page_is_empty() -> None:
    assert [str(page.relative_to(ROOT)) for page in PAGES if len(page.read_text(encoding="utf-8")) < 200] == []


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
