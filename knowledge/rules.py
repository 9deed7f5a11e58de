"""The rulebook: findings of papers as data, loaded fast; `knowledge.rule_evaluation` says where they hold.

A rule is one YAML file (`knowledge/rulebook/<id>.yaml`, form in `knowledge.rule_files`). Its `when` is a SQL predicate over
the relation `candidate` (`knowledge.rule_columns`). What the effects mean to a ranking:

- `refuse`: rejected, unless direct evidence for this very model, scheme and task contradicts it (then shown as overruled);
- `avoid`, strong: behind every candidate that is not so avoided; `require`: candidates in scope that fail `must` count so;
- `avoid` medium or weak, and `prefer`: decide between candidates whose losses are within the noise;
- `caution`: text only. Rules of kind `model-choice` (another model would do better) and `task-trust` (the score says less
  than it seems) are cautions.

A rule whose claim other sources contradict acts as a caution (`Rule.acting`). The compiled form beside the YAML files is a
cache of them: a file that is gone takes its rule with it, a changed one is read again.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from knowledge.errors import RuleError
from knowledge.home import home as home_folder
from knowledge.rule_conditions import Condition
from knowledge.values import value

Kind = Literal["candidate", "model-choice", "task-trust"]
Effect = Literal["refuse", "avoid", "prefer", "require", "caution"]
Strength = Literal["strong", "medium", "weak"]
Status = Literal["supported", "contradicted", "no data"]

RULEBOOK = Path(__file__).parent / "rulebook"
"""Folder of the packaged rules."""

USER_FOLDER = "rules"
"""Folder of the user's own rules in the home folder: `load_rules(extra=home_folder() / USER_FOLDER)`."""

COMPILED = "compiled.json"
"""Name of the compiled form in a rulebook folder; `python -m knowledge.rule_build` writes it."""


@value
class Citation:
    """Where a rule comes from."""

    paper: str
    where: str
    """Section, table or column of the paper, or of its released figures."""
    number: str
    """The figure itself, as a person would quote it."""
    url: str


@value
class Claim:
    """What a rule claims in numbers, and the query that recomputes it from the evidence.

    The query returns one row, `value` and `n` (how many cells or pairs it rests on). The claim holds where `value` is at
    least `at_least`, or at most `at_most`; below `min_n` nothing is said.
    """

    text: str
    sources: tuple[str, ...]
    """Evidence sources that the rule itself rests on; recomputed apart from all others."""
    query: str
    unit: str
    min_n: int
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> str:
        """The threshold in words: `>= 0.3`."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


@value
class ClaimResult:
    """A claim recomputed on one part of the evidence; `value` is None where nothing was found."""

    value: float | None
    n: int
    status: Status


@value
class RuleCheck:
    """A rule's claim recomputed: on its own sources, and on all others."""

    rule_id: str
    own: ClaimResult
    others: ClaimResult

    @property
    def deciding(self) -> ClaimResult:
        """The result that counts: other sources outrank the rule's own."""
        return self.own if self.others.status == "no data" else self.others

    @property
    def status(self) -> Status:
        """What the evidence says of the claim."""
        return self.deciding.status


@value
class Rule:
    """One finding of a paper as a rule over candidates."""

    id: str
    title: str
    kind: Kind
    when: str
    effect: Effect
    strength: Strength
    why: str
    citations: tuple[Citation, ...]
    findings: tuple[str, ...] = ()
    """Findings of papers that the rule states, by the ids of `docs/concepts/rules.md`."""
    must: str | None = None
    exceptions: tuple[str, ...] = ()
    condition: Condition | None = None
    """`when` without `must`, in parts, as made when the file was read; None for a rule made by hand."""
    claim: Claim | None = None
    no_claim: str | None = None
    """Why nothing in the evidence can re-check the rule, where that is so."""
    check: RuleCheck | None = None
    """The claim recomputed on the published evidence; None for a rule that was not compiled."""
    file: str = ""
    packaged: bool = True

    @property
    def contradicted(self) -> bool:
        """Whether the published evidence contradicts the claim."""
        return self.check is not None and self.check.status == "contradicted"

    @property
    def acting(self) -> Effect:
        """The effect as it acts: a contradicted rule is a caution."""
        return "caution" if self.contradicted else self.effect


def load_rules(folder: Path = RULEBOOK, *, extra: Path | None = None) -> tuple[Rule, ...]:
    """All rules of `folder`, then those of `extra` (the user's own), by id; a rule of `extra` replaces one of the same id.

    Compiled rules are trusted like code; any YAML file that is not as compiled is read and checked.

    Raises:
        RuleError: a file is refused; the message names it and the reason.
    """
    rules = {rule.id: rule for rule in _load_folder(folder, packaged=True)}
    if extra is not None and extra.is_dir():
        rules |= {rule.id: rule for rule in _load_folder(extra, packaged=False)}
    return tuple(sorted(rules.values(), key=lambda rule: natural_order(rule.id)))


def load_rulebook(home: Path | None = None) -> tuple[Rule, ...]:
    """The packaged rules with those of the user's own folder `rules` over them.

    Raises:
        RuleError: a rule file is refused.
    """
    return load_rules(extra=(home or home_folder()) / USER_FOLDER)


def natural_order(text: str) -> tuple[tuple[int, str], ...]:
    """A sort key under which `li2024-9` comes before `li2024-10`."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text))


def _load_folder(folder: Path, *, packaged: bool) -> list[Rule]:
    try:
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder) if entry.name.endswith((".yaml", ".yml"))}
        compiled = json.loads((folder / COMPILED).read_bytes()) if packaged and (folder / COMPILED).exists() else []
    except (OSError, ValueError) as error:
        raise RuleError(f"cannot read the rules of {folder}: {error}", given=str(folder)) from error
    rules = [rule_from_json(entry) for entry in compiled if sizes.get(entry["file"]) == entry["bytes"]]
    changed = sorted(sizes.keys() - {rule.file for rule in rules})
    if changed:
        from knowledge.rule_files import read_rule_files

        rules += read_rule_files([folder / name for name in changed], packaged=packaged)
    return rules


def rule_from_json(entry: dict[str, Any]) -> Rule:
    """One rule of the compiled form, which `knowledge.rule_build` wrote from the same dataclass."""
    fields = {name: value for name, value in entry.items() if name != "bytes"}
    claim, check = fields.get("claim"), fields.get("check")
    fields["condition"] = Condition(**fields["condition"])
    if claim:
        fields["claim"] = Claim(**(claim | {"sources": tuple(claim["sources"])}))
    if check:
        own, others = (ClaimResult(**check[part]) for part in ("own", "others"))
        fields["check"] = RuleCheck(rule_id=check["rule_id"], own=own, others=others)
    fields["citations"] = tuple(Citation(**citation) for citation in fields["citations"])
    for name in ("findings", "exceptions"):
        fields[name] = tuple(fields.get(name, ()))
    return Rule(**fields)
