"""Rule files: their form, and what is refused when one is read.

A file `<id>.yaml` holds one rule:

    id: li2024-27                # the file's name
    title: one line
    kind: candidate              # or model-choice, task-trust (both caution only)
    effect: avoid                # refuse, avoid, prefer, require, caution
    strength: strong             # strong, medium, weak
    when: kv_bits < 8 AND ...    # SQL predicate over `knowledge.rule_columns.CANDIDATE_COLUMNS`
    must: ...                    # predicate, with effect `require` only
    why: sentences shown to users
    findings: [li2024-27]        # findings of papers that it states
    citations: [{paper, where, number, url}]
    exceptions: [known cases in which it does not hold]
    check:                       # or no_check: why the evidence cannot re-check it
      claim: sentence
      sources: [li2024]          # evidence sources that the rule rests on
      unit: share of cells
      at_least: 0.8              # or at_most
      min_n: 10
      query: SELECT ... AS value, ... AS n FROM evidence ...
"""

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from knowledge import evidence
from knowledge.errors import RuleError
from knowledge.rule_columns import CANDIDATE_COLUMNS, create_empty_table
from knowledge.rule_conditions import Condition, split_condition
from knowledge.rule_sql import check_predicate, check_query
from knowledge.rules import Citation, Claim, Effect, Kind, Rule, Strength

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]

_FORM = "docs/concepts/rules.md shows the form of a rule file"


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CitationForm(_Form):
    """One entry of `citations`."""

    paper: Text
    where: Text
    number: Text
    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]


class ClaimForm(_Form):
    """The part `check`."""

    claim: Text
    sources: tuple[Text, ...] = Field(strict=False)
    unit: Text
    query: Text
    min_n: int = Field(ge=1)
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> "ClaimForm":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give one of at_least and at_most")
        return self


class RuleForm(_Form):
    """A whole rule file."""

    id: Id
    title: Text
    kind: Kind
    effect: Effect
    strength: Strength
    when: Text
    must: Text | None = None
    why: Text
    findings: tuple[Id, ...] = Field(default=(), strict=False)
    citations: tuple[CitationForm, ...] = Field(min_length=1, strict=False)
    exceptions: tuple[Text, ...] = Field(default=(), strict=False)
    check: ClaimForm | None = None
    no_check: Text | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> "RuleForm":
        if (self.must is None) == (self.effect == "require"):
            raise ValueError("`must` goes with effect require, and only with it")
        if self.kind != "candidate" and self.effect != "caution":
            raise ValueError(f"a rule of kind {self.kind} can only be a caution")
        if (self.check is None) == (self.no_check is None):
            raise ValueError("give a check, or in no_check the reason why there is none")
        return self


def read_rule_files(paths: Sequence[Path], *, packaged: bool) -> list[Rule]:
    """The rules of `paths`, each parsed, bound against the candidate relation and its query against the evidence.

    Raises:
        RuleError: a file is refused, with its name and the reason.
    """
    forms = [(path, _parse(path)) for path in paths]
    with _sandbox() as connection:
        for path, form in forms:
            _bind(connection, path, form)
        conditions = [split_condition(connection, form.when, form.must) for _, form in forms]
    return [
        _rule(form, condition, file=path.name, packaged=packaged)
        for (path, form), condition in zip(forms, conditions, strict=True)
    ]


def _bind(connection: "DuckDBPyConnection", path: Path, form: RuleForm) -> None:
    """Refuse SQL that reaches beyond the rule's relations or does not bind against them."""
    try:
        for text in filter(None, (form.when, form.must)):
            _bind_predicate(connection, text)
        if form.check:
            _bind_query(connection, form.check.query)
    except RuleError as error:
        raise _refuse(path, error.message, given=error.given, allowed=error.allowed) from error


def _parse(path: Path) -> RuleForm:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _refuse(path, f"not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise _refuse(path, "a rule file is a mapping of its parts", given=type(content).__name__)
    try:
        form = RuleForm.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _refuse(path, f"{place}: {first['msg']}", given=_shown(first["input"])) from error
    if form.id != path.stem:
        raise _refuse(path, f"the id is {form.id!r}, the file's name says {path.stem!r}", hint="rename one of the two")
    return form


def _bind_predicate(connection: "DuckDBPyConnection", text: str) -> None:
    check_predicate(connection, text, frozenset(CANDIDATE_COLUMNS))
    kind = _described(connection, f"SELECT (\n{text}\n) AS holds FROM candidate")["holds"]
    if kind != "BOOLEAN":
        raise RuleError(f"a predicate is true or false, this one is {kind}", given=text, allowed="BOOLEAN")


def _bind_query(connection: "DuckDBPyConnection", text: str) -> None:
    check_query(connection, text)
    columns = _described(connection, f"SELECT * FROM (\n{text}\n)")
    if list(columns) != ["value", "n"] or columns["n"] not in ("BIGINT", "INTEGER", "HUGEINT"):
        given = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        allowed = "value DOUBLE, n BIGINT"
        raise RuleError("a check query returns one row of `value` and a whole `n`", given=given, allowed=allowed)


def _described(connection: "DuckDBPyConnection", query: str) -> dict[str, str]:
    import duckdb

    try:
        return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall()}
    except duckdb.Error as error:
        raise RuleError(f"does not bind: {str(error).splitlines()[0]}", given=query) from error


@contextmanager
def _sandbox() -> Iterator["DuckDBPyConnection"]:
    """A connection with the empty relations and nothing else; its settings cannot be changed."""
    from knowledge.database import scratch_connection

    with scratch_connection() as connection:
        create_empty_table(connection, "candidate", {name: column.sort for name, column in CANDIDATE_COLUMNS.items()})
        create_empty_table(connection, "evidence", evidence.COLUMNS)
        create_empty_table(connection, "efficiency", evidence.EFFICIENCY_COLUMNS)
        connection.execute("SET lock_configuration = true")
        yield connection


def _rule(form: RuleForm, condition: Condition, *, file: str, packaged: bool) -> Rule:
    check = form.check
    claim = None
    if check:
        claim = Claim(
            text=check.claim, sources=check.sources, query=check.query, unit=check.unit, min_n=check.min_n,
            at_least=check.at_least, at_most=check.at_most,
        )  # fmt: skip
    citations = tuple(Citation(**citation.model_dump()) for citation in form.citations)
    return Rule(
        id=form.id, title=form.title, kind=form.kind, when=form.when, effect=form.effect, strength=form.strength, why=form.why,
        citations=citations, findings=form.findings, must=form.must, exceptions=form.exceptions,
        condition=condition, claim=claim, no_claim=form.no_check, file=file, packaged=packaged,
    )  # fmt: skip


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, str | int | float | bool | datetime.date) else type(value).__name__
    return text if len(text) <= 120 else text[:117] + "..."


def _refuse(path: Path, reason: str, **details: Any) -> RuleError:
    return RuleError(f"rule file {path}: {reason}", **({"hint": _FORM} | details))
