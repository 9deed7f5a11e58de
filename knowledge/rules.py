"""The rulebook: findings of papers as data, loaded fast and evaluated by DuckDB over all candidates at once.

A rule is one YAML file (`knowledge/rulebook/<id>.yaml`, form in `knowledge.rule_files`). Its `when` is a SQL predicate over
the relation `candidate` (`CANDIDATE_COLUMNS`). What the effects mean to a ranking:

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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from knowledge.errors import RuleError
from knowledge.home import home as home_folder
from knowledge.rule_columns import CANDIDATE_COLUMNS, CandidateColumn, create_candidate_table
from knowledge.values import value

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = [
    "CANDIDATE_COLUMNS", "RULEBOOK", "USER_FOLDER", "CandidateColumn", "Citation", "Claim", "ClaimResult", "Rule",
    "RuleCheck", "RuleFinding", "RuleFindings", "create_candidate_table", "evaluate", "load_rules",
]  # fmt: skip

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


@value
class RuleFinding:
    """What one rule says of one candidate on one task."""

    rule: Rule
    candidate_id: int
    task: str

    @property
    def why(self) -> str:
        """The rule's reason; for a contradicted rule also what other sources say."""
        rule = self.rule
        if rule.check is None or rule.claim is None or not rule.contradicted:
            return rule.why
        found = rule.check.deciding
        value = "nothing" if found.value is None else f"{found.value:.3g}"
        return (
            f"{rule.why} But the evidence contradicts this ({value} where the rule claims {rule.claim.bound} "
            f"{rule.claim.unit}, n = {found.n}), so it counts as a caution only."
        )

    def as_dict(self) -> dict[str, object]:
        """The entry of the JSON contract; `effect` as it acts, `contradicted` only where it is."""
        rule = self.rule
        cited = [{"paper": c.paper, "where": c.where, "number": c.number, "url": c.url} for c in rule.citations]
        entry: dict[str, object] = {
            "id": rule.id, "effect": rule.acting, "strength": rule.strength, "why": self.why, "citations": cited,
        }  # fmt: skip
        return entry | ({"contradicted": True} if rule.contradicted else {})


@value
class RuleFindings:
    """Which rules hold for which rows of the candidate relation, by column.

    A `require` rule holds for the rows in its scope that fail `must`; an unknown `must` (NULL) is no failure.
    """

    rules: tuple[Rule, ...]
    candidate_id: np.ndarray[Any, np.dtype[np.int64]]
    task: np.ndarray[Any, np.dtype[np.object_]]
    holds: np.ndarray[Any, np.dtype[np.bool_]]
    """One row a row of `candidate`, in its order; one column a rule."""

    def mask(self, effect: Effect, *strengths: Strength) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Rows for which some rule acts with `effect` (and one of `strengths`); `avoid` strong includes failed requirements."""
        wanted = [
            (rule.acting == effect and (not strengths or rule.strength in strengths))
            or (effect == "avoid" and rule.acting == "require" and (not strengths or "strong" in strengths))
            for rule in self.rules
        ]
        rows: np.ndarray[Any, np.dtype[np.bool_]] = np.logical_or.reduce(self.holds[:, wanted], axis=1)
        return rows

    def of(self, candidate_id: int, task: str | None = None) -> tuple[RuleFinding, ...]:
        """Findings of one candidate, on one task or on all, in the order of the rules; each rule and task once."""
        rows = self.candidate_id == candidate_id
        if task is not None:
            rows &= self.task == task
        return tuple(
            RuleFinding(rule=self.rules[column], candidate_id=candidate_id, task=str(self.task[row]))
            for row in np.flatnonzero(rows)
            for column in np.flatnonzero(self.holds[row])
        )


def evaluate(connection: "DuckDBPyConnection", rules: Sequence[Rule]) -> RuleFindings:
    """Evaluate all `rules` over the table `candidate` of `connection` in one query; an unknown predicate does not hold."""
    parts = [f"coalesce({condition(rule)}, false) AS r{number}" for number, rule in enumerate(rules)]
    result = connection.execute(f"SELECT candidate_id, task, {', '.join(parts) or 'NULL'} FROM candidate").fetchnumpy()
    rows = len(result["candidate_id"])
    holds = np.zeros((rows, len(rules)), dtype=np.bool_)
    for number in range(len(rules)):
        holds[:, number] = result[f"r{number}"]
    ids = result["candidate_id"].astype(np.int64)
    return RuleFindings(rules=tuple(rules), candidate_id=ids, task=result["task"], holds=holds)


def condition(rule: Rule) -> str:
    """SQL of the rows for which `rule` holds; line breaks shut in a comment at the end of a predicate."""
    when = f"(\n{rule.when}\n)"
    return when if rule.must is None else f"({when} AND NOT (\n{rule.must}\n))"


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
    if claim:
        fields["claim"] = Claim(**(claim | {"sources": tuple(claim["sources"])}))
    if check:
        own, others = (ClaimResult(**check[part]) for part in ("own", "others"))
        fields["check"] = RuleCheck(rule_id=check["rule_id"], own=own, others=others)
    fields["citations"] = tuple(Citation(**citation) for citation in fields["citations"])
    for name in ("findings", "exceptions"):
        fields[name] = tuple(fields.get(name, ()))
    return Rule(**fields)
