"""The records of the pocket sweep, packed: `python -m measure.pocket.records RUNS_FOLDER FILE.jsonl.xz`."""

import sys
from pathlib import Path

from knowledge.measurements import RunRecord
from knowledge.record_archive import pack, unpack
from measure.outputs import read_folder


def load(place: Path) -> list[RunRecord]:
    """The records in a folder of runs, or in a packed file."""
    return list(read_folder(place).records.values()) if place.is_dir() else unpack(place)


if __name__ == "__main__":
    pack(load(Path(sys.argv[1])), Path(sys.argv[2]))
