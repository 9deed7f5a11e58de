"""The driver of a sweep on a cluster: which workers there are, what each does, and what is done when one is lost."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from knowledge.errors import QAdvisorError, StoreError
from knowledge.measurements import Environment, ModelFacts, RunError, RunRecord
from measure.outputs import read_records, write_record
from measure.plan import Plan
from measure.runner import Event, Summary
from measure.schedule import ATTEMPTS, Job, Schedule
from measure.worker import Answer, Assignment, Worker

_log = logging.getLogger(__name__)

_WAIT_S = 1.0


@dataclass(slots=True, eq=False, kw_only=True)
class _Actor:
    """A worker as the driver sees it."""

    plan: int
    handle: Any


@dataclass(slots=True)
class _Known:
    """What the first worker of a plan said."""

    facts: ModelFacts
    environment: Environment


class Driver:
    """Starts workers, hands out jobs and collects what was recorded, until nothing is left.

    Args:
        ray: the connected package.
        plans: one a model.
        assignments: what a worker of each plan is told.
        needs: resources of a worker of each plan (`CPU`, `GPU`, `memory`).
        limit: workers at once.
        on_event: told of every cell that is recorded.
    """

    def __init__(
        self,
        ray: Any,
        plans: Sequence[Plan],
        assignments: Sequence[Assignment],
        needs: Sequence[dict[str, float]],
        *,
        limit: int,
        on_event: Callable[[Event], None],
    ) -> None:
        self.ray, self.plans, self.assignments, self.needs = ray, plans, assignments, needs
        self.limit, self.on_event = limit, on_event
        self.schedule = Schedule(plans)
        self.actor_class = ray.remote(Worker)
        self.busy: dict[Any, tuple[_Actor, Job | None]] = {}
        """What each call that is under way is: loading (no job) or a job."""
        self.idle: list[_Actor] = []
        self.known: dict[int, _Known] = {}
        self.lost_while_loading = [0] * len(plans)
        self.summary = Summary()

    def run(self) -> Summary:
        """Work until no job is left; see `measure.cluster.run_on_ray` for the errors."""
        self.on_event(Event(kind="loading"))
        try:
            while len(self.schedule):
                self._start_actors()
                self._hand_out()
                ready, _ = self.ray.wait(list(self.busy), num_returns=1, timeout=_WAIT_S)
                for call in ready:
                    self._receive(call)
        finally:
            for actor in [*self.idle, *(actor for actor, _ in self.busy.values())]:
                self.ray.kill(actor.handle)
        return self.summary

    def _start_actors(self) -> None:
        """Start workers while there is room, for the plan with the most jobs that nobody is free for."""
        while len(self.idle) + len(self.busy) < self.limit:
            plan = max(range(len(self.plans)), key=self._unserved)
            if self._unserved(plan) <= 0:
                return
            need = self.needs[plan]
            handle = self.actor_class.options(
                num_cpus=need["CPU"], num_gpus=need["GPU"], memory=int(need["memory"]), max_restarts=0
            ).remote(self.assignments[plan])
            keys = [cell.spec.key for cell in self.plans[plan].todo]
            self.busy[handle.open.remote(keys)] = (_Actor(plan=plan, handle=handle), None)

    def _unserved(self, plan: int) -> int:
        loading = [actor for actor, job in self.busy.values() if job is None]
        return self.schedule.waiting(plan) - sum(actor.plan == plan for actor in [*self.idle, *loading])

    def _hand_out(self) -> None:
        """Give every idle worker a job; one whose plan has none left makes room."""
        for actor in list(self.idle):
            job = self.schedule.take(actor.plan)
            if job is not None:
                self.idle.remove(actor)
                self.on_event(Event(kind="quantizing", cell=job.cells[0]))
                self.busy[actor.handle.run.remote(job.keys)] = (actor, job)
            elif not self.schedule.waiting(actor.plan):
                self.idle.remove(actor)
                self.ray.kill(actor.handle)

    def _receive(self, call: Any) -> None:
        """Take the end of a call: an answer, or the loss of its worker."""
        actor, job = self.busy.pop(call)
        try:
            answer: Answer = self.ray.get(call)
        except self.ray.exceptions.RayTaskError as error:
            self.ray.kill(actor.handle)
            raise QAdvisorError(f"a worker failed: {_last_line(error)}", hint="run with --debug for the traceback") from error
        except self.ray.exceptions.RayError as error:
            self._lost(actor, job, error)
            return
        self.idle.append(actor)
        answer.raise_error()
        if job is None and answer.facts is not None and answer.environment is not None:
            self.known[actor.plan] = _Known(answer.facts, answer.environment)
            self.lost_while_loading[actor.plan] = 0
        elif job is not None:
            self._collect(job)

    def _lost(self, actor: _Actor, job: Job | None, error: Exception) -> None:
        reason = _last_line(error)
        _log.warning("a worker was lost: %s", reason)
        self.ray.kill(actor.handle)  # it may live on where only the way to it was lost
        if job is None:
            self.lost_while_loading[actor.plan] += 1
            if self.lost_while_loading[actor.plan] >= ATTEMPTS:
                raise QAdvisorError(
                    f"{ATTEMPTS} workers were lost while they loaded {self.plans[actor.plan].source.name}: {reason}",
                    hint="see that qadvisor is installed on all nodes and that the model fits their memory",
                ) from error
        elif not self.schedule.give_back(job):
            self._give_up(job, reason)

    def _give_up(self, job: Job, reason: str) -> None:
        """Record the cells that no worker lived to record."""
        place = self.plans[job.plan].folder.path
        found = read_records(place, [cell.spec for cell in job.cells])
        for cell in job.cells:
            if cell.spec.key not in found:
                message = f"{ATTEMPTS} workers were lost on this recipe: {reason}"
                record = RunRecord(
                    key=cell.spec.key,
                    spec=cell.spec,
                    status="failed",
                    error=RunError(code="worker_lost", message=message, hint="more memory, or a smaller --batch-size"),
                    started=datetime.now(UTC).isoformat(timespec="seconds"),
                    model=self.known[job.plan].facts,
                    environment=self.known[job.plan].environment,
                )
                write_record(place, record)
        self._collect(job)

    def _collect(self, job: Job) -> None:
        """Read the records of a job and tell of them."""
        self.schedule.finish(job)
        place = self.plans[job.plan].folder.path
        found = read_records(place, [cell.spec for cell in job.cells])
        for cell in job.cells:
            record = found.get(cell.spec.key)
            if record is None:
                raise StoreError(
                    f"a worker measured {cell.spec.recipe} on {cell.task.name}, but its record is not in {place}",
                    given=str(place),
                    allowed="a folder that all nodes share, or the URL of an object store",
                    hint="choose another --output",
                )
            failed = record.status == "failed"
            self.summary += Summary(ok=int(not failed), failed=int(failed))
            self.on_event(Event(kind="recorded", cell=cell, record=record))


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
