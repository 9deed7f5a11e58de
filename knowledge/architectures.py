"""Which engines name a model's architecture in their own list, and what they do with one that they do not name.

Two packaged tables: `catalog/architectures.csv` (class of the model's `config.json` x engine) and
`catalog/architecture_lists.csv` (where each engine's list was read). An engine without a list, or a class without a row, is
not known: that is never held against a recipe.
"""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from knowledge.values import value

Standing = Literal["yes", "no", "unlisted"]
"""`yes`: the list names it. `no`: the list is younger than the architecture and leaves it out, and by the engine's own code
such a model cannot be read (`ArchitectureList.refused`). `unlisted`: the list leaves it out, which may mean little: the class
may be newer, go by another name, or run all the same."""

MAKERS: Mapping[str, str] = MappingProxyType({"gguf": "llama.cpp", "exl2": "exllamav2"})
"""Checkpoint formats that one engine's own tools make, whoever reads them."""

_CATALOG = Path(__file__).with_name("catalog")


@value
class ArchitectureList:
    """Where an engine's list of architectures was read."""

    engine: str
    source: str
    unlisted: str
    """What becomes of a model whose class it does not name, as the source says."""
    refused: str
    """Why it does not run a class with the standing `no`; empty where there is none."""


@cache
def architecture_lists() -> Mapping[str, ArchitectureList]:
    """The lists that were read, by engine."""
    with (_CATALOG / "architecture_lists.csv").open(encoding="utf-8", newline="") as file:
        return {row["engine"]: ArchitectureList(**row) for row in csv.DictReader(file)}


def refusing(architecture: str | None) -> tuple[str, ...]:
    """The engines that are known not to read a class of models."""
    return tuple(engine for engine in architecture_lists() if standing(engine, architecture) == "no")


def standing(engine: str, architecture: str | None) -> Standing | None:
    """How a class of models stands in an engine's list; None where engine or class were not looked up.

    Args:
        engine: name of an engine (`knowledge.engines`).
        architecture: class name of transformers, as `config.json` has it; upper and lower case are one.
    """
    row = _table().get((architecture or "").casefold(), {})
    return row.get(engine)


@cache
def _table() -> Mapping[str, Mapping[str, Standing]]:
    with (_CATALOG / "architectures.csv").open(encoding="utf-8", newline="") as file:
        return {row["architecture"].casefold(): row for row in csv.DictReader(file)}  # type: ignore[misc]
