"""One row of a table with what follows from it: model, scheme, loss, whether fits may use it, and its weight in them."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from knowledge import evidence
from knowledge.catalogue import find_model
from knowledge.columns import columns_of, kv_kind
from knowledge.errors import UnknownNameError
from knowledge.evidence import Loss, loss_of
from knowledge.models import ModelSpec
from knowledge.schemes import QuantScheme
from knowledge.tables import AccuracyRow
from knowledge.task_catalogue import find_task
from knowledge.tasks import METRICS, TaskSpec

_SUSPECT = re.compile(
    r"\bsuspect\b|do not use|use with care|look swapped"
    r"|printed below the full-precision|calibration set perplexity"
    r"|against a cloud service"
)
"""Words by which a table's note says that a figure cannot be trusted."""
_MACRO = "first figure of a pair: mean over subjects"
_SELECTED = "list keeps only models with"
_REPRINTED = "reprinted by the source"
_SAMPLES = re.compile(r"(?:^|[;,] )(\d{1,9}) (?:examples|samples per task)|limit (\d{1,9})")
_VARIANT = re.compile(
    r"position \d+|round\d|strict.match|flexible.extract|(?:prompt|inst)_level|language \w+|race-\w+|macro|micro"
    r"|validation split|first release|after fine-tuning on \w+"
)
"""Words of a note that say which part or reading of a test the figures belong to."""
_SOURCE_ITEMS = {("li2024", "arc_challenge"): 295, ("li2024", "arc_easy"): 567}
"""Items of tests that a source ran on less than the whole (Li et al. 2024 used OpenCompass's development sets)."""
_CHANCE_MAPPED = "chance level mapped to 0"


ODD = "baseline differs from the source's others"
"""Reason of rows that only the comparison with others shows to be suspect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One accuracy row with what follows from it; `reason` says why it is not learned from."""

    row: AccuracyRow
    model: str
    """The catalogue's name where it knows the model, else the row's."""
    scheme: QuantScheme
    method: str
    task: TaskSpec
    chance: float | None
    items: int | None
    loss: Loss
    licence: str
    spec: ModelSpec | None
    """What the catalogue knows about the model."""
    own: bool = False
    """Measured by the user."""
    conditions: str | None = None
    """What besides the row's columns score and baseline have in common (a comparability key as JSON)."""
    reason: str | None = None
    weight: float = 0.0

    @property
    def about(self) -> tuple[object, ...]:
        """What the row is a measurement of, whatever its metric or variant."""
        return (self.row.source, self.model, self.scheme, self.method, self.task.part_of or self.task.name, self.row.context)

    @property
    def test(self) -> tuple[object, ...]:
        """The test itself: rows that agree in it should have one baseline."""
        row = self.row
        variant = _VARIANT.search(row.note or "")
        return (
            row.source, self.model, self.task.name, row.metric, row.shots, row.context, variant and variant[0], self.conditions,
        )  # fmt: skip

    @property
    def suspect(self) -> bool:
        """Whether the note or the comparison with other rows says that the figure cannot be trusted."""
        return self.reason == ODD or bool(_SUSPECT.search(self.row.note or ""))

    @property
    def printed(self) -> tuple[object, ...]:
        """What a reprint in another source has in common with the original."""
        return (self.model, self.task.name, self.row.metric, self.method, self.scheme.w_bits)


def read_row(
    row: AccuracyRow,
    recipe: tuple[QuantScheme, str],
    *,
    licence: str,
    own: bool = False,
    in_catalogue: bool = True,
    conditions: str | None = None,
    items: int | None = None,
    difference_se: float | None = None,
) -> Reading:
    """A row with its task, model and loss, and the reason for which it, by itself, is not learned from.

    Args:
        row: the row.
        recipe: scheme and method, as `knowledge.columns.recipe_of` finds them.
        licence: of the source.
        own: measured by the user.
        in_catalogue: whether the name of the model is one to look up; not where a folder merely happens to be called so.
        conditions: see `Reading.conditions`.
        items: items behind the score where the run counted them; else the row's note or the catalogue says.
        difference_se: see `knowledge.evidence.loss_of`.

    Raises:
        UnknownNameError: nobody knows the task.
        DataError: score and baseline give no loss.
    """
    (scheme, method), task = recipe, find_task(row.task)
    chance, items = _chance(row, task), items or _items(row, task)
    loss = loss_of(task, row.metric, row.score, row.baseline, chance=chance, items=items, difference_se=difference_se)
    spec = catalogue_model(row.model) if in_catalogue else None
    reason = "baseline" if method == "none" else _reason(row, task, chance, items, loss.kind)
    return Reading(
        row=row, model=spec.name if spec else row.model, scheme=scheme, method=method, task=task, chance=chance, items=items,
        loss=loss, licence=licence, spec=spec, own=own, conditions=conditions, reason=reason,
    )  # fmt: skip


def settle(readings: Sequence[Reading]) -> list[Reading]:
    """The readings with what only their company shows: odd baselines, parts and reprints, and their weights."""
    reasons = _repeats(readings, _odd_baselines(readings, [reading.reason for reading in readings]))
    learnable = [number for number, reason in enumerate(reasons) if reason is None]
    weights = dict.fromkeys(range(len(readings)), 0.0)
    weights |= zip(
        learnable,
        evidence.weigh(
            [readings[number].about for number in learnable],
            [readings[number].row.source for number in learnable],
            [readings[number].task.name for number in learnable],
        ),
        strict=True,
    )
    return [
        replace(reading, reason=reasons[number], weight=weights[number])
        if (reasons[number], weights[number]) != (reading.reason, reading.weight)
        else reading
        for number, reading in enumerate(readings)
    ]


