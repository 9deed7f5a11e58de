"""The run records of the pocket sweep as one compressed file: `python -m measure.pocket.records RUNS_FOLDER FILE.jsonl.xz`.

One record a line, sorted by file name, so that the same records give the same bytes.
"""

import json
import lzma
import sys
from collections.abc import Iterable
from pathlib import Path

from knowledge.measurements import RunRecord, record_from_json
from measure.outputs import read_folder


def pack(records: Iterable[RunRecord], file: Path) -> None:
    """Write the records to `file` (JSON lines, xz)."""
    lines = [json.dumps(json.loads(record.to_json())) for record in sorted(records, key=lambda record: record.spec.stem)]
    file.write_bytes(lzma.compress(("\n".join(lines) + "\n").encode(), preset=9))


def unpack(file: Path) -> list[RunRecord]:
    """The records in `file`.

    Raises:
        DataError: a line holds no run record.
    """
    lines = lzma.decompress(file.read_bytes()).splitlines()
    return [record_from_json(line, source=f"{file}:{number}") for number, line in enumerate(lines, start=1)]


def load(place: Path) -> list[RunRecord]:
    """The records in a folder of runs, or in a packed file."""
    return list(read_folder(place).records.values()) if place.is_dir() else unpack(place)


if __name__ == "__main__":
    pack(load(Path(sys.argv[1])), Path(sys.argv[2]))
