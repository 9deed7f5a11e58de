"""Work in a second thread, for what leaves Python's lock alone: DuckDB plans and runs a query while NumPy forecasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Generic, TypeVar

Result = TypeVar("Result")


class _Work(Generic[Result]):
    """A call in a thread of its own."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._found: list[Result] = []
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error

    def wait(self) -> None:
        self._thread.join()

    def result(self) -> Result:
        self.wait()
        if self._error is not None:
            raise self._error
        return self._found[0]


@contextmanager
def in_background(work: Callable[[], Result]) -> Iterator[Callable[[], Result]]:
    """Start `work`; inside, the value is a function that waits for its result, or raises what it raised.

    The block is left when the work is done, whether its result was asked for or not: nothing that it uses is closed before.
    """
    running = _Work(work)
    try:
        yield running.result
    finally:
        running.wait()
