"""What each candidate costs in bytes: weights once per weight format, cache and buffers once per cache format and engine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from advisor.candidates import Candidate
from advisor.grouping import alike
from advisor.same import Same
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
class _Shared:
    """What of some candidates is sized once: those that stand for a weight format, or for a cache format and engine."""

    weights: tuple[Candidate, ...]
    weights_place: npt.NDArray[np.intp]
    """Of each candidate the place of the one that has its weights."""
    runtimes: tuple[Candidate, ...]
    runtimes_place: npt.NDArray[np.intp]
    penalty: Floats


@lru_cache(maxsize=32)
def _shared(candidates: Same[tuple[Candidate, ...]]) -> _Shared:
    every = candidates.value
    weights, weights_place = alike([(one.weights_name, one.method.name, one.format) for one in every])
    runtimes, runtimes_place = alike([(one.kv_name, one.engine, one.format) for one in every])
    return _Shared(
        weights=tuple(every[row] for row in weights),
        weights_place=weights_place,
        runtimes=tuple(every[row] for row in runtimes),
        runtimes_place=runtimes_place,
        penalty=np.array([one.penalty for one in every], dtype=float),
    )


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
    shared = _shared(Same(candidates))
    weights = [_weights(spec, candidate) for candidate in shared.weights]
    runtimes = [_runtime(spec, candidate, context, batch) for candidate in shared.runtimes]
    reasons = _reasons(shared, weights, runtimes)
    if reasons:
        sized = estimate_costs(spec, _without(Same(candidates), tuple(reasons)), context=context, batch=batch)
        return replace(sized, refused=tuple((candidates[index], reason) for index, reason in reasons.items()))
    sizes = np.array(weights, dtype=np.int64)[shared.weights_place]
    cache, state, buffers = np.array(runtimes, dtype=np.int64).reshape(-1, 3)[shared.runtimes_place].T
    active: Floats = np.asarray(sizes * active_share(spec), dtype=float)
    past: Floats = np.asarray(cache + state, dtype=float)
    return Costs(
        candidates=candidates,
        refused=(),
        weights=sizes,
        cache=cache,
        state=state,
        buffers=buffers,
        total=sizes + cache + state + buffers,
        moved=bytes_per_token(active, past, batch),
        penalized=bytes_per_token(active * shared.penalty, past, batch),
    )


def _reasons(shared: _Shared, weights: Sequence[int | str], runtimes: Sequence[tuple[int, int, int] | str]) -> dict[int, str]:
    """Why candidates cannot be sized, by their places."""
    if not any(isinstance(found, str) for found in (*weights, *runtimes)):
        return {}
    pairs = zip(shared.weights_place, shared.runtimes_place, strict=True)
    reasons = (next((text for text in (weights[w], runtimes[r]) if isinstance(text, str)), None) for w, r in pairs)
    return {index: reason for index, reason in enumerate(reasons) if reason is not None}


@lru_cache(maxsize=32)
def _without(candidates: Same[tuple[Candidate, ...]], refused: tuple[int, ...]) -> tuple[Candidate, ...]:
    """The candidates that can be sized: the same tuple for the same ones, so that what is known of it is found again."""
    left = frozenset(refused)
    return tuple(candidate for index, candidate in enumerate(candidates.value) if index not in left)


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
