"""The grid of a sweep (recipe x task): which cells there are, what is done already, and what each will need."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from knowledge.errors import InvalidRequestError, QAdvisorError
from knowledge.measurements import RunRecord, RunSpec
from knowledge.recipes import QuantRecipe
from measure.models import ModelSource
from measure.outputs import Folder, Place, read_folder
from measure.presets import Protocol
from measure.tasks import TaskPlan

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Data types to compute in, with their bytes."""

State = Literal["todo", "done", "failed", "not_applicable", "no_data"]

_USUAL_CONTEXT = 2048
"""Tokens for the memory of a deployed recipe where the sweep states no context."""

_RECURRENT = ("mamba", "mamba2", "falcon_mamba", "rwkv")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRequest:
    """Text for methods that need data."""

    text: Path | None = None
    samples: int = 128
    tokens_per_sample: int = 512

    def hash(self, seed: int) -> str:
        """Sixteen hexadecimal digits over the request, the seed and the text."""
        from measure.text import load_text

        content = [load_text(self.text, part="calibrate").sha256, self.samples, self.tokens_per_sample, seed]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings that all cells of a sweep share."""

    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0
    batch_size: int = 8
    """Sequences a forward to start with; halved when memory runs out. Decides no result."""
    trust_remote_code: bool = False
    calibration: CalibrationRequest = field(default_factory=CalibrationRequest)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InvalidRequestError(f"unknown dtype {self.dtype!r}", given=self.dtype, allowed=list(DTYPES))
        if self.device.partition(":")[0] not in ("cpu", "cuda", "mps"):
            raise InvalidRequestError(
                f"unknown device {self.device!r}", given=self.device, allowed=["cpu", "cuda", "cuda:N", "mps"]
            )
        if self.batch_size < 1:
            raise InvalidRequestError("a batch has at least one sequence", given=str(self.batch_size), allowed="1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One recipe on one task."""

    spec: RunSpec
    recipe: QuantRecipe
    protocol: Protocol
    task: TaskPlan
    status: State
    """`failed`: an earlier run left its error; it is run again only when asked."""
    reason: str | None = None
    memory_bytes: int | None = None
    """Estimated memory of the run on its device: simulated quantization keeps weights in the computing dtype."""
    deployed_bytes: int | None = None
    """Memory that the recipe takes when it is deployed, at the task's context and one sequence (`knowledge.memory`); None
    where its checkpoint format is not known there."""
    seconds: float | None = None
    """Median time of earlier cells of this model and task; None where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep: cells in the order in which they run, the baseline first."""

    source: ModelSource
    settings: Settings
    cells: tuple[Cell, ...]
    folder: Folder

    @property
    def todo(self) -> list[Cell]:
        """Cells that will run."""
        return [cell for cell in self.cells if cell.status == "todo"]

    def baseline(self, task: TaskPlan) -> Cell | None:
        """The cell of the unquantized model on `task`."""
        return next((cell for cell in self.cells if cell.recipe.method.name == "none" and cell.task == task), None)


def make_plan(
    source: ModelSource,
    recipes: Sequence[tuple[QuantRecipe, Protocol]],
    tasks: Sequence[TaskPlan],
    *,
    settings: Settings,
    output: Place | Folder,
    retry_failed: bool = False,
    missing_data: Mapping[str, str] | None = None,
) -> Plan:
    """The cells of `recipes` x `tasks`; those with a record in `output` are done.

    Args:
        source: the model.
        recipes: stated recipes with their protocols, the baseline among them (see `measure.presets.expand_recipes`).
        tasks: see `measure.tasks.plan_tasks`.
        settings: device, dtype, seed and the like.
        output: place of the records, or the records themselves where they have been read.
        retry_failed: run cells again that failed before.
        missing_data: tasks whose data are not here, with the reason; their cells are left out.
    """
    folder = output if isinstance(output, Folder) else read_folder(output)
    memory = estimate_memory(source, settings)
    cells = []
    for recipe, protocol in sorted(recipes, key=lambda pair: pair[0].method.name != "none"):
        for task in tasks:
            spec = _spec(source, recipe, protocol, task, settings)
            record = folder.records.get(spec.key)
            if record is not None and record.status == "failed" and retry_failed:
                record = None
            status, reason = _state(source, recipe, record, (missing_data or {}).get(task.name))
            cells.append(
                Cell(
                    spec=spec,
                    recipe=recipe,
                    protocol=protocol,
                    task=task,
                    status=status,
                    reason=reason,
                    memory_bytes=memory,
                    deployed_bytes=_deployed_bytes(source, recipe, task),
                    seconds=_usual_seconds(folder, spec),
                )
            )
    return Plan(source=source, settings=settings, cells=tuple(cells), folder=folder)


