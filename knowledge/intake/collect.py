"""The whole way in: find the files, read each by its kind, compare runs with their baselines, take every figure once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from knowledge.documents import load_document
from knowledge.errors import DataError, InvalidRequestError
from knowledge.intake.comparing import read_runs
from knowledge.intake.entry import Entry, SpeedEntry, batch_rows, published_hashes, published_speed_hashes, speed_rows
from knowledge.intake.files import NO_NAMES, FoundFile, find_files
from knowledge.intake.harness import HarnessRun, read_harness
from knowledge.intake.mapping import read_mapping
from knowledge.intake.merge import read_batch
from knowledge.intake.records import Located, read_records
from knowledge.intake.result import Intake, Quarantined
from knowledge.intake.tables import read_table
from knowledge.measurements import RunRecord, load_record, record_from_json

Known = Callable[[Sequence[str]], set[str]]
"""Which of some row hashes the knowledge base has already."""
AnyEntry = TypeVar("AnyEntry", Entry, SpeedEntry)


def take_in(
    paths: Sequence[str | Path],
    *,
    baseline: Path | None = None,
    mapping: Path | None = None,
    known: Known = lambda hashes: set(),
    beside: Path | None = None,
    names: Mapping[Path, str] = NO_NAMES,
) -> Intake:
    """Everything that the files under `paths` hold, each figure taken, known, left out or quarantined.

    Args:
        paths: files, folders, patterns (`runs/*.json`), and home folders of others.
        baseline: harness output of the unquantized model, for runs that do not say what they were made from.
        mapping: table (CSV or YAML) that says for files or models what they were made from and how.
        known: says which row hashes are in the knowledge base; asked once.
        beside: folder of run records in which a baseline may be looked for that is not among the files.
        names: what to call folders that hold copies of what lies elsewhere (`s3://bucket/runs`).

    Raises:
        InvalidRequestError: a path leads nowhere, or the table of `mapping` cannot be used.
    """
    statements = read_mapping(mapping) if mapping else []
    baselines = _baseline_runs(baseline) if baseline else []
    reading = _Reading()
    for found in find_files(paths, names):
        reading.read(found)
    reading.add(read_records(reading.records, lambda: _records_in(beside)))
    reading.add(read_runs(reading.runs, baselines, statements))
    return reading.result(known)


@dataclass(slots=True)
class _Reading:
    """What was found so far."""

    records: list[Located] = field(default_factory=list)
    runs: list[HarnessRun] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    speeds: list[SpeedEntry] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def read(self, found: FoundFile) -> None:
        """Read one file by its kind; what needs others is kept for later."""
        if found.batch:
            self.kinds["batch"] += 1
            self.add(read_batch(found.path, found.shown))
            return
        ending = found.path.suffix.lower()
        if ending in (".csv", ".parquet"):
            self.kinds["table"] += 1
            self.add(read_table(found.path, found.shown))
            return
        try:
            document = load_document(found.path)
            kind = _kind(document)
            if kind == "run record":
                self.records.append(Located(file=found.shown, record=record_from_json(found.path.read_bytes())))
                self.files.append(found.path)
            else:
                self.runs += read_harness(document, found.path, found.shown)
        except (DataError, OSError) as error:
            self.quarantined.append(Quarantined(file=found.shown, reason=getattr(error, "message", str(error))))
            self.kinds["unreadable"] += 1
        else:
            self.kinds[kind] += 1

    def add(self, outcomes: Iterable[Entry | SpeedEntry | Quarantined | str]) -> None:
        """Sort outcomes of a reader."""
        for outcome in outcomes:
            if isinstance(outcome, Entry):
                self.entries.append(outcome)
            elif isinstance(outcome, SpeedEntry):
                self.speeds.append(outcome)
            elif isinstance(outcome, Quarantined):
                self.quarantined.append(outcome)
            else:
                self.left_out[outcome] += 1

    def result(self, known: Known) -> Intake:
        """The intake, every figure once."""
        entries, speeds = _once(self.entries), _once(self.speeds)
        have = known([*entries, *speeds])
        have |= published_hashes({entry.reading.row.source for entry in entries.values() if not entry.reading.own})
        have |= published_speed_hashes({entry.value.source for entry in speeds.values() if not entry.own})
        new = {row_hash: entry for row_hash, entry in entries.items() if row_hash not in have}
        new_speeds = {row_hash: entry for row_hash, entry in speeds.items() if row_hash not in have}
        return Intake(
            rows=batch_rows(list(new.values()), list(new)),
            efficiency=speed_rows(list(new_speeds.values()), list(new_speeds)),
            quarantined=self.quarantined,
            known=len(self.entries) + len(self.speeds) - len(new) - len(new_speeds),
            left_out=dict(self.left_out),
            records=self.files,
            read=dict(self.kinds),
        )


def _once(entries: Iterable[AnyEntry]) -> dict[str, AnyEntry]:
    found: dict[str, AnyEntry] = {}
    for entry in entries:
        found.setdefault(entry.row_hash, entry)
    return found


def _kind(document: dict[str, Any]) -> str:
    """What a JSON object is.

    Raises:
        DataError: nothing that holds figures.
    """
    if {"spec", "environment", "measurements"} <= document.keys():
        return "run record"
    if "results" in document and "config" in document:
        return "harness output"
    if "tensors" in document and "facts" in document:
        raise DataError("a probe holds features and no scores: give it to `qadvisor recommend --probe`")
    raise DataError("neither a run record of `qadvisor measure` nor output of lm-evaluation-harness")


def _baseline_runs(path: Path) -> list[HarnessRun]:
    """The runs that the user gave as those of the unquantized model.

    Raises:
        InvalidRequestError: the file is no output of lm-evaluation-harness.
    """
    try:
        return [run for found in find_files([path]) for run in read_harness(load_document(found.path), found.path, found.shown)]
    except DataError as error:
        raise InvalidRequestError(
            f"the baseline {path} {error.message}", given=str(path), allowed="a result file of lm-evaluation-harness"
        ) from error


def _records_in(folder: Path | None) -> Iterator[RunRecord]:
    """The records in a folder, those left out that cannot be read: they are looked for a baseline only."""
    for path in sorted(folder.glob("*.json")) if folder else ():
        try:
            yield load_record(path)
        except DataError:
            continue
