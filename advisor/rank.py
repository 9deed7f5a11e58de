"""Ranking: which of the recipes that satisfy the hard limits comes first. Arrays in, order out; no knowledge of models.

The order is decided in three steps, all of them visible in the answer:

1. **Tier.** First those that nothing strong speaks against; then those that a strong rule says to avoid, or that miss what a
   rule requires; then those that are expected to break (`BROKEN_LOSS`) or whose estimate is an extrapolation. Weaker
   advice never moves a candidate across a measured difference.
2. **Objective.** `quality`: least loss. `memory`: least bytes within the tolerated loss. `speed`: fewest bytes moved per
   token within the tolerated loss, formats with a kernel known to be slow last. `balanced`: among those whose loss is
   within the tolerance of the best, the fewest bytes moved per token.
3. **Ties.** Weak advice to avoid, then a loss smaller by a quarter of the tolerance, then advice to prefer, then the surer
   estimate (the smaller upper bound), then the choice of engines, then the order of the candidates.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from knowledge.values import value

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LOSS_TOLERANCE = 0.01
"""Losses closer than this (share of above-chance performance, or nats) are equal to a user, whatever the noise."""

LARGEST_TOLERANCE = 0.02
"""However noisy the tests of a task are, they give no leave to lose more than this for speed."""

BROKEN_LOSS = 0.25
"""A recipe expected to lose a quarter of what the model can do is no answer while anything else is: no study recommends
one (in Li et al. 2024 the settings that they rule out, W2, W4A4 and KV2, lose more, those that they recommend below 0.05)."""

_SAME_SPEED = 0.10
"""Bytes moved per token closer than this share are one speed: timings follow bytes no closer (ai-dynamo/aiconfigurator@095f58a
reports 7 to 15 % error for measured kernels interpolated)."""

_BOUND_STEP = 0.01
"""Upper bounds closer than this are equal: they are estimates themselves."""


@value
class Scores:
    """What the ranking sees of each candidate; arrays of one length."""

    loss: Floats
    """Mean of the pooled estimate (`advisor.pool.expected_loss`)."""
    upper: Floats
    """Its upper bound."""
    extrapolated: Bools
    """The evidence holds nothing like the candidate."""
    engines: Ints
    """How many engines run it."""
    total_bytes: Ints
    """Memory at the requested context and batch."""
    moved_bytes: Floats
    """Bytes read per generated token."""
    slow_kernel: Bools
    """A source says that no engine of the candidate has a fast kernel for it."""
    strong_avoid: Bools
    weak_avoid: Ints
    """How many medium or weak rules advise against it."""
    prefer: Ints
    """How many rules advise for it."""


def rank(scores: Scores, allowed: Bools, objective: str, *, noise_floor: float) -> Ints:
    """Indices of the allowed candidates, best first.

    Args:
        scores: the candidates.
        allowed: which of them satisfy the hard limits (for `memory` and `speed` the tolerated loss is among these).
        objective: `balanced`, `quality`, `speed` or `memory`.
        noise_floor: standard error of one measured loss on the task; smaller differences are ties.
    """
    order = [np.empty(0, dtype=np.int64)]
    doubtful = scores.extrapolated | (scores.loss >= BROKEN_LOSS)
    tiers = 2 * doubtful.astype(np.int64) + scores.strong_avoid
    for tier in range(4):
        members = np.flatnonzero(allowed & (tiers == tier))
        if len(members):
            order.append(_rank_tier(scores, members, objective, tie_width(noise_floor)))
    return np.concatenate(order)


def tie_width(noise_floor: float) -> float:
    """How far from the best a loss may be to count as equal: the noise floor, held between the two tolerances."""
    return min(max(LOSS_TOLERANCE, noise_floor), LARGEST_TOLERANCE)


def _rank_tier(scores: Scores, members: Ints, objective: str, tolerance: float) -> Ints:
    loss, weak, prefer = scores.loss[members], scores.weak_avoid[members], -scores.prefer[members]
    total = scores.total_bytes[members]
    # Beyond the tolerance the loss decides, in steps of the tolerance, so that runners-up are ordered alike.
    behind = np.floor((loss - loss.min()) / tolerance)
    moved = _speed_classes(scores.moved_bytes[members], behind == 0)
    slow, engines = scores.slow_kernel[members], -scores.engines[members]
    bound = np.floor(scores.upper[members] / _BOUND_STEP)
    if objective == "quality":
        keys: Sequence[npt.NDArray[np.generic]] = (
            _loss_classes(loss, LOSS_TOLERANCE / 10),
            weak,
            prefer,
            bound,
            moved,
            engines,
            loss,
        )
    elif objective == "memory":
        keys = (total, weak, prefer, bound, engines, loss)
    elif objective == "speed":
        keys = (slow, moved, weak, prefer, bound, engines, loss)
    else:
        steps = _loss_classes(loss, tolerance / 4)
        keys = (behind, np.minimum(weak, 1), slow, moved, steps, prefer, bound, engines, loss)
    return np.asarray(members[np.lexsort(tuple(reversed([*keys, members])))])


def _loss_classes(loss: Floats, step: float) -> Ints:
    """Losses as whole steps from the least: differences within a step are ties."""
    classes: Ints = np.floor((loss - loss.min()) / step).astype(np.int64)
    return classes


def _speed_classes(moved: Floats, nearest: Bools) -> Ints:
    """Bytes moved as classes of one speed, so that ties go to what the rules prefer and to the surer estimate.

    The classes are counted from the fewest bytes among the candidates within the tolerance, so that no border runs just
    beside the one that would win.
    """
    start = np.log(np.maximum(moved[nearest].min(), 1.0))
    classes: Ints = np.floor((np.log(np.maximum(moved, 1.0)) - start) / np.log1p(_SAME_SPEED)).astype(np.int64)
    return classes


def undominated(index: int, loss: Floats, total_bytes: Ints, moved_bytes: Floats, allowed: Bools) -> bool:
    """Whether no allowed candidate beats candidate `index` in loss, memory and bytes moved at once (Pareto front)."""
    no_worse = (loss <= loss[index]) & (total_bytes <= total_bytes[index]) & (moved_bytes <= moved_bytes[index])
    better = (loss < loss[index]) | (total_bytes < total_bytes[index]) | (moved_bytes < moved_bytes[index])
    return not bool((no_worse & better & allowed).any())


def distinct(order: Ints, kind: Callable[[int], object], count: int) -> list[int]:
    """The first `count` candidates of `order` that differ in kind, so that runners-up are alternatives, not variants."""
    seen: set[object] = set()
    chosen: list[int] = []
    for index in order:
        if (group := kind(index)) not in seen:
            seen.add(group)
            chosen.append(int(index))
        if len(chosen) == count:
            break
    return chosen
