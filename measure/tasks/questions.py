"""Questions for judged tasks, read from JSON lines of the user; nothing heavy is imported here."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from measure.errors import TaskDataError

if TYPE_CHECKING:
    from pydantic import ConfigDict

    from measure.tasks import TaskPlan

Question = TypeVar("Question", "Conversation", "Instruction")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a user says turn by turn, as a line of MT-bench's question.jsonl has it."""

    __pydantic_config__: ClassVar["ConfigDict"] = {"extra": "ignore"}

    question_id: int | str
    turns: list[str]
    category: str | None = None
    reference: list[str] | None = None
    """Right answers by turn, where there are such."""

    @property
    def id(self) -> str:
        """Name of the question in the record."""
        return str(self.question_id)

    def reference_of(self, turn: int) -> str | None:
        """The right answer of a turn, if one is known."""
        return self.reference[turn] if self.reference and turn < len(self.reference) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """An instruction with the constraints that an answer must meet."""

    __pydantic_config__: ClassVar["ConfigDict"] = {"extra": "ignore"}

    id: str
    instruction: str
    constraints: list[str]
    group: str
    """Instructions of a group differ in how many constraints they have."""
    level: int


def data_file(task: "TaskPlan") -> Path | None:
    """Where the questions of a judged task lie: `TASK.jsonl` in the folder of own tasks; None where there is no such folder."""
    folder = task.options.task_dir
    return None if folder is None else folder / f"{task.name}.jsonl"


def read_conversations(task: "TaskPlan") -> list[Conversation]:
    """The conversations of a task.

    Raises:
        TaskDataError: the file is not there, or a line is no conversation.
    """
    return _read(task, Conversation, lambda question: bool(question.turns))


def read_instructions(task: "TaskPlan") -> list[Instruction]:
    """The instructions of a task.

    Raises:
        TaskDataError: the file is not there, or a line is no instruction.
    """
    return _read(task, Instruction, lambda question: bool(question.constraints))


def _read(task: "TaskPlan", kind: type[Question], usable: Callable[[Question], bool]) -> list[Question]:
    from pydantic import TypeAdapter, ValidationError

    path = data_file(task)
    wanted = f"{task.name}.jsonl in --task-dir, one JSON object a line"
    if path is None or not path.is_file():
        raise TaskDataError(f"the questions of {task.name} are not here", given=str(path or task.name), allowed=wanted)
    adapter: Any = TypeAdapter(kind)
    found: list[Question] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            question = adapter.validate_python(json.loads(line))
        except (json.JSONDecodeError, ValidationError) as error:
            raise TaskDataError(f"{path.name} line {number} is no {kind.__name__.lower()}", given=line[:80]) from error
        if not usable(question):
            raise TaskDataError(f"{path.name} line {number} asks nothing", given=line[:80])
        found.append(question)
    if not found:
        raise TaskDataError(f"{path.name} is empty", given=str(path))
    return found[: task.options.limit]
