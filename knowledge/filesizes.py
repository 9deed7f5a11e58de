"""Published sizes of quantized checkpoints, with how far each was rounded: `python -m knowledge.filesizes SOURCE_FOLDER`.

The memory benchmark scores the computed sizes against these rows. The folder holds `filesize_<source>.csv`, one file a source.
"""

import csv
import re
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from knowledge.errors import DataError
from knowledge.sources import all_sources

FILESIZES = Path(__file__).with_name("published") / "filesizes.parquet"
"""The packaged rows."""

_UNITS = {"GB": 10**9, "GiB": 2**30, "B": 1, "bytes": 1, "MiB as published": 1}
_LICENCES = {
    "gpt4all-catalog": "MIT",
    "jan-catalog": "none stated",
    "lmstudio-catalog": "Apache-2.0",
    "nncf": "Apache-2.0",
    "peers": "mixed",
}
"""Licences of the sources that publish sizes only; the others are in the table of sources."""
_COLUMNS = {
    "source": "VARCHAR", "ref": "VARCHAR", "model": "VARCHAR", "params_b": "DOUBLE", "format": "VARCHAR", "w_bits": "DOUBLE",
    "w_group": "INTEGER", "bpw": "DOUBLE", "size_bytes": "BIGINT", "rounding_bytes": "BIGINT", "exact": "BOOLEAN",
    "note": "VARCHAR", "licence": "VARCHAR",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSize:
    """The published size of one checkpoint."""

    source: str
    ref: str
    """Where in the source: file, page or listing, with the publisher's repository where it was given."""
    model: str
    params_b: float | None
    format: str
    """`gguf:q4_k_m`, `awq`, `compressed-tensors:w4a16`, …"""
    w_bits: float | None
    w_group: int | None
    bpw: float | None
    """Bits per weight as printed; some rows have only these."""
    size_bytes: int | None
    rounding_bytes: int
    """Half a unit of the last printed digit, summed over the shards of a checkpoint; 0 where the size is exact."""
    exact: bool
    """The source gives the size in bytes."""
    note: str | None
    licence: str


def read_tables(folder: Path) -> Iterator[FileSize]:
    """The rows of all `filesize_<source>.csv` of `folder`, in the order of file and row.

    Raises:
        DataError: there is no such file, or a row cannot be read; names file and row.
    """
    files = sorted(folder.glob("filesize_*.csv"))
    if not files:
        raise DataError(f"{folder} holds no filesize_<source>.csv", given=str(folder))
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            for number, cells in enumerate(csv.DictReader(file), start=2):
                try:
                    yield _read(cells)
                except (KeyError, ValueError) as error:
                    raise DataError(f"{path.name} row {number} cannot be read: {error}", given=str(cells)) from error


def load_filesizes(path: Path = FILESIZES) -> tuple[FileSize, ...]:
    """The packaged rows."""
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(path)).fetchall()
    names = [field.name for field in fields(FileSize)]
    return tuple(FileSize(**dict(zip(names, row, strict=True))) for row in rows)


def _read(cells: dict[str, str]) -> FileSize:
    note, unit = cells["note"], cells["unit"]
    exact = bool(cells["size_bytes"]) and unit != "MiB as published"
    size = int(cells["size_bytes"]) if cells["size_bytes"] else None
    if size is None and cells["size_gb"]:
        size = round(float(cells["size_gb"]) * _UNITS[unit])
    source = all_sources().get(cells["source"])
    return FileSize(
        source=cells["source"],
        ref=cells["ref"],
        model=cells["model"],
        params_b=float(cells["params_b"]) if cells["params_b"] else None,
        format=cells["format"],
        w_bits=float(cells["w_bits"]) if cells["w_bits"] else None,
        w_group=int(cells["w_group"]) if cells["w_group"] else None,
        bpw=float(cells["bpw"]) if cells["bpw"] else None,
        size_bytes=size,
        rounding_bytes=0 if exact or size is None else round(_half_unit(cells["size_gb"], unit, note)),
        exact=exact,
        note=note or None,
        licence=source.licence if source else _LICENCES[cells["source"]],
    )


def _half_unit(printed: str, unit: str, note: str) -> float:
    """Bytes by which a size that was printed as `printed` may differ from the true one."""
    if unit == "MiB as published" or "0.1 MiB" in note:
        return 2**20 * (0.5 if unit == "MiB as published" else 0.05)
    if "0.1 GiB" in note or "0.1 GB" in note:
        return _UNITS[unit] * 0.05
    if "Ollama" in note:  # two digits, three below 1 GB
        value = float(printed)
        return _UNITS[unit] * (0.0005 if value < 1 else 0.05 if value < 10 else 0.5)
    decimals = len(printed.partition(".")[2])
    shards = len(re.findall(r" \+ ", note)) + 1
    return float(_UNITS[unit] * 0.5 * 10**-decimals * shards)


def main(arguments: list[str]) -> int:
    """Convert the tables of one folder into the packaged file."""
    from knowledge.database import write_parquet

    if len(arguments) != 1:
        sys.stderr.write("usage: python -m knowledge.filesizes SOURCE_FOLDER\n")
        return 2
    rows = list(read_tables(Path(arguments[0])))
    write_parquet(FILESIZES, _COLUMNS, (astuple(row) for row in rows))
    sys.stderr.write(f"{len(rows)} rows written\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
