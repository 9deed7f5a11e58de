"""The sources of published figures: what they are, under which licence, and what to know before trusting them."""

import csv
from functools import lru_cache

from knowledge.errors import UnknownNameError
from knowledge.evidence import PUBLISHED
from knowledge.values import value


@value
class Source:
    """Where published figures come from."""

    id: str
    """Short name, as in the `source` column of every row."""
    title: str
    origin: str
    """Repository at commit, or arXiv number, as far as it was noted."""
    licence: str
    """SPDX identifier of the repository's licence, `none stated`, `not checked` or `mixed`."""
    caveats: str = ""


@lru_cache(maxsize=1)
def all_sources() -> dict[str, Source]:
    """Every source by id, sorted."""
    with (PUBLISHED / "sources.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"]: Source(**row) for row in csv.DictReader(file)}


def find_source(name: str) -> Source:
    """The source called `name`.

    Raises:
        UnknownNameError: nobody knows it; lists the nearest names.
    """
    sources = all_sources()
    if name not in sources:
        raise UnknownNameError.of("source", name, list(sources))
    return sources[name]
