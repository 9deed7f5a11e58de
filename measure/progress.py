"""Progress for people: bars on stderr, and a line a result on stdout."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from knowledge.measurements import RunRecord
from measure.plan import Cell
from measure.render import record_line
from measure.runner import Event


@contextmanager
def share_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; what is given tells it what is done, of how much."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class SweepProgress:
    """A bar on stderr and a line a result on stdout (none with JSON)."""

    def __init__(self, todo: int, records: list[RunRecord], *, as_json: bool) -> None:
        self._records, self._as_json = records, as_json
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=Console(file=sys.stderr), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("loading", total=todo)

    def __enter__(self) -> Callable[[Event], None]:
        self._bar.start()
        return self._watch

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def _watch(self, event: Event) -> None:
        if event.cell is not None:
            self._bar.update(self._task, description=f"{event.kind} {_name(event.cell)}")
        if event.record is not None:
            self._records.append(event.record)
            self._bar.advance(self._task)
            if not self._as_json:
                sys.stdout.write(record_line(event.record) + "\n")
                sys.stdout.flush()


def _name(cell: Cell) -> str:
    return f"{cell.spec.recipe} {cell.task.name}"
