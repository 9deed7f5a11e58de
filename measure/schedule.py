"""Which cells a free worker takes next: jobs of one model and recipe, the baseline first, again after a lost worker.

Pure bookkeeping, so that it can be tested without a cluster.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from measure.plan import Cell, Plan

ATTEMPTS = 3
"""Workers that a job may take down before it is given up: by then it is the job that kills them, most often by its memory."""


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """The cells of one recipe of one plan: they share one quantization."""

    plan: int
    """Position of the plan."""
    cells: list[Cell]
    attempts: int = 0
    """Workers that took it."""

    @property
    def keys(self) -> list[str]:
        """Keys of the cells."""
        return [cell.spec.key for cell in self.cells]


class Schedule:
    """Jobs of several plans.

    Every job of a plan waits for the plan's baseline, with whose record it compares its own.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._baselines: dict[int, Job] = {}
        self._waiting: dict[int, deque[Job]] = {}
        self._open: set[Job] = set()
        for position, plan in enumerate(plans):
            jobs = [
                Job(plan=position, cells=list(cells))
                for _, cells in groupby(plan.todo, key=lambda cell: (cell.spec.recipe, cell.protocol.name))
            ]
            if jobs and jobs[0].cells[0].recipe.method.name == "none":
                self._baselines[position] = jobs[0]
            self._waiting[position] = deque(jobs)
            self._open.update(jobs)

    def __len__(self) -> int:
        """Jobs that are neither finished nor given up."""
        return len(self._open)

    def waiting(self, plan: int) -> int:
        """Jobs of a plan that no worker has taken."""
        return len(self._waiting[plan])

    def take(self, plan: int) -> Job | None:
        """The next job of a plan; None where there is none, or while all wait for the baseline."""
        jobs = self._waiting[plan]
        baseline = self._baselines.get(plan)
        if not jobs or (baseline is not None and jobs[0] is not baseline):
            return None
        job = jobs.popleft()
        job.attempts += 1
        return job

    def finish(self, job: Job) -> None:
        """A job is done, and with a baseline the way is free for the rest of its plan."""
        self._open.discard(job)
        if self._baselines.get(job.plan) is job:
            del self._baselines[job.plan]

    def give_back(self, job: Job) -> bool:
        """Put the job of a lost worker first in line again; False where it has used up its attempts and must be finished."""
        if job.attempts >= ATTEMPTS:
            return False
        self._waiting[job.plan].appendleft(job)
        return True
