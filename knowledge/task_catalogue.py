"""The catalogue of tasks: every task of the evidence and lm-evaluation-harness's usual names; and what a request means.

`catalog/tasks.csv` has one row a task. Its columns `parts` and `variants` name further tasks in short: `stem:3153` in the
row of `mmlu` is the task `mmlu_stem` with 3,153 items. A part's items are some of the whole's, a variant's (a language)
are its own. `source` says what the chance level follows from and where the items were counted (`seed`: handed over with
the first tables of evidence, not read again).
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from knowledge.errors import DataError, InvalidRequestError, UnknownNameError
from knowledge.tasks import METRICS, TASK_TYPES, TaskSpec, WeightedTask

_FILE = Path(__file__).parent / "catalog" / "tasks.csv"

GROUP_ALIASES = {
    "chat": "dialogue",
    "coding": "code",
    "perplexity": "language-modeling",
    "reasoning": "multi-step-reasoning",
    "maths": "math",
    "qa": "multi-document-qa",
    "summarisation": "summarization",
}
"""Other words for types and abilities."""

_GROUPS_BY_NAME = {"in-context-learning": ("mmlu", "ceval")}
"""Abilities answered by tasks that count as another one: Li et al. 2024 read in-context learning off MMLU and C-Eval."""

_FORMS = ("gsm8k", "long-context", "math", "gsm8k:2,mmlu:1")


@lru_cache(maxsize=1)
def all_tasks() -> dict[str, TaskSpec]:
    """Every known task by name, in the order of the catalogue; parts and variants behind their whole."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return {task.name: task for row in csv.DictReader(file) for task in _tasks(row)}


def find_task(name: str) -> TaskSpec:
    """The task called `name`, or one of whose aliases it is, without regard to case and `-` or `_`.

    Raises:
        UnknownNameError: nobody knows it; lists the nearest names.
    """
    found = _by_alias().get(_plain(name))
    if found is None:
        raise UnknownNameError.of("task", name, [*all_tasks(), *task_groups()], hint="`qadvisor tasks` lists them")
    return found


@lru_cache(maxsize=1)
def task_groups() -> dict[str, tuple[TaskSpec, ...]]:
    """Types and abilities with the tasks that stand for them.

    Those are the representative tasks, or where an ability has none all its tasks from which a loss can be computed.
    """
    tasks = [task for task in all_tasks().values() if task.part_of is None and not task.average]
    groups: dict[str, tuple[TaskSpec, ...]] = {}
    for kind in TASK_TYPES:
        groups[kind] = tuple(task for task in tasks if task.type == kind and task.representative)
    for ability in sorted({task.ability for task in tasks} - set(groups)):
        members = [task for task in tasks if task.ability == ability]
        groups[ability] = tuple(task for task in members if task.representative) or tuple(filter(_has_loss, members))
    by_name = {name: tuple(map(find_task, names)) for name, names in _GROUPS_BY_NAME.items()}
    return {name: members for name, members in (groups | by_name).items() if members}


def resolve_tasks(text: str) -> tuple[WeightedTask, ...]:
    """The tasks that a request names, with shares that sum to 1.

    `text` is a task, a type or ability (its representative tasks in equal parts), or several of these with weights,
    separated by commas: `gsm8k:2,mmlu`. A weight that is not given is 1.

    Raises:
        UnknownNameError: nobody knows a name; lists the nearest.
        InvalidRequestError: a weight is no positive number, the text is empty, or perplexity and accuracy tasks are mixed.
    """
    shares: dict[str, float] = {}
    for name, weight in _entries(text):
        members = _members(name)
        for task in members:
            shares[task.name] = shares.get(task.name, 0.0) + weight / len(members)
    total = sum(shares.values())
    result = tuple(WeightedTask(task=all_tasks()[name], weight=share / total) for name, share in shares.items())
    _refuse_mixture(result, text)
    return result


def _entries(text: str) -> Iterator[tuple[str, float]]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InvalidRequestError("no task is named", given=text, allowed=_FORMS)
    for part in parts:
        name, colon, number = part.rpartition(":")
        if not colon:
            yield part, 1.0
            continue
        try:
            weight = float(number)
        except ValueError:
            raise InvalidRequestError(
                f"the weight in {part!r} is no number", given=number, allowed="a number above 0"
            ) from None
        if not 0 < weight < float("inf"):
            raise InvalidRequestError(f"the weight in {part!r} must be above 0", given=number, allowed="a number above 0")
        yield name.strip(), weight


def _members(name: str) -> tuple[TaskSpec, ...]:
    """The task of exactly that name, else the group, else a task by alias."""
    plain = _plain(name)
    if (exact := _by_name().get(plain)) is not None:
        return (exact,)
    groups = {_plain(group): members for group, members in task_groups().items()}
    wanted = _plain(GROUP_ALIASES.get(plain.replace("_", "-"), plain))
    return groups.get(wanted) or (find_task(name),)


def _refuse_mixture(tasks: Iterable[WeightedTask], text: str) -> None:
    units = {item.task.unit if METRICS[item.task.metric].loss == "delta_nll" else "accuracy": item.task.name for item in tasks}
    if len(units) > 1:
        listed = ", ".join(f"{name} ({unit})" for unit, name in units.items())
        raise InvalidRequestError(
            f"losses of different units cannot be averaged: {listed}",
            given=text,
            allowed="tasks with accuracies, or tasks with perplexities of one unit",
            hint="ask for them one at a time",
        )


def _has_loss(task: TaskSpec) -> bool:
    kind = METRICS[task.metric].loss
    return kind == "delta_nll" or (kind == "relative" and task.chance is not None)


@lru_cache(maxsize=1)
def _by_name() -> dict[str, TaskSpec]:
    return {_plain(name): task for name, task in all_tasks().items()}


@lru_cache(maxsize=1)
def _by_alias() -> dict[str, TaskSpec]:
    return {_plain(alias): task for task in all_tasks().values() for alias in task.aliases} | _by_name()


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _tasks(row: dict[str, str]) -> Iterator[TaskSpec]:
    """The task of a row of the catalogue, its parts and its variants."""
    whole = _task(row)
    yield whole
    for column in ("parts", "variants"):
        for entry in row[column].split():
            suffix, _, items = entry.partition(":")
            yield replace(
                whole,
                name=f"{whole.name}_{suffix}",
                title=f"{whole.title}: {suffix.replace('_', ' ')}",
                items=int(items) if items else None,
                part_of=whole.name if column == "parts" else None,
                representative=False,
                aliases=(),
            )


def _task(row: dict[str, str]) -> TaskSpec:
    metrics = tuple(row["metrics"].split())
    unknown = [name for name in (row["metric"], *metrics) if name not in METRICS]
    if row["type"] not in TASK_TYPES or unknown:
        raise DataError(
            f"task catalogue: type or metric of {row['name']!r} is unknown", given=", ".join([row["type"], *unknown])
        )
    return TaskSpec(
        name=row["name"], title=row["title"], type=row["type"], ability=row["ability"], metric=row["metric"],
        metrics=metrics, chance=_number(row["chance"]), items=_integer(row["items"]), unit=row["unit"],
        context=_integer(row["context"]), representative=row["representative"] == "1", source=row["source"],
        aliases=tuple(row["aliases"].split()), average=row["ability"] == "average",
    )  # fmt: skip


def _number(text: str) -> float | None:
    return float(text) if text else None


def _integer(text: str) -> int | None:
    return int(text) if text else None
