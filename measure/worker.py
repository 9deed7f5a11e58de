"""One worker of a sweep on a cluster: holds one model and measures the cells it is told to.

It is given a request and names and answers with small values; records go straight to where they belong. Nothing here knows
Ray: `measure.cluster` makes it an actor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from knowledge import errors
from knowledge.errors import DataError, QAdvisorError
from knowledge.measurements import Environment, ModelFacts, RunRecord
from measure.environment import package_version
from measure.outputs import Folder, find_place, read_records
from measure.plan import Cell
from measure.runner import Session
from measure.sweep import RunOptions, SweepRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a worker is for."""

    request: SweepRequest
    """Of one model, with absolute paths."""
    output: str
    """Folder or URL of the records, as every node sees it."""
    run: RunOptions
    version: str | None = None
    """qadvisor's version where the sweep was started."""
    backend: str = "measure.backend:TorchBackend"
    """`module:class` that is called with a `ModelSource` and `Settings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker says: facts after loading, or an error as the program's own kind; exceptions do not survive the way."""

    facts: ModelFacts | None = None
    environment: Environment | None = None
    error: tuple[str, dict[str, object]] | None = None
    """Class in `knowledge.errors`, and its `as_dict()`."""

    def raise_error(self) -> None:
        """Raise the error, if there is one, as the worker did."""
        if self.error is not None:
            name, content = self.error
            kind: type[QAdvisorError] = getattr(errors, name, QAdvisorError)
            given, allowed, hint = content["given"], content["allowed"], content["hint"]
            raise kind(str(content["message"]), given=given, allowed=allowed, hint=hint)  # type: ignore[arg-type]


class Worker:
    """See the module's head."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._session: Session | None = None
        self._cells: dict[str, Cell] = {}

    def open(self, keys: Sequence[str]) -> Answer:
        """Load the model and prepare the tasks of the cells `keys`."""
        try:
            session = self._session = self._load(keys)
            session.prepare([self._cells[key] for key in keys])
        except QAdvisorError as error:
            return _refusal(error)
        return Answer(facts=session.facts, environment=session.environment)

    def run(self, keys: Sequence[str]) -> Answer:
        """Measure those of the cells `keys` that have no record yet; all are of one recipe.

        A job may have been another worker's before, so what that one recorded is looked up and not measured again.
        """
        session = self._session
        if session is None:
            raise QAdvisorError("the worker has no model", hint="call open() first")
        cells = [self._cells[key] for key in keys]
        baselines = [baseline for cell in cells if (baseline := session.plan.baseline(cell.task))]
        try:
            needed = {cell.spec.stem: cell.spec for cell in [*baselines, *cells]}
            found = read_records(session.plan.folder.path, needed.values())
            session.records |= found
            session.run([cell for key, cell in zip(keys, cells, strict=True) if not self._is_done(found.get(key))])
        except QAdvisorError as error:
            return _refusal(error)
        return Answer()

    def _is_done(self, record: RunRecord | None) -> bool:
        return record is not None and (record.status == "ok" or not self._assignment.run.retry_failed)

    def _load(self, keys: Sequence[str]) -> Session:
        asked = self._assignment
        here = package_version("qadvisor")
        if asked.version != here:
            raise QAdvisorError(
                f"a node has qadvisor {here}, the sweep was started with {asked.version}",
                given=here,
                allowed=asked.version,
                hint="install one version on all nodes",
            )
        folder = Folder(path=find_place(asked.output))
        [plan] = asked.request.plans(folder, asked.run)
        self._cells = {cell.spec.key: cell for cell in plan.cells}  # a key is a hash, and there may be thousands
        if missing := set(keys) - self._cells.keys():
            raise DataError(
                f"{len(missing)} cells of {plan.source.name} are other ones on this node",
                given=asked.request.models[0],
                allowed="the same model and text files on all nodes",
                hint="put models and texts on a file system that all nodes share",
            )
        module, _, name = asked.backend.partition(":")
        return Session(plan, getattr(import_module(module), name)(plan.source, plan.settings))


def _refusal(error: QAdvisorError) -> Answer:
    return Answer(error=(type(error).__name__, error.as_dict()))
