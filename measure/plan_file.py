"""A sweep as a file, so that the same cells run here, elsewhere or on a cluster.

A plan file is JSON that states every choice: recipes in full, each with its protocol, and absolute paths. It also lists the
keys of its cells, which hash everything that decides a result, so that whoever reads it finds out whether models, texts and
the program's ways of scoring are still those it was written with. Three things it never holds, since they are said when it
is run: where records go, leave to run code beside the weights, and leave to use the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from knowledge.errors import DataError
from measure.outputs import write_text
from measure.plan import Plan
from measure.sweep import SweepRequest

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

SCHEMA_VERSION = 1
"""Raised when the meaning of a field of the plan file changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell as the plan file lists it."""

    key: str
    model: str
    recipe: str
    protocol: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """The content of a plan file."""

    __pydantic_config__: ClassVar["ConfigDict"] = {"extra": "forbid"}

    schema_version: int = SCHEMA_VERSION
    request: SweepRequest
    cells: tuple[PlannedCell, ...]
    """Every cell that can be run, done or not."""

    def to_json(self) -> str:
        """The file's text, which `plan_file_from_json` reads back to an equal value."""
        return _adapter().dump_json(self, indent=1).decode() + "\n"

    def check(self, plans: Sequence[Plan]) -> None:
        """See that `plans`, made of this file's request, have the cells that the file lists.

        Raises:
            DataError: they have not; says which model, or how many cells.
        """
        listed = {cell.key for cell in self.cells}
        found = {cell.spec.key for plan in plans for cell in plan.cells}
        if missing := [cell for cell in self.cells if cell.key not in found]:
            first = missing[0]
            raise DataError(
                f"{len(missing)} of {len(listed)} cells are not those of the plan, the first is {first.recipe} on {first.task}",
                given=first.model,
                allowed="the model, texts and version of qadvisor that the plan was made with",
                hint="compare the files, or make the plan anew with `qadvisor measure plan --save`",
            )


def save_plan(path: Path, request: SweepRequest, plans: Sequence[Plan]) -> PlanFile:
    """Write the plan file of `request`, from which `plans` were made.

    Raises:
        StoreError: the file cannot be written.
    """
    cells = tuple(
        PlannedCell(
            key=cell.spec.key,
            model=plan.source.name,
            recipe=cell.spec.recipe,
            protocol=cell.protocol.name,
            task=cell.task.name,
        )
        for plan in plans
        for cell in plan.cells
        if cell.status not in ("not_applicable", "no_data")
    )
    made = PlanFile(request=request.portable(), cells=cells)
    write_text(path, made.to_json())
    return made


def load_plan(path: Path) -> PlanFile:
    """The plan in the file `path`.

    Raises:
        DataError: the file cannot be read, or holds no plan.
    """
    try:
        return plan_file_from_json(path.read_bytes(), source=str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", given=str(path)) from error


def plan_file_from_json(text: str | bytes, *, source: str = "plan file") -> PlanFile:
    """The plan that `text` holds.

    Raises:
        DataError: no JSON, an unknown or missing field, a value of the wrong type, another schema version.
    """
    from pydantic import ValidationError

    try:
        found = _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{source}: {first['msg']}" + (f" at {place}" if place else ""),
            given=place or None,
            hint="`qadvisor measure plan --save FILE` writes such files",
        ) from error
    if found.schema_version != SCHEMA_VERSION:
        raise DataError(
            f"{source}: schema version {found.schema_version}", given=str(found.schema_version), allowed=str(SCHEMA_VERSION)
        )
    return found


@lru_cache(maxsize=1)
def _adapter() -> "TypeAdapter[PlanFile]":
    from pydantic import TypeAdapter

    return TypeAdapter(PlanFile)