def _reason(row: AccuracyRow, task: TaskSpec, chance: float | None, items: int | None, loss_kind: str | None) -> str | None:
    """Why the row, by itself, is not learned from; None where it may be."""
    note = row.note or ""
    if METRICS[row.metric].loss == "none":
        return "metric has no loss"
    if task.average or _MACRO in note:
        return "mean of other rows"
    if _SUSPECT.search(note):
        return "suspect"
    if _SELECTED in note:
        return "selected by result"
    if loss_kind == "relative":
        if chance is None:
            return "chance level unknown"
        if not evidence.above_chance(row.metric, row.baseline, chance, items):
            return "baseline near chance"
    return None


def is_average(reading: Reading) -> bool:
    """Whether the row is a mean over tasks, or over subjects of unequal size beside the mean over questions."""
    return reading.task.average or _MACRO in (reading.row.note or "")


def _chance(row: AccuracyRow, task: TaskSpec) -> float | None:
    if METRICS[row.metric].loss != "relative":
        return None
    return 0.0 if _CHANCE_MAPPED in (row.note or "") else task.chance


def _items(row: AccuracyRow, task: TaskSpec) -> int | None:
    stated = _SAMPLES.search(row.note or "")
    return int(stated[1] or stated[2]) if stated else _SOURCE_ITEMS.get((row.source, task.name), task.items)


def _odd_baselines(readings: Sequence[Reading], reasons: Sequence[str | None]) -> list[str | None]:
    """Rows whose baseline is far from that of most rows of the same source, model and test are suspect.

    Far is more than `ODD_BASELINE` of the scale (perplexity: of the baseline itself) and than 4 standard errors.
    """
    tests = [reading.test for reading in readings]
    groups: dict[tuple[object, ...], Counter[float]] = defaultdict(Counter)
    for test, reading in zip(tests, readings, strict=True):
        groups[test][reading.row.baseline] += 1
    usual = {test: counts.most_common(1)[0][0] for test, counts in groups.items()}

    def odd(reading: Reading, usual: float) -> bool:
        row, maximum = reading.row, METRICS[reading.row.metric].maximum
        if row.baseline == usual:
            return False
        error = evidence.score_se(row.metric, row.baseline, reading.items) or 0.0
        return abs(row.baseline - usual) > max(evidence.ODD_BASELINE * (maximum or usual), 4 * error)

    return [
        ODD if reason is None and odd(reading, usual[test]) else reason
        for test, reading, reason in zip(tests, readings, reasons, strict=True)
    ]


def _repeats(readings: Sequence[Reading], reasons: Sequence[str | None]) -> list[str | None]:
    """Rows that repeat others marked so: parts beside their whole in one source, reprints of another source's row."""
    wholes = {reading.about for reading in readings if not reading.task.part_of and not is_average(reading)}
    originals: dict[tuple[object, ...], set[str]] = {}
    for reading in readings:
        originals.setdefault(reading.printed, set()).add(reading.row.source)

    def repeated(reading: Reading) -> str | None:
        if reading.task.part_of and reading.about in wholes:
            return f"part of {reading.task.part_of}"
        if _REPRINTED in (reading.row.note or "") and len(originals[reading.printed]) > 1:
            return "printed by another source"
        return None

    return [reason or repeated(reading) for reading, reason in zip(readings, reasons, strict=True)]


@lru_cache(maxsize=1024)
def catalogue_model(model: str) -> ModelSpec | None:
    """The catalogue's facts about a model; None where the catalogue does not know it: the row then keeps its own."""
    try:
        return find_model(model)
    except UnknownNameError:
        return None


def canonical_model(model: str) -> str:
    """The catalogue's name of `model`; the text itself where the catalogue does not know it."""
    spec = catalogue_model(model)
    return spec.name if spec else model


@lru_cache(maxsize=1024)
def _model_values(spec: ModelSpec | None, tuned: bool | None) -> dict[str, object]:
    """Name, family, size and tuning of a row's model: the catalogue's where it has them, else as the table says."""
    if spec is None:
        return {}
    published = {} if spec.params_published is None else {"params_b": round(spec.params_published / 1e9, 6)}
    stated = {"tuned": spec.tuned} if tuned is None and spec.tuned is not None else {}
    return {"model": spec.name, "family": spec.family, **published, **stated}


def evidence_values(number: int, reading: Reading) -> list[object]:
    """The values of one row of the relation `evidence`, in the order of its columns."""
    row, loss, columns = reading.row, reading.loss, columns_of(reading.scheme, reading.method)
    derived = {
        "evidence_id": number,
        "licence": reading.licence,
        "scheme": reading.scheme.name,
        "task": reading.task.name,
        "kv_dtype": kv_kind(reading.scheme.kv_cache),
        "kv_name": reading.scheme.kv_name,
        "format": columns["format"] or (row.format or "").lower() or None,
        "chance": reading.chance,
        "items": reading.items,
        "loss_kind": loss.kind,
        "unit": loss.unit,
        "loss": loss.value,
        "loss_se": loss.se,
        "suspect": reading.suspect,
        "is_average": is_average(reading),
        "weight": reading.weight,
        "learnable": reading.reason is None,
        "reason": reading.reason,
        "own": reading.own,
    }
    values = {**row.model_dump(), **_model_values(reading.spec, row.tuned), **columns, **derived}
    return [values[name] for name in evidence.COLUMNS]
