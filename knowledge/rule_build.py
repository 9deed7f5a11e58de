"""Compile the rulebook: `python -m knowledge.rule_build [--docs FILE]`.

Reads and checks every YAML file of a rulebook folder, recomputes each claim on the published evidence, and writes the
result as one JSON file that loads in a millisecond (`knowledge.rules.load_rules`). With `--docs` the reference page is
written too. The result depends on the rule files and the packaged evidence only.
"""

import argparse
import json
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from knowledge.errors import RuleError
from knowledge.rules import COMPILED, RULEBOOK, ClaimResult, Rule, RuleCheck, natural_order

NOT_RULES = "not_rules.toml"
"""Name of the list of findings that are no rules, in the rulebook folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingWithoutRule:
    """A finding of a paper that is no rule."""

    id: str
    statement: str
    reason: str


def read_checked(folder: Path = RULEBOOK) -> tuple[Rule, ...]:
    """The rules of `folder` from their YAML files, by id, each with its claim recomputed on the published evidence.

    Raises:
        RuleError: a file is refused, or its query fails.
        StoreError: the packaged evidence cannot be read.
    """
    from knowledge.rule_check import check_rules
    from knowledge.rule_files import read_rule_files
    from knowledge.store import open_store

    rules = read_rule_files(sorted(folder.glob("*.yaml")), packaged=True)
    with tempfile.TemporaryDirectory() as home, open_store(Path(home)) as store:  # published rows only, none of the user's
        checks = check_rules(store.connection, rules)
    checked = [replace(rule, check=_rounded(check)) for rule, check in zip(rules, checks, strict=True)]
    return tuple(sorted(checked, key=lambda rule: natural_order(rule.id)))


def compiled_text(rules: Sequence[Rule], folder: Path = RULEBOOK) -> str:
    """The compiled form of `rules`: one JSON entry a rule, with the size of its file as the sign that it is unchanged."""
    entries = [asdict(rule) | {"bytes": (folder / rule.file).stat().st_size} for rule in rules]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False, sort_keys=True) for entry in entries)
    return f"[\n{lines}\n]\n"


def read_findings_without_rule(folder: Path = RULEBOOK) -> tuple[FindingWithoutRule, ...]:
    """The findings of papers that are no rules, with the reasons, in the order of the file.

    Raises:
        RuleError: the file cannot be read or an entry lacks a part.
    """
    path = folder / NOT_RULES
    try:
        with path.open("rb") as file:
            return tuple(FindingWithoutRule(**entry) for entry in tomllib.load(file).get("finding", ()))
    except (OSError, ValueError, TypeError) as error:
        raise RuleError(f"{path}: {error}", given=str(path), allowed="[[finding]] with id, statement and reason") from error


def build(folder: Path = RULEBOOK, page: Path | None = None) -> tuple[Rule, ...]:
    """Write the compiled form of `folder`, and the reference page where `page` is given; returns the rules.

    Raises:
        RuleError: a file is refused; nothing is written then.
    """
    from knowledge.rule_page import rules_page

    rules = read_checked(folder)
    text = rules_page(rules, read_findings_without_rule(folder))
    (folder / COMPILED).write_text(compiled_text(rules, folder), encoding="utf-8", newline="\n")
    if page is not None:
        page.write_text(text, encoding="utf-8", newline="\n")
    return rules


def _rounded(check: RuleCheck) -> RuleCheck:
    """`check` with values of six significant digits, so that a build gives the same bytes on every machine."""
    return replace(check, own=_rounded_result(check.own), others=_rounded_result(check.others))


def _rounded_result(result: ClaimResult) -> ClaimResult:
    return result if result.value is None else replace(result, value=float(f"{result.value:.6g}"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m knowledge.rule_build", description="Compile the rulebook.")
    parser.add_argument("--folder", type=Path, default=RULEBOOK, help="rulebook folder (default: the packaged one)")
    parser.add_argument("--docs", type=Path, help="reference page to write, docs/reference/rules.md in a checkout")
    options = parser.parse_args(arguments)
    build(options.folder, options.docs)


if __name__ == "__main__":
    main()
