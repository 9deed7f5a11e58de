"""Runs a plan: one model load, the baseline first, every cell from the same originals, one record a cell."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Literal, Protocol

from knowledge.errors import QAdvisorError, StoreError
from knowledge.measurements import (
    ComparabilityKey,
    Comparison,
    Environment,
    Measurement,
    ModelFacts,
    QuantizationFacts,
    RunError,
    RunRecord,
)
from knowledge.recipes import QuantRecipe
from measure.outputs import remove_leftovers, write_record
from measure.plan import Cell, Plan
from measure.presets import Protocol as Conventions
from measure.stats import flip_rate, paired_bootstrap
from measure.tasks import TaskPlan, TaskResult

_log = logging.getLogger(__name__)

_MESSAGE_LENGTH = 500


class Backend(Protocol):
    """What the runner needs of the heavy part: `measure.loading.TorchBackend`, or a small fake in tests."""

    def open(self) -> ModelFacts:
        """Load the model, once."""
        ...

    def environment(self) -> Environment:
        """On what the sweep runs."""
        ...

    def prepare(self, task: TaskPlan) -> None:
        """Build the samples of `task` and what it needs of the unquantized model."""
        ...

    def quantized(self, recipe: QuantRecipe, protocol: Conventions) -> AbstractContextManager[QuantizationFacts]:
        """Quantize, verify, and restore the originals at the end, whatever happened in between."""
        ...

    def score(self, task: TaskPlan) -> TaskResult:
        """Score the model as it stands."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Progress for whoever watches."""

    kind: Literal["loading", "quantizing", "scoring", "recorded"]
    cell: Cell | None = None
    record: RunRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a sweep did."""

    ok: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(ok=self.ok + other.ok, failed=self.failed + other.failed, skipped=self.skipped + other.skipped)


def run_plan(plan: Plan, backend: Backend, *, on_event: Callable[[Event], None] = lambda event: None) -> Summary:
    """Run the cells that are to do, write a record each, and go on after a cell that fails.

    Ctrl-C ends the sweep between two records: the cell at hand leaves none and runs again next time.

    Raises:
        StoreError: a record cannot be written (disk full, read-only folder); going on would lose results.
        QAdvisorError: the model cannot be loaded.
    """
    remove_leftovers(plan.folder.path)
    todo = plan.todo
    if not todo:
        return Summary(skipped=len(plan.cells))
    on_event(Event(kind="loading"))
    session = Session(plan, backend, on_event=on_event)
    session.run(todo)
    return Summary(ok=session.ok, failed=session.failed, skipped=len(plan.cells) - len(todo))


class Session:
    """One loaded model and what was found of it so far; runs any cells of its plan, in as many calls as one likes.

    Attributes:
        facts: the model as it was loaded.
        environment: on what it runs.
        records: by key; the baseline's are those that later cells are compared with.
        ok: cells measured.
        failed: cells recorded with an error.
    """

    def __init__(self, plan: Plan, backend: Backend, *, on_event: Callable[[Event], None] = lambda event: None) -> None:
        self.plan, self.backend, self.on_event = plan, backend, on_event
        self.facts, self.environment = backend.open(), backend.environment()
        self.records = dict(plan.folder.records)
        self.ok = self.failed = 0
        self._prepared: dict[str, RunError | None] = {}

    def run(self, cells: Sequence[Cell]) -> None:
        """Prepare the tasks, then quantize once for each run of cells with one recipe."""
        self.prepare(cells)
        for _, group in groupby(cells, key=lambda cell: (cell.spec.recipe, cell.protocol.name)):
            self.run_recipe(list(group))

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Prepare the tasks of `cells`; one that fails costs its own cells only."""
        for task in {cell.task.name: cell.task for cell in cells}.values():
            if task.name not in self._prepared:
                with _caught("prepare") as caught:
                    self.backend.prepare(task)
                self._prepared[task.name] = caught.error

    def run_recipe(self, cells: Sequence[Cell]) -> None:
        """Quantize once and score every task of the recipe."""
        runnable = []
        for cell in cells:
            error = self._prepared[cell.task.name]
            if error:
                self.record(cell, error=error)
            else:
                runnable.append(cell)
        if not runnable:
            return
        self.on_event(Event(kind="quantizing", cell=runnable[0]))
        done: set[str] = set()
        with _caught("quantize") as caught:
            start = time.perf_counter()
            with self.backend.quantized(runnable[0].recipe, runnable[0].protocol) as quantization:
                seconds = time.perf_counter() - start
                for cell in runnable:
                    self.run_cell(cell, quantization, seconds)
                    done.add(cell.spec.key)
        if caught.error:
            for cell in runnable:
                if cell.spec.key not in done:
                    self.record(cell, error=caught.error)

    def run_cell(self, cell: Cell, quantization: QuantizationFacts, quantize_seconds: float) -> None:
        """Score one task and write its record."""
        self.on_event(Event(kind="scoring", cell=cell))
        start = time.perf_counter()
        with _caught("score") as caught:
            result = self.backend.score(cell.task)
            measurements = self.compare(cell, result)
        seconds = {"quantize": round(quantize_seconds, 3), "score": round(time.perf_counter() - start, 3)}
        if caught.error:
            self.record(cell, error=caught.error, quantization=quantization, seconds=seconds)
        else:
            self.record(cell, result=replace(result, measurements=measurements), quantization=quantization, seconds=seconds)

    def record(
        self,
        cell: Cell,
        *,
        error: RunError | None = None,
        result: TaskResult | None = None,
        quantization: QuantizationFacts | None = None,
        seconds: dict[str, float] | None = None,
    ) -> None:
        """Write the record of a cell."""
        unquantized = cell.recipe.method.name == "none"
        record = RunRecord(
            key=cell.spec.key,
            spec=cell.spec,
            status="failed" if error else "ok",
            error=error,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds or {},
            model=self.facts,
            quantization=None if unquantized else quantization,
            comparability=_comparability(cell, result, self.facts) if result else None,
            measurements=result.measurements if result else [],
            samples=result.samples if result else {},
            details=result.details if result else {},
            environment=self.environment,
        )
        write_record(self.plan.folder.path, record)
        self.records[record.key] = record
        self.ok, self.failed = self.ok + (error is None), self.failed + (error is not None)
        self.on_event(Event(kind="recorded", cell=cell, record=record))

    def compare(self, cell: Cell, result: TaskResult) -> list[Measurement]:
        """The measurements with their difference to the baseline, where it scored the same samples."""
        baseline_cell = self.plan.baseline(cell.task)
        baseline = self.records.get(baseline_cell.spec.key) if baseline_cell else None
        if cell.recipe.method.name == "none" or baseline is None or baseline.status != "ok":
            return result.measurements
        if baseline.samples.get("id") != result.samples.get("id"):
            return result.measurements
        return [replace(m, against_baseline=_comparison(m, result, baseline, cell.spec.seed)) for m in result.measurements]


