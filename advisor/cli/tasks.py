"""`qadvisor tasks`: browse the tasks with their type, metric, chance level and number of items."""

from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import ListingGroup, new_app

app = new_app(cls=ListingGroup, help="Browse the tasks: type, metric, chance level, items.")

Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Show only tasks of this type.")]
Name = Annotated[str, typer.Argument(metavar="TASK", help="Task or one of its aliases.")]


@app.command("list")
def list_tasks(search: options.Search = None, type: Type = None, json: options.Json = False) -> None:
    """List the known tasks; a request may also name a type or an ability."""
    from knowledge.errors import UnknownNameError
    from knowledge.task_catalogue import all_tasks
    from knowledge.tasks import TASK_TYPES

    if type is not None and type not in TASK_TYPES:
        raise UnknownNameError.of("task type", type, TASK_TYPES)
    tasks = [
        task
        for task in all_tasks().values()
        if (type is None or task.type == type)
        and (search is None or search.lower() in f"{task.name} {task.title} {task.ability} {' '.join(task.aliases)}".lower())
    ]
    if json:
        output.write_json(output.versioned(tasks=[_fields(task) for task in tasks]))
        return
    rows = ((task.name, task.type, task.chance, task.items) for task in tasks)
    table = output.make_table(("task", "type", "chance", "items"), rows, right=("chance", "items"), whole=("type",))
    output.write_rich(table, output.count_line(len(tasks), "task"))


@app.command("show")
def show_task(name: Name, json: options.Json = False) -> None:
    """Show one task: how it is scored, its chance level and where that was read."""
    from knowledge.task_catalogue import find_task

    fields = _fields(find_task(name))
    if json:
        output.write_json(output.versioned(task=fields))
    else:
        output.write_rich(output.make_facts(fields))


def _fields(task: Any) -> dict[str, Any]:
    return {name: getattr(task, name) for name in task.__slots__}
