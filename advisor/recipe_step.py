"""One step of a recipe: a command or a script, where it was read, and what it leaves behind."""

from dataclasses import dataclass
from typing import Literal

from knowledge.recipes import QuantRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command line or a Python script."""

    title: str
    command: str
    source: str
    """Where the command was read: repository, commit and path, or documentation page."""
    language: Literal["bash", "python"] = "bash"
    output: str | None = None
    """Folder or file that the step writes."""


def as_dict(step: Step) -> dict[str, object]:
    """Plain values for JSON."""
    return {name: getattr(step, name) for name in step.__slots__}


Steps = tuple[Step, ...]
Notes = tuple[str, ...]


def folder_for(model: str, recipe: QuantRecipe) -> str:
    """A folder name for the result: the model's last name and the scheme's."""
    return f"{model.rstrip('/').split('/')[-1]}-{recipe.scheme.weights_name.replace(':', '-')}"