def _state(source: ModelSource, recipe: QuantRecipe, record: RunRecord | None, missing: str | None) -> tuple[State, str | None]:
    """What will happen to a cell, and why."""
    if reason := _not_applicable(source, recipe):
        return "not_applicable", reason
    if record is not None:
        return ("failed", record.error.message) if record.error else ("done", None)
    return ("no_data", missing) if missing else ("todo", None)


def _deployed_bytes(source: ModelSource, recipe: QuantRecipe, task: TaskPlan) -> int | None:
    from knowledge.memory import estimate_memory as estimate_deployed
    from knowledge.model_config import spec_from_config

    try:
        spec = spec_from_config(source.config, name=source.name, source=str(source.path))
        context = task.options.context or _USUAL_CONTEXT
        return estimate_deployed(spec, recipe.scheme, method=recipe.method.name, context=context).total_bytes
    except QAdvisorError:
        return None


def _spec(source: ModelSource, recipe: QuantRecipe, protocol: Protocol, task: TaskPlan, settings: Settings) -> RunSpec:
    needs_data = recipe.method.calibration == "data"
    return RunSpec(
        model=source.name,
        model_fingerprint=source.fingerprint,
        recipe=recipe.name,
        protocol=protocol.name,
        task=task.name,
        task_hash=task.hash,
        options=task.shown_options,
        calibration=settings.calibration.hash(settings.seed) if needs_data else None,
        seed=settings.seed,
        dtype=settings.dtype,
        device=settings.device.partition(":")[0],
    )


def _not_applicable(source: ModelSource, recipe: QuantRecipe) -> str | None:
    if recipe.scheme.kv_cache is not None and source.family in _RECURRENT:
        return f"{source.family} has no KV cache"
    return None


def estimate_memory(source: ModelSource, settings: Settings) -> int:
    """Bytes that the weights take while a sweep runs: in the computing dtype, and on a CPU once more for the originals.

    On a GPU the originals stay in host memory. Logits and activations of a batch come on top. What a recipe takes when it
    is deployed is another figure: `qadvisor memory`.
    """
    stored = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2}.get(_stored_dtype(source), 2)
    parameters = source.weight_bytes // stored
    return parameters * DTYPES[settings.dtype] * (2 if settings.device == "cpu" else 1)


def _stored_dtype(source: ModelSource) -> str:
    with source.weight_files[0].open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return next((str(entry["dtype"]) for name, entry in header.items() if name != "__metadata__"), "BF16")


def _usual_seconds(folder: Folder, spec: RunSpec) -> float | None:
    def alike(record: RunRecord) -> bool:
        other = record.spec
        return record.status == "ok" and (other.model_fingerprint, other.task_hash, other.device, other.dtype) == (
            spec.model_fingerprint, spec.task_hash, spec.device, spec.dtype,
        )  # fmt: skip

    times = [sum(record.seconds.values()) for record in folder.records.values() if alike(record)]
    return median(times) if times else None


def plan_as_dict(plan: Plan) -> dict[str, object]:
    """The plan as JSON-ready data: the model, the settings and one entry a cell."""
    return {
        "schema_version": 1,
        "model": {"name": plan.source.name, "family": plan.source.family, "fingerprint": plan.source.fingerprint},
        "settings": {"device": plan.settings.device, "dtype": plan.settings.dtype, "seed": plan.settings.seed},
        "cells": [
            {
                "key": cell.spec.key, "recipe": cell.spec.recipe, "protocol": cell.protocol.name, "task": cell.task.name,
                "status": cell.status, "reason": cell.reason, "memory_bytes": cell.memory_bytes,
                "deployed_bytes": cell.deployed_bytes, "seconds": cell.seconds,
                "spec": asdict(cell.spec),
            }
            for cell in plan.cells
        ],
        "unreadable": plan.folder.unreadable,
    }  # fmt: skip
