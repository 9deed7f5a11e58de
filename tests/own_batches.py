"""Measured rows as a refresh takes them, for tests of versions and refreshes."""

from functools import lru_cache
from typing import Any

from own_evidence import own_row

from knowledge.evidence import BATCH_COLUMNS
from knowledge.intake import Intake, Quarantined


@lru_cache(maxsize=8)
def _row(model: str) -> dict[str, Any]:
    return own_row(model, "w4a16-g128", "gptq", "arc_easy", 0.02)


def own_rows(count: int, first: int = 0, *, model: str = "mistral-7b-v0.1", **changes: Any) -> list[tuple[object, ...]]:
    """`count` different rows with the hashes `first`, `first` + 1, …, in the order of `BATCH_COLUMNS`."""
    values = _row(model) | {"file": "runs/one.json", "key": None} | changes
    hashes = (f"{number:016x}" for number in range(first, first + count))
    return [tuple((values | {"row_hash": row_hash})[name] for name in BATCH_COLUMNS) for row_hash in hashes]


def make_intake(count: int, first: int = 0, *, refused: int = 0, **changes: Any) -> Intake:
    """What reading files with `count` new and `refused` impossible rows gives."""
    quarantined = [
        Quarantined(file="runs/two.json", row=number, reason=f"score '{number}' is outside 0 … 100", content="…")
        for number in range(refused)
    ]
    return Intake(rows=own_rows(count, first, **changes), quarantined=quarantined)
