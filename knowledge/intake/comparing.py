"""Runs of the harness as rows of evidence: each quantized run against the unquantized one under the same conditions."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from knowledge.errors import InvalidRequestError, QAdvisorError, UnknownNameError
from knowledge.intake.entry import OWN, Entry
from knowledge.intake.figure import Figure, Subject, entry_of
from knowledge.intake.harness import HarnessRun, Score
from knowledge.intake.lineage import Lineage, lineage_of
from knowledge.intake.mapping import Statement
from knowledge.intake.metrics import place_metric
from knowledge.intake.result import Quarantined
from knowledge.intake.samples import paired_se
from knowledge.measurements import ComparabilityKey
from knowledge.task_catalogue import find_task

SOURCE = f"{OWN}lm-eval"
_OLD_TASKS = {("truthfulqa_mc", "mc1"): "truthfulqa_mc1", ("truthfulqa_mc", "mc2"): "truthfulqa_mc2"}
"""Tasks of harness 0.3 that are two tasks here, by metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A run with what is known about its model."""

    run: HarnessRun
    lineage: Lineage
    subject: Subject

    @property
    def key(self) -> ComparabilityKey:
        """The conditions with the model that they belong to."""
        return replace(self.run.key, model_fingerprint=self.subject.name)


def read_runs(
    runs: Sequence[HarnessRun], baselines: Sequence[HarnessRun], statements: Sequence[Statement]
) -> Iterator[Entry | Quarantined | str]:
    """What the runs say, score by score.

    Args:
        runs: of quantized and unquantized models alike.
        baselines: runs that the user gave as those of the unquantized model, for runs that do not say what it was.
        statements: the user's table.
    """
    placed: list[Placed] = []
    given = Given.of(baselines, statements)
    for run in [*baselines, *runs]:
        try:
            placed.append(given.place(run, statements))
        except QAdvisorError as error:
            yield from _refused(run, error.message)
    unquantized: dict[tuple[str, str], list[Placed]] = defaultdict(list)
    for item in placed:
        if not item.lineage.quantized:
            unquantized[item.subject.name, item.run.task].append(item)
    for item in placed:
        others = [item] if not item.lineage.quantized else unquantized[item.subject.name, item.run.task]
        yield from _compared(item, others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The model that the user gave as the baseline."""

    runs: Sequence[HarnessRun]
    subject: Subject | None

    @classmethod
    def of(cls, runs: Sequence[HarnessRun], statements: Sequence[Statement]) -> "Given":
        """The one model of these runs.

        Raises:
            InvalidRequestError: it is quantized.
            DataError: it cannot be told what it is.
        """
        lineages = [lineage_of(run, statements, stated_unquantized=True) for run in runs]
        if quantized := next((lineage for lineage in lineages if lineage.quantized), None):
            scheme, method = quantized.recipe
            raise InvalidRequestError(
                f"the baseline {quantized.checkpoint!r} is itself quantized: {scheme.name}, {method}",
                given=quantized.checkpoint,
                allowed="output of the unquantized model",
            )
        subjects = {lineage.subject for lineage in lineages}
        return cls(runs=runs, subject=subjects.pop() if len(subjects) == 1 else None)

    def place(self, run: HarnessRun, statements: Sequence[Statement]) -> Placed:
        """A run with its model; the given one where nothing else says what it was made from."""
        lineage = lineage_of(run, statements, stated_unquantized=run in self.runs)
        subject = lineage.subject or self.subject
        if subject is None:
            raise UnknownNameError(
                f"{run.model!r} does not say what it was made from: give the run of the unquantized model as --baseline FILE,"
                " or a table as --map FILE with the columns model, base, scheme, method"
            )
        return Placed(run=run, lineage=lineage, subject=subject)


def _compared(item: Placed, others: Sequence[Placed]) -> Iterator[Entry | Quarantined | str]:
    run = item.run
    if reason := _no_place(run):
        yield from ([reason] * len(run.scores) if run.group else _refused(run, reason))
        return
    fitting = [other for other in others if not _differences(item.key, other.key)]
    if not fitting:
        yield from _refused(run, _missing(item, others))
        return
    baseline = max(fitting, key=lambda other: other.run.ref)  # of several equal ones, the newest
    for score in run.scores:
        yield _entry(item, baseline, score)


def _entry(item: Placed, baseline: Placed, score: Score) -> Entry | Quarantined | str:
    run, placed = item.run, place_metric(score.metric)
    if placed is None:
        return f"{run.task} {score.metric}: no evidence of a loss"
    same = (other.value for other in baseline.run.scores if (other.metric, other.filter) == (score.metric, score.filter))
    before = next(same, None)
    if before is None:
        return f"{run.task} {score.metric}: the unquantized run has no such figure"
    return entry_of(Figure(
        file=run.file, row=score.row, source=SOURCE, ref=run.ref, subject=baseline.subject, recipe=item.lineage.recipe,
        task=_OLD_TASKS.get((run.task, score.metric), run.task), placed=placed, score=score.value, baseline=before,
        difference_se=None if item is baseline else paired_se(run, baseline.run, score, expected=before), items=run.items,
        shots=run.key.shots, baseline_dtype=baseline.run.dtype, checkpoint=item.lineage.checkpoint,
        note="; ".join(filter(None, (score.filter, run.engine))) or None,
        conditions=json.dumps(asdict(item.key), sort_keys=True),
    ))  # fmt: skip


def _no_place(run: HarnessRun) -> str | None:
    """Why no score of the task can be a row."""
    if all((run.task, score.metric) in _OLD_TASKS for score in run.scores):
        return None
    try:
        find_task(run.task)
    except UnknownNameError as error:
        unknown = f"{error.message.rstrip('?')}: a row of the task catalogue says what it measures"
        return f"part of {run.group}" if run.group else unknown
    return None


def _missing(item: Placed, others: Sequence[Placed]) -> str:
    if not others:
        return f"no run of the unquantized {item.subject.name!r} on {item.run.task!r}: give its output along"
    least = min((_differences(item.key, other.key) for other in others), key=len)
    return f"no comparison: {item.subject.name!r} ran unquantized under other conditions ({', '.join(least)} differ)"


def _differences(one: ComparabilityKey, other: ComparabilityKey) -> list[str]:
    """What differs; hashes of the documents only where both runs logged them."""
    found = one.differences(other)
    return [name for name in found if name != "data_hash" or (one.data_hash and other.data_hash)]


def _refused(run: HarnessRun, reason: str) -> Iterator[Quarantined]:
    for score in run.scores:
        content = (
            f"model={run.model}, task={run.task}, metric={score.metric}, filter={score.filter or ''}, score={score.value:g}"
        )
        yield Quarantined(file=run.file, row=score.row, reason=reason, content=content)
