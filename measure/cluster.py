"""A sweep on a Ray cluster: an actor for each model that is loaded, a job for each recipe, records written by the workers.

The driver hands out jobs, reads back what the workers recorded, and replaces workers that are lost. Results do not depend on
who measures: a worker runs the same `measure.runner.Session` on the same cells as a sweep on one machine.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from knowledge.errors import InvalidRequestError, MissingDependencyError, QAdvisorError
from measure.driver import Driver
from measure.environment import package_version
from measure.outputs import Place, remove_leftovers
from measure.plan import Plan
from measure.runner import Event, Summary
from measure.sweep import RunOptions, SweepRequest
from measure.worker import Assignment

LIBRARY_BYTES = 2 << 30
"""Memory of a worker beside its weights: torch and the quantization libraries loaded, and batches of activations."""

_STARTS = 3
"""Tries to start a cluster here: Ray gives its processes 30 s, too few on a machine with much else to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """How a sweep uses a cluster."""

    address: str | None = None
    """Of the cluster; `auto` finds the one that runs on this machine. None: `RAY_ADDRESS`, else one is started here and stopped
    afterwards."""
    workers: int | None = None
    """Workers at once; None = as many as the cluster has room for."""
    cpus: float = 1.0
    """CPU cores of a worker."""
    gpus: float | None = None
    """GPUs of a worker, a fraction where several share one; None = 1 on `cuda`, else 0."""


def run_on_ray(
    request: SweepRequest,
    plans: Sequence[Plan],
    *,
    cluster: ClusterOptions,
    run: RunOptions,
    on_event: Callable[[Event], None] = lambda event: None,
    backend: str | None = None,
) -> Summary:
    """Run the cells of `plans` that are to do on a Ray cluster.

    A worker that is lost is replaced and its job done again, without the cells that it had recorded; a job that loses
    `measure.schedule.ATTEMPTS` workers is recorded as failed. Ctrl-C stops the workers; what they recorded stays.

    Args:
        request: what was asked for.
        plans: its plans, one a model, in the order of its models.
        cluster: address and resources.
        run: what to do again and what is allowed.
        on_event: told of every cell that is recorded.
        backend: `module:class` to measure with, for tests.

    Raises:
        MissingDependencyError: the extra `ray` is not installed.
        InvalidRequestError: no node has the resources that a worker needs.
        StoreError: a record cannot be written, or does not arrive where it can be read.
        QAdvisorError: a model cannot be loaded, a node has another version, no cluster answers.
    """
    skipped = sum(len(plan.cells) - len(plan.todo) for plan in plans)
    if not any(plan.todo for plan in plans):
        return Summary(skipped=skipped)
    remove_leftovers(plans[0].folder.path)
    asked = request.portable()
    assignments = [
        Assignment(
            request=replace(asked, models=(model,), device=request.device.partition(":")[0]),
            output=_absolute(plan.folder.path),
            run=replace(run, check_data=False),
            version=package_version("qadvisor"),
            **({"backend": backend} if backend else {}),
        )
        for model, plan in zip(asked.models, plans, strict=True)
    ]
    with connected(cluster.address) as ray:
        needs = [worker_needs(plan, cluster) for plan in plans]
        room = min(_room(ray.nodes(), need) for need in needs)
        driver = Driver(ray, plans, assignments, needs, limit=min(cluster.workers or room, room), on_event=on_event)
        summary = driver.run()
    return replace(summary, skipped=skipped)


def _absolute(place: Place) -> str:
    return str(place.resolve()) if isinstance(place, Path) else str(place)


def worker_needs(plan: Plan, cluster: ClusterOptions) -> dict[str, float]:
    """Resources that a worker of `plan` declares: `CPU`, `GPU`, and `memory` in bytes of the host.

    The host holds the weights that are restored after each recipe, and on a CPU also those in use: the plan's estimate
    covers both cases (`measure.plan.estimate_memory`).
    """
    gpus = cluster.gpus if cluster.gpus is not None else float(plan.settings.device.startswith("cuda"))
    memory = max((cell.memory_bytes or 0 for cell in plan.cells), default=0) + LIBRARY_BYTES
    return {"CPU": cluster.cpus, "GPU": gpus, "memory": float(memory)}


def _room(nodes: Sequence[dict[str, Any]], needs: dict[str, float]) -> int:
    """Workers with these needs that the cluster has room for."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    wanted = {name: amount for name, amount in needs.items() if amount > 0}
    room = sum(min(int(node.get(name, 0) / amount) for name, amount in wanted.items()) for node in alive)
    if room == 0:
        largest = {name: max((node.get(name, 0) for node in alive), default=0) for name in wanted}
        raise InvalidRequestError(
            f"no node of the cluster has room for a worker, which needs {_words(wanted)}",
            given=_words(wanted),
            allowed=f"at most {_words(largest)}",
            hint="add a node, or ask for less: a smaller --dtype, --cpus, --gpus",
        )
    return room


def _words(resources: dict[str, float]) -> str:
    return ", ".join(
        f"{amount / 1e9:.1f} GB" if name == "memory" else f"{amount:g} {name}" for name, amount in resources.items()
    )


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster; one that was started here is stopped at the end, a connection that was there stays."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of a default that is to change
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingDependencyError.of("ray", extra="ray", purpose="measuring on a cluster") from error
    if ray.is_initialized():
        yield ray
        return
    _connect(ray, address or os.environ.get("RAY_ADDRESS") or "local")
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    local = {"include_dashboard": False} if address == "local" else {}
    for start in range(_STARTS if local else 1, 0, -1):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except Exception as error:  # of many kinds, the plain one among them
            ray.shutdown()
            if start == 1:
                raise QAdvisorError(
                    f"no Ray cluster: {' '.join(str(error).split())[:300]}",
                    given=address,
                    allowed="HOST:PORT of a cluster, auto for the one on this machine, or none to start one here",
                ) from error
        else:
            return
