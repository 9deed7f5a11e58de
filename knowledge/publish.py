"""From tables of published figures (CSV) to the packaged Parquet files: `python -m knowledge.publish SOURCE_FOLDER`.

The folder holds `accuracy_<source>.csv` and `efficiency_<source>.csv`, one file a source. Every row is validated; one
that cannot be right is refused with file, row and reason, and nothing is written unless `--allow-refused` is given.
The result depends on the tables, the catalogues and this code only.
"""

import argparse
import logging
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from knowledge import evidence
from knowledge.catalogue import find_model
from knowledge.columns import columns_of, kv_kind, recipe_of
from knowledge.database import write_parquet
from knowledge.errors import DataError, QAdvisorError, UnknownNameError
from knowledge.evidence import Loss, loss_of
from knowledge.models import ModelSpec
from knowledge.schemes import QuantScheme
from knowledge.sources import find_source
from knowledge.sources_page import write_page
from knowledge.tables import AccuracyRow, EfficiencyRow, Refusal, RowT, TableRow, read_table
from knowledge.task_catalogue import find_task
from knowledge.tasks import METRICS, TaskSpec

_LOG = logging.getLogger(__name__)

_SUSPECT = re.compile(
    r"\bsuspect\b|do not use|use with care|look swapped"
    r"|printed below the full-precision|calibration set perplexity"
    r"|against a cloud service"
)
"""Words by which a table's note says that a figure cannot be trusted."""
_MACRO = "first figure of a pair: mean over subjects"
_SELECTED = "list keeps only models with"
_REPRINTED = "reprinted by the source"
_SAMPLES = re.compile(r"(?:^|[;,] )(\d+) (?:examples|samples per task)|limit (\d+)")
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
    scheme: QuantScheme
    method: str
    task: TaskSpec
    chance: float | None
    items: int | None
    loss: Loss
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
        return (row.source, self.model, self.task.name, row.metric, row.shots, row.context, variant and variant[0])

    @property
    def suspect(self) -> bool:
        """Whether the note or the comparison with other rows says that the figure cannot be trusted."""
        return self.reason == ODD or bool(_SUSPECT.search(self.row.note or ""))

    @property
    def printed(self) -> tuple[object, ...]:
        """What a reprint in another source has in common with the original."""
        return (self.model, self.task.name, self.row.metric, self.method, self.scheme.w_bits)


def read_folder(folder: Path, kind: type[RowT]) -> tuple[list[TableRow[RowT]], list[Refusal]]:
    """The valid rows of all tables of one kind in `folder`, and the refused ones.

    Raises:
        DataError: the folder holds no such table.
    """
    stem = "accuracy" if kind is AccuracyRow else "efficiency"
    files = sorted(folder.glob(f"{stem}_*.csv"))
    if not files:
        raise DataError(f"{folder} holds no {stem}_<source>.csv", given=str(folder))
    rows, refused = [], []
    for found in (item for file in files for item in read_table(file, kind)):
        if isinstance(found, Refusal):
            refused.append(found)
        elif found.file != f"{stem}_{found.value.source}.csv":
            refused.append(Refusal(file=found.file, row=found.row, reason=f"source {found.value.source!r} is not the file's"))
        else:
            rows.append(found)
    return rows, refused


def read_accuracy(folder: Path) -> tuple[list[Reading], list[Refusal]]:
    """Every accuracy row of `folder` with its loss, reason and weight, and the refused rows.

    Raises:
        DataError: the folder holds no such table.
    """
    rows, refused = read_folder(folder, AccuracyRow)
    readings: list[Reading] = []
    for found in rows:
        try:
            readings.append(_read(found))
        except QAdvisorError as error:
            refused.append(Refusal(file=found.file, row=found.row, reason=error.message))
    return _weighed(_without_repeats(_without_odd_baselines(readings))), refused


def _read(found: TableRow[AccuracyRow]) -> Reading:
    row = found.value
    find_source(row.source)
    scheme, method = recipe_of(found.cells)
    task = find_task(row.task)
    chance, items = _chance(row, task), _items(row, task)
    loss = loss_of(task, row.metric, row.score, row.baseline, chance=chance, items=items)
    reading = Reading(
        row=row, model=_canonical(row.model), scheme=scheme, method=method, task=task, chance=chance, items=items, loss=loss
    )
    return replace(reading, reason=_reason(reading))


def _reason(reading: Reading) -> str | None:
    """Why the row, by itself, is not learned from; None where it may be."""
    row, note = reading.row, reading.row.note or ""
    if reading.method == "none":
        return "baseline"
    if METRICS[row.metric].loss == "none":
        return "metric has no loss"
    if is_average(reading):
        return "mean of other rows"
    if _SUSPECT.search(note):
        return "suspect"
    if _SELECTED in note:
        return "selected by result"
    if reading.loss.kind == "relative":
        if reading.chance is None:
            return "chance level unknown"
        if not evidence.above_chance(row.metric, row.baseline, reading.chance, reading.items):
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