def _comparison(measurement: Measurement, result: TaskResult, baseline: RunRecord, seed: int) -> Comparison | None:
    column = measurement.per_sample
    other = next((m for m in baseline.measurements if m.metric == measurement.metric), None)
    if other is None or column is None or column not in baseline.samples:
        return None
    values, before = _numbers(result.samples[column]), _numbers(baseline.samples[column])
    weights = _numbers(result.samples[result.weights[column]]) if column in result.weights else None
    difference = paired_bootstrap(values, before, weights, seed=seed)
    return Comparison(
        baseline=other.value,
        delta=difference.delta,
        lower=difference.lower,
        upper=difference.upper,
        level=difference.level,
        resamples=difference.resamples,
        n=difference.n,
        flips=flip_rate(values, before) if column == result.correct else None,
    )


def _numbers(column: Sequence[float | int | str | None]) -> list[float]:
    return [float(value) for value in column if value is not None]


def _comparability(cell: Cell, result: TaskResult, facts: ModelFacts) -> ComparabilityKey:
    return ComparabilityKey(
        task=cell.task.name,
        task_version=result.task_version or cell.task.version,
        data_hash=result.data_hash or cell.task.data_hash,
        metric_version=cell.task.version,
        shots=result.shots,
        chat_template_hash=result.chat_template_hash,
        harness=result.harness,
        limit=result.limit,
        context=result.context,
        dtype=cell.spec.dtype,
        model_fingerprint=cell.spec.model_fingerprint,
        tokenizer_hash=facts.tokenizer_hash,
        seed=cell.spec.seed,
    )


class _Caught:
    error: RunError | None = None


@contextmanager
def _caught(stage: str) -> Iterator[_Caught]:
    """Turn whatever a library raises into a `RunError`, so that one cell cannot end the sweep.

    `StoreError` passes (records can no longer be kept), and so does everything that is no `Exception` (Ctrl-C).
    """
    caught = _Caught()
    try:
        yield caught
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - any library may raise anything, and the sweep must go on
        _log.debug("stage %s failed", stage, exc_info=True)
        caught.error = describe_error(error, stage)


def describe_error(error: Exception, stage: str) -> RunError:
    """An exception as a record keeps it, without its traceback."""
    if isinstance(error, QAdvisorError):
        return RunError(code=error.code, message=error.message, hint=error.hint, where=stage)
    kind = type(error).__name__
    text = " ".join(str(error).split())[:_MESSAGE_LENGTH]
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "out of memory" in text:
        return RunError(
            code="out_of_memory", message=f"out of memory: {text}", hint="a smaller --batch-size or --context", where=stage
        )
    return RunError(code="unexpected", message=f"{kind}: {text}", hint="run with --debug for the traceback", where=stage)
