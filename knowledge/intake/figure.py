"""One measured score against its baseline, and the entry that it makes once everything about it has been checked."""

from dataclasses import dataclass

from pydantic import ValidationError

from knowledge.columns import columns_of
from knowledge.errors import DataError, QAdvisorError
from knowledge.intake.entry import LICENCE, Entry
from knowledge.intake.metrics import Placed, in_unit
from knowledge.intake.result import Quarantined
from knowledge.readings import read_row
from knowledge.schemes import QuantScheme
from knowledge.tables import AccuracyRow, refusal_reason
from knowledge.task_catalogue import find_task
from knowledge.tasks import METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The model that was measured, unquantized and under whatever name its evidence shall stand."""

    name: str
    family: str
    params_b: float | None = None
    """Parameters in 1e9."""
    in_catalogue: bool = True
    """Whether the name is one of the catalogue, rather than a folder's that may happen to be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One score of a quantized model with that of the unquantized one, as the run wrote them."""

    file: str
    row: int | None
    source: str
    ref: str
    subject: Subject
    recipe: tuple[QuantScheme, str]
    task: str
    placed: Placed
    score: float
    baseline: float
    difference_se: float | None = None
    """Standard error of their difference over the items, in the unit in which the run wrote them."""
    items: int | None = None
    shots: int | None = None
    context: int | None = None
    """Tokens, where the test varies them."""
    bpw: float | None = None
    baseline_dtype: str | None = None
    note: str | None = None
    checkpoint: str | None = None
    conditions: str | None = None


def entry_of(figure: Figure) -> Entry | Quarantined:
    """The entry of a figure, or why it is refused."""
    try:
        return _entry(figure)
    except ValidationError as error:
        reason = refusal_reason(error)
    except QAdvisorError as error:
        reason = error.message
    return Quarantined(file=figure.file, row=figure.row, reason=reason, content=_as_text(figure))


def _entry(figure: Figure) -> Entry:
    if figure.items is not None and not 1 <= figure.items < 2**31:
        raise DataError(f"a score over {figure.items} items cannot be")
    try:
        score, baseline, factor = in_unit(figure.placed, figure.score, figure.baseline)
    except OverflowError as error:
        raise DataError(f"no perplexity has the likelihood {figure.score:g} or {figure.baseline:g}") from error
    task, metric, subject = find_task(figure.task), figure.placed.metric, figure.subject
    row = AccuracyRow.model_validate({
        "source": figure.source, "ref": figure.ref, "model": subject.name, "family": subject.family,
        "params_b": subject.params_b, **columns_of(*figure.recipe), "bpw": figure.bpw, "task": task.name,
        "task_type": task.type, "ability": task.ability, "shots": figure.shots, "context": figure.context, "metric": metric,
        "higher_is_better": METRICS[metric].higher_is_better, "score": score, "baseline": baseline,
        "baseline_dtype": figure.baseline_dtype, "note": figure.note,
    })  # fmt: skip
    reading = read_row(
        row, figure.recipe, licence=LICENCE, own=True, in_catalogue=subject.in_catalogue, conditions=figure.conditions,
        items=figure.items, difference_se=None if figure.difference_se is None else factor * figure.difference_se,
    )  # fmt: skip
    return Entry(file=figure.file, row=figure.row, reading=reading, checkpoint=figure.checkpoint)


def _as_text(figure: Figure) -> str:
    return (
        f"model={figure.subject.name}, scheme={figure.recipe[0].name}, method={figure.recipe[1]}, task={figure.task}, "
        f"metric={figure.placed.metric}, score={figure.score:g}, baseline={figure.baseline:g}"
    )
