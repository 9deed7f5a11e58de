"""From tables of published figures (CSV) to the packaged Parquet files: `python -m knowledge.publish SOURCE_FOLDER`.

The folder holds `accuracy_<source>.csv` and `efficiency_<source>.csv`, one file a source. Every row is validated; one
that cannot be right is refused with file, row and reason, and nothing is written unless `--allow-refused` is given.
The result depends on the tables, the catalogues and this code only.
"""

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from knowledge import evidence
from knowledge.columns import recipe_of
from knowledge.database import write_parquet
from knowledge.errors import DataError, QAdvisorError
from knowledge.readings import Reading, canonical_model, evidence_values, read_row, settle
from knowledge.sources import find_source
from knowledge.sources_page import write_page
from knowledge.tables import AccuracyRow, EfficiencyRow, Refusal, RowT, TableRow, read_table

_LOG = logging.getLogger(__name__)


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
            licence = find_source(found.value.source).licence
            readings.append(read_row(found.value, recipe_of(found.cells), licence=licence))
        except QAdvisorError as error:
            refused.append(Refusal(file=found.file, row=found.row, reason=error.message))
    return settle(readings), refused


def efficiency_values(row: EfficiencyRow) -> list[object]:
    """The values of one row of the relation `efficiency`, in the order of its columns."""
    values = {**row.model_dump(), "licence": find_source(row.source).licence, "model": canonical_model(row.model)}
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