def _without_odd_baselines(readings: Sequence[Reading]) -> list[Reading]:
    """Rows whose baseline is far from that of most rows of the same source, model and test are suspect.

    Far is more than `ODD_BASELINE` of the scale (perplexity: of the baseline itself) and than 4 standard errors.
    """
    groups: dict[tuple[object, ...], Counter[float]] = defaultdict(Counter)
    for reading in readings:
        groups[reading.test][reading.row.baseline] += 1

    def odd(reading: Reading) -> bool:
        usual = groups[reading.test].most_common(1)[0][0]
        row, maximum = reading.row, METRICS[reading.row.metric].maximum
        error = evidence.score_se(row.metric, row.baseline, reading.items) or 0.0
        return abs(row.baseline - usual) > max(evidence.ODD_BASELINE * (maximum or usual), 4 * error)

    return [replace(reading, reason=ODD) if reading.reason is None and odd(reading) else reading for reading in readings]


def _without_repeats(readings: Sequence[Reading]) -> list[Reading]:
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

    return [reading if reading.reason else replace(reading, reason=repeated(reading)) for reading in readings]


def _weighed(readings: Sequence[Reading]) -> list[Reading]:
    learnable = [number for number, reading in enumerate(readings) if reading.reason is None]
    weights = evidence.weigh(
        [readings[number].about for number in learnable],
        [readings[number].row.source for number in learnable],
        [readings[number].task.name for number in learnable],
    )
    result = list(readings)
    for number, weight in zip(learnable, weights, strict=True):
        result[number] = replace(result[number], weight=weight)
    return result


@lru_cache(maxsize=1024)
def _find(model: str) -> ModelSpec | None:
    """The catalogue's facts about a model; None where the catalogue does not know it: the row then keeps its own."""
    try:
        return find_model(model)
    except UnknownNameError:
        return None


def _canonical(model: str) -> str:
    spec = _find(model)
    return spec.name if spec else model


def _model_values(row: AccuracyRow) -> dict[str, object]:
    """Name, family, size and tuning of the row's model: the catalogue's where it has them, else as the table says."""
    spec = _find(row.model)
    if spec is None:
        return {}
    published = {} if spec.params_published is None else {"params_b": round(spec.params_published / 1e9, 6)}
    tuned = {"tuned": spec.tuned} if row.tuned is None and spec.tuned is not None else {}
    return {"model": spec.name, "family": spec.family, **published, **tuned}


def evidence_values(number: int, reading: Reading) -> list[object]:
    """The values of one row of the relation `evidence`, in the order of its columns."""
    row, loss, columns = reading.row, reading.loss, columns_of(reading.scheme, reading.method)
    derived = {
        "evidence_id": number,
        "licence": find_source(row.source).licence,
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
        "own": False,
    }
    values = {**row.model_dump(), **_model_values(row), **columns, **derived}
    return [values[name] for name in evidence.COLUMNS]


def efficiency_values(row: EfficiencyRow) -> list[object]:
    """The values of one row of the relation `efficiency`, in the order of its columns."""
    values = {**row.model_dump(), "licence": find_source(row.source).licence, "model": _canonical(row.model)}
    return [values[name] for name in evidence.EFFICIENCY_COLUMNS]


def publish(folder: Path, target: Path, *, allow_refused: bool = False) -> list[Refusal]:
    """Write `accuracy.parquet` and `efficiency.parquet` under `target` from the tables in `folder`.

    Returns:
        The refused rows.

    Raises:
        DataError: rows were refused, and that is not allowed; the message lists them.
    """
    readings, refused = read_accuracy(folder)
    speeds, refused_speeds = read_folder(folder, EfficiencyRow)
    refused += refused_speeds
    if refused and not allow_refused:
        listed = "\n".join(map(str, refused[:50]))
        raise DataError(
            f"{len(refused)} rows are refused:\n{listed}", given=str(folder), hint="--allow-refused leaves them out"
        )
    values = (evidence_values(number, reading) for number, reading in enumerate(readings, start=1))
    write_parquet(target / evidence.evidence_path().name, evidence.COLUMNS, values)
    write_parquet(
        target / evidence.efficiency_path().name,
        evidence.EFFICIENCY_COLUMNS,
        (efficiency_values(found.value) for found in speeds),
    )
    return refused


def main(arguments: Iterable[str] | None = None) -> int:
    """The command line of this module; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m knowledge.publish", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder with accuracy_<source>.csv and efficiency_<source>.csv")
    parser.add_argument("--target", type=Path, default=evidence.PUBLISHED, help="where the Parquet files go")
    parser.add_argument("--allow-refused", action="store_true", help="leave refused rows out instead of failing")
    parser.add_argument("--page", type=Path, help="write the page about the packaged sources (docs/reference/sources.md) here")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.folder is None and options.page is None:
        parser.error("give a folder, --page FILE, or both")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if options.folder is not None:
            for refusal in publish(options.folder, options.target, allow_refused=options.allow_refused):
                _LOG.warning("refused: %s", refusal)
        if options.page is not None:
            write_page(options.page)
    except QAdvisorError as error:
        _LOG.error("%s", error.message)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
