"""One figure on its way in: what it says, where it stands, and the hash by which it is taken once."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from knowledge.database import read_parquet
from knowledge.evidence import EFFICIENCY_COLUMNS, efficiency_path, evidence_path
from knowledge.readings import Reading, canonical_model, evidence_values, settle
from knowledge.tables import EfficiencyRow

OWN = "own:"
"""Start of the names of sources that are the user's."""
LICENCE = "none stated"
"""Licence of the user's own figures."""

_IDENTITY = ("source", "ref", "metric", "shots", "context", "score", "baseline", "bpw", "note")
"""Fields of a row that, with model, scheme, method, task, checkpoint and conditions, make it what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A score with its place."""

    file: str
    row: int | None
    reading: Reading
    checkpoint: str | None = None
    """Fingerprint or name of the very weights."""

    @property
    def row_hash(self) -> str:
        """Sixteen hexadecimal digits over what was measured; where it was read does not matter."""
        reading, row = self.reading, self.reading.row
        subject = (reading.model, reading.scheme.name, reading.method, reading.task.name)
        return _hash((*subject, *(getattr(row, name) for name in _IDENTITY), self.checkpoint, reading.conditions))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedEntry:
    """A speed or memory figure with its place."""

    file: str
    row: int | None
    value: EfficiencyRow
    licence: str = LICENCE

    @property
    def own(self) -> bool:
        """Whether the source is the user's."""
        return self.value.source.startswith(OWN)

    @property
    def values(self) -> dict[str, object]:
        """The row of the relation `efficiency`."""
        return {**self.value.model_dump(), "model": canonical_model(self.value.model), "licence": self.licence}

    @property
    def row_hash(self) -> str:
        """Sixteen hexadecimal digits over the row."""
        return _hash(self.values[name] for name in EFFICIENCY_COLUMNS)


def published_hashes(sources: Collection[str]) -> set[str]:
    """The hashes that the packaged rows of these sources would have."""
    wanted = ("model", "scheme", "method", "task", *_IDENTITY)
    rows = read_parquet(evidence_path(), columns=wanted) if sources else ()
    return {_hash((*(row[name] for name in wanted), None, None)) for row in rows if row["source"] in sources}


def published_speed_hashes(sources: Collection[str]) -> set[str]:
    """Likewise of packaged speeds."""
    rows = read_parquet(efficiency_path(), columns=list(EFFICIENCY_COLUMNS)) if sources else ()
    return {_hash(row.values()) for row in rows if row["source"] in sources}


def batch_rows(entries: Sequence[Entry], hashes: Sequence[str]) -> list[tuple[object, ...]]:
    """The rows of a batch, in the order of `knowledge.evidence.BATCH_COLUMNS`, weighed against each other."""
    readings = settle([entry.reading for entry in entries])
    return [
        (*evidence_values(0, reading)[1:], row_hash, entry.file, entry.checkpoint, reading.conditions)
        for entry, reading, row_hash in zip(entries, readings, hashes, strict=True)
    ]


def speed_rows(entries: Sequence[SpeedEntry], hashes: Sequence[str]) -> list[tuple[object, ...]]:
    """The rows of a batch of speeds, in the order of `knowledge.evidence.EFFICIENCY_BATCH_COLUMNS`."""
    return [
        (*(entry.values[name] for name in EFFICIENCY_COLUMNS), row_hash, entry.file)
        for entry, row_hash in zip(entries, hashes, strict=True)
    ]


def _hash(values: Iterable[object]) -> str:
    text = "\x1f".join("" if value is None else repr(value) for value in values)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
