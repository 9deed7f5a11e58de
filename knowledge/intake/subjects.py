"""Under which name the evidence about a measured model stands."""

import re
from dataclasses import replace

from knowledge.catalogue import match_model
from knowledge.intake.figure import Subject
from knowledge.measurements import RunRecord
from knowledge.model_config import family_of

_SAME_SIZE = 0.05
"""Largest relative difference between a model's parameters and the catalogue's published count."""


def subject_of_record(record: RunRecord) -> Subject:
    """The model of a run record: the catalogue's where name and size agree, else by the name under which it ran."""
    name = record.spec.model.rstrip("/")
    family = family_of(record.model.family)
    subject = subject_of(name, family=family, parameters=record.model.parameters)
    if not subject.in_catalogue and match_model(subject.name):
        return replace(subject, name=f"{subject.name}@{record.model.fingerprint[:8]}")  # another model than its namesake
    return subject


def subject_of(name: str, *, family: str | None, parameters: int | None) -> Subject:
    """The model called `name`.

    Args:
        name: name, hub id or folder, as a run has it.
        family: its family where it is known; else the first word of the name.
        parameters: its parameters where they are known: a name of the catalogue with another size is another model.
    """
    known = match_model(name)
    count = known.params_published if known else None
    if known and (not parameters or not count or abs(parameters - count) <= _SAME_SIZE * count):
        return Subject(name=known.name, family=known.family, params_b=parameters / 1e9 if parameters else None)
    bare = name.rpartition("/")[2].lower() if _is_hub_id(name) else name
    word = re.match(r"[a-z]+", bare.lower())
    return Subject(
        name=bare,
        family=family or (word[0] if word else "unknown"),
        params_b=parameters / 1e9 if parameters else None,
        in_catalogue=False,
    )


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))
