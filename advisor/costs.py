"""What each candidate costs in bytes: weights once per weight format, cache and buffers once per cache format and engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.candidates import Candidate
from advisor.speed import bytes_per_token
from knowledge.errors import InvalidModelError, InvalidSchemeError
from knowledge.memory import runtime_bytes, weights_bytes
from knowledge.models import ModelSpec
from knowledge.tensors import params_active, params_total
from knowledge.values import value

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@value
class Costs:
    """Bytes of each candidate at one context and batch; arrays in the order of the candidates."""

    candidates: tuple[Candidate, ...]
    """Those whose size is defined; the others are in `refused`."""
    refused: tuple[tuple[Candidate, str], ...]
    weights: Ints
    cache: Ints
    state: Ints
    buffers: Ints
    total: Ints
    moved: Floats
    """Bytes read per generated token: active weights, cache and state."""
    penalized: Floats
    """The same, the weights times the factor by which a slow kernel falls short of its bytes."""


@dataclass(frozen=True, slots=True)
class _Row:
    candidate: Candidate
    weights: int
    cache: int
    state: int
    buffers: int


def estimate_costs(spec: ModelSpec, candidates: tuple[Candidate, ...], *, context: int, batch: int) -> Costs:
    """Size every candidate.

    Args:
        spec: the model.
        candidates: recipes with the engine that decides the cache policy.
        context: tokens of one sequence.
        batch: sequences at once.

    Raises:
        InvalidModelError: the model's shape is incomplete, so that no candidate can be sized; names what is missing.
    """
    rows: list[_Row] = []
    refused: list[tuple[Candidate, str]] = []
    weights: dict[tuple[str, str, str], int | str] = {}
    runtimes: dict[tuple[str, str, str], tuple[int, int, int] | str] = {}
    for candidate in candidates:
        key = (candidate.weights_name, candidate.method.name, candidate.format)
        if key not in weights:
            weights[key] = _weights(spec, candidate)
        cache_key = (candidate.kv_name, candidate.engine, candidate.format)
        if cache_key not in runtimes:
            runtimes[cache_key] = _runtime(spec, candidate, context, batch)
        found, runtime = weights[key], runtimes[cache_key]
        if isinstance(found, str) or isinstance(runtime, str):
            refused.append((candidate, found if isinstance(found, str) else str(runtime)))
        else:
            rows.append(_Row(candidate, found, *runtime))
    return _table(spec, candidates, rows, tuple(refused), batch)


def _weights(spec: ModelSpec, candidate: Candidate) -> int | str:
    """Bytes of the weights, or why they cannot be sized."""
    try:
        return weights_bytes(spec, candidate.scheme, candidate.format, method=candidate.method.name).total
    except InvalidSchemeError as error:
        return error.message


def _runtime(spec: ModelSpec, candidate: Candidate, context: int, batch: int) -> tuple[int, int, int] | str:
    """Bytes of cache, state and buffers, or why they cannot be sized."""
    try:
        found = runtime_bytes(
            spec, candidate.scheme.kv_cache, format=candidate.format, engine=candidate.engine, context=context, batch=batch
        )
    except InvalidSchemeError as error:
        return error.message
    return found.cache.total, found.state, found.buffers_bytes


def _table(
    spec: ModelSpec,
    candidates: tuple[Candidate, ...],
    rows: Sequence[_Row],
    refused: tuple[tuple[Candidate, str], ...],
    batch: int,
) -> Costs:
    weights = np.array([row.weights for row in rows], dtype=np.int64)
    cache = np.array([row.cache for row in rows], dtype=np.int64)
    state = np.array([row.state for row in rows], dtype=np.int64)
    buffers = np.array([row.buffers for row in rows], dtype=np.int64)
    penalty = np.array([row.candidate.penalty for row in rows], dtype=float)
    active: Floats = np.asarray(weights * active_share(spec), dtype=float)
    past: Floats = np.asarray(cache + state, dtype=float)
    return Costs(
        candidates=candidates if not refused else tuple(row.candidate for row in rows),
        refused=refused,
        weights=weights,
        cache=cache,
        state=state,
        buffers=buffers,
        total=weights + cache + state + buffers,
        moved=bytes_per_token(active, past, batch),
        penalized=bytes_per_token(active * penalty, past, batch),
    )


def active_share(spec: ModelSpec) -> float:
    """Share of the parameters that one token uses: 1 without experts, or where it is not known."""
    total = params_total(spec) or spec.params_published
    active = params_active(spec) or spec.params_active_published
    return min(1.0, active / total) if spec.experts and total and active else 1.0


def params_b(spec: ModelSpec) -> float:
    """Parameters in 1e9: from the shape, else as published.

    Raises:
        InvalidModelError: neither is known.
    """
    total = params_total(spec) or spec.params_published
    if total is None:
        raise InvalidModelError(
            f"neither shape nor parameter count of {spec.name} is known", given=spec.name,
            hint="give the model's folder or its config.json",
        )  # fmt: skip
    return total / 1e9
