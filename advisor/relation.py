"""The candidate relation: what rules and predictor see of a request, column by column."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from advisor.costs import Costs, active_share, params_b
from knowledge.hardware import HardwareSpec
from knowledge.models import ModelSpec
from knowledge.tasks import TaskSpec
from knowledge.values import value

Columns = dict[str, Any]


@value
class Setting:
    """What holds for every candidate of a request."""

    spec: ModelSpec
    context: int
    batch: int
    budget_bytes: int
    hardware: HardwareSpec | None
    objective: str


def model_columns(spec: ModelSpec, *, has_kv_cache: bool) -> Columns:
    """Facts of the model, under the names of the candidate relation; None is unknown."""
    size = params_b(spec)
    grouped = spec.heads / spec.kv_heads if spec.heads and spec.kv_heads else None
    return {
        "model": spec.name,
        "family": spec.family,
        "params_b": size,
        "active_params_b": size * active_share(spec),
        "moe": spec.experts is not None,
        "tuned": spec.tuned,
        "reasoning": spec.reasoning,
        "gqa_ratio": grouped,
        "attention_bias": spec.attention_bias,
        "has_kv_cache": has_kv_cache,
    }


def task_columns(task: TaskSpec) -> Columns:
    """Facts of the task."""
    return {"task": task.name, "task_type": task.type, "ability": task.ability, "metric": task.metric}


def setting_columns(setting: Setting) -> Columns:
    """Facts of the request and its device."""
    device = setting.hardware
    return {
        "context": setting.context,
        "batch": setting.batch,
        "budget_bytes": setting.budget_bytes,
        "hardware": device.name if device else None,
        "vendor": device.vendor if device else None,
        "compute_capability": device.compute_capability if device else None,
        "fp8_hardware": device.fp8_hardware if device else None,
        "fp4_hardware": device.fp4_hardware if device else None,
        "objective": setting.objective,
    }


def request_columns(setting: Setting, tasks: Sequence[TaskSpec], *, has_kv_cache: bool) -> Columns:
    """Columns about the request, one row a task."""
    per_task = [task_columns(task) for task in tasks]
    names = {name: np.array([row[name] for row in per_task], dtype=object) for name in per_task[0]}
    return names | model_columns(setting.spec, has_kv_cache=has_kv_cache) | setting_columns(setting)


def size_columns(costs: Costs, budget_bytes: int) -> Columns:
    """Columns about request and recipe together, one row a candidate."""
    return {
        "candidate_id": np.arange(len(costs.candidates), dtype=np.int32),
        "weights_bytes": costs.weights,
        "kv_cache_bytes": costs.cache,
        "state_bytes": costs.state,
        "buffers_bytes": costs.buffers,
        "total_bytes": costs.total,
        "fits": costs.total <= budget_bytes,
    }
