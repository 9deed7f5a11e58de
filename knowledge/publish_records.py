"""Packages run records as a published source: `python -m knowledge.publish_records FILE.jsonl.xz --source own-pocket`.

The records become rows as `qadvisor refresh` would make them, under the name and licence of the source. They replace the rows
that the packaged Parquet has of that source; all other rows stay as they are.
"""

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from knowledge.database import read_parquet, write_parquet
from knowledge.errors import DataError, QAdvisorError
from knowledge.evidence import BATCH_COLUMNS, COLUMNS, evidence_path
from knowledge.intake.entry import Entry, batch_rows
from knowledge.intake.records import Located, read_records
from knowledge.measurements import RunRecord
from knowledge.record_archive import unpack
from knowledge.sources import find_source

_LOG = logging.getLogger(__name__)

NOT_LEARNED = {"own-pocket": "a model of a few million parameters"}
"""Sources whose rows are shown and not learned from, with the reason that each row carries."""


def rows_of(records: Sequence[RunRecord], source: str, *, file: str = "") -> list[dict[str, object]]:
    """The rows of evidence that `records` give, without their number.

    Raises:
        DataError: a record cannot be taken; nothing of a packaged source is left out in silence.
        UnknownNameError: nobody knows the source.
    """
    licence, reason = find_source(source).licence, NOT_LEARNED.get(source)
    entries: list[Entry] = []
    for outcome in read_records([Located(file=file, record=record) for record in records]):
        if isinstance(outcome, Entry):
            entries.append(outcome)
        elif not isinstance(outcome, str):
            raise DataError(f"a record cannot be packaged: {outcome}", given=file)
    rows = []
    for values in batch_rows(entries, [entry.row_hash for entry in entries]):
        row = dict(zip(BATCH_COLUMNS, values, strict=True))
        row |= {"source": source, "licence": licence, "own": False}
        if reason is not None:
            row |= {"learnable": False, "weight": 0.0, "reason": row["reason"] or reason}
        rows.append(row)
    return rows


def publish_records(file: Path, source: str, target: Path) -> int:
    """Put the records of `file` into the packaged Parquet `target`; returns the number of their rows.

    Raises:
        DataError: a record cannot be taken.
    """
    new = rows_of(unpack(file), source, file=file.name)
    kept = [row for row in read_parquet(target, columns=list(COLUMNS)) if row["source"] != source]
    numbered = [{**row, "evidence_id": number} for number, row in enumerate([*kept, *new], start=1)]
    write_parquet(target, COLUMNS, ([row[name] for name in COLUMNS] for row in numbered))
    return len(new)


def main(arguments: Iterable[str] | None = None) -> int:
    """The command line of this module; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m knowledge.publish_records", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="run records as JSON lines, xz")
    parser.add_argument("--source", required=True, help="id in published/sources.csv")
    parser.add_argument("--target", type=Path, default=evidence_path(), help="the packaged Parquet")
    options = parser.parse_args(None if arguments is None else list(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        count = publish_records(options.file, options.source, options.target)
    except QAdvisorError as error:
        _LOG.error("%s", error.message)
        return error.exit_code
    _LOG.info("%d rows of %s", count, options.source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
