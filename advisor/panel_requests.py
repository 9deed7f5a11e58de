"""The panel: 200 fixed requests, kept as a file (`advisor.panel_draw` drew them)."""

import csv
from functools import cache
from pathlib import Path

from advisor.request import AdviceRequest, make_request

PANEL = Path(__file__).with_name("panel.csv")
FIELDS = ("model", "task", "memory", "objective", "engine", "max_loss")


@cache
def panel_requests() -> tuple[AdviceRequest, ...]:
    """The requests of the panel, in order."""
    with PANEL.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(make_request({name: value or None for name, value in row.items()}) for row in rows)
