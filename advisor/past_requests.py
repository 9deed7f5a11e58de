"""The user's past requests, so that what to measure next can be told from what is asked here.

One line of JSON a request in `requests.jsonl` of the home folder, the newest few hundred. The file is read by
`qadvisor measure plan --suggest` alone and leaves the machine with nobody. `QADVISOR_HISTORY=off` writes nothing.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from advisor.request import AdviceRequest
from knowledge.home import home as home_folder

FILE = "requests.jsonl"
SWITCH = "QADVISOR_HISTORY"
KEPT = 200
_MOST_BYTES = 100_000
_FIELDS = ("model", "task", "memory", "context", "batch", "hardware", "engine", "max_loss", "objective")


def note_request(request: AdviceRequest, *, home: Path | None = None) -> None:
    """Append a request; nothing happens where the user does not want it or the folder cannot be written."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no", "false"):
        return
    path = (home or home_folder()) / FILE
    line = json.dumps({name: getattr(request, name) for name in _FIELDS if getattr(request, name) is not None})
    with suppress(OSError):
        if path.exists() and path.stat().st_size > _MOST_BYTES:
            _shorten(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def past_requests(home: Path | None = None) -> dict[AdviceRequest, int]:
    """The requests kept, with how often each was asked; lines that are no request are passed over."""
    counts: dict[AdviceRequest, int] = {}
    try:
        lines = ((home or home_folder()) / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines[-KEPT:]:
        with suppress(ValueError, TypeError, KeyError):
            fields = json.loads(line)
            if not isinstance(fields["model"], str) or not isinstance(fields["task"], str):
                continue
            request = AdviceRequest(**{name: fields[name] for name in _FIELDS if name in fields})
            counts[request] = counts.get(request, 0) + 1
    return counts


def _shorten(path: Path) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-KEPT:]
    written = path.with_name(f"{FILE}.new")
    written.write_text("".join(lines), encoding="utf-8")
    os.replace(written, path)
