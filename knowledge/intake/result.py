"""What comes out of files that were read: rows that count, and what was refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

CONTENT_LENGTH = 2000
"""Characters of a refused row that are kept, enough to find it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Something that was not taken: where it stands, why, and what it said."""

    file: str
    row: int | None = None
    """Number in the file: the line of a table, the position of a measurement (from 1); None for the whole file."""
    reason: str
    content: str = ""
    """The row as text, cut at `CONTENT_LENGTH` characters."""

    def __post_init__(self) -> None:
        if len(self.content) > CONTENT_LENGTH:
            object.__setattr__(self, "content", self.content[: CONTENT_LENGTH - 1] + "…")

    def __str__(self) -> str:
        return f"{self.file}{'' if self.row is None else f', row {self.row}'}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Everything that some files hold: each figure is in one of `rows`, `efficiency`, `quarantined`, `known`, `left_out`."""

    rows: Sequence[tuple[object, ...]] = ()
    """Values in the order of `knowledge.evidence.BATCH_COLUMNS`, no `row_hash` twice."""
    efficiency: Sequence[tuple[object, ...]] = ()
    """Values in the order of `knowledge.evidence.EFFICIENCY_BATCH_COLUMNS`, no `row_hash` twice."""
    quarantined: Sequence[Quarantined] = ()
    known: int = 0
    """Rows that the knowledge base has already, or that stand twice among the files."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What is right but no evidence (failed runs, counts of tokens, subjects beside their whole): why, and how many."""
    records: Sequence[Path] = ()
    """Run records that were read, for the user's `runs/`."""
    read: dict[str, int] = field(default_factory=dict)
    """Files read, by kind."""
