"""Many run records as one compressed file (JSON lines, xz): the same records give the same bytes."""

import json
import lzma
from collections.abc import Iterable
from pathlib import Path

from knowledge.errors import DataError
from knowledge.measurements import RunRecord, record_from_json


def pack(records: Iterable[RunRecord], file: Path) -> None:
    """Write the records to `file`, one a line, in the order of their file names."""
    ordered = sorted(records, key=lambda record: record.spec.stem)
    lines = [json.dumps(json.loads(record.to_json()), separators=(",", ":")) for record in ordered]
    file.write_bytes(lzma.compress(("\n".join(lines) + "\n").encode(), preset=9 | lzma.PRESET_EXTREME))


def unpack(file: Path) -> list[RunRecord]:
    """The records in `file`.

    Raises:
        DataError: the file cannot be read, or a line holds no run record.
    """
    try:
        lines = lzma.decompress(file.read_bytes()).splitlines()
    except (OSError, lzma.LZMAError) as error:
        raise DataError(f"cannot read {file}: {error}", given=str(file), allowed="run records as JSON lines, xz") from error
    return [record_from_json(line, source=f"{file}:{number}") for number, line in enumerate(lines, start=1)]
