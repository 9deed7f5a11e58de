"""Why offers of weights and KV dtypes do not run, told in few lines."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from advisor.answer import Rejection
from advisor.offers import Offer
from knowledge.hardware import HardwareSpec
from knowledge.schemes import QuantScheme

EXPERTS_ONLY = "runs it for the experts of a mixture only"

_MOST_NAMED = 6
"""Schemes named in one line before the rest is counted."""


class Refusal(NamedTuple):
    """Why one offer of weights, or one KV dtype, does not run."""

    scheme: str
    method: str
    reason: str
    limit: str
    """`engine` or `hardware`."""
    format: str = ""
    """Checkpoint format, where it is the format that nobody runs."""


def refusal(
    offer: Offer, reasons: Sequence[tuple[str, str]], engine: str | None, hardware: HardwareSpec | None
) -> Refusal | None:
    """Why no engine at hand runs `offer`: a limit of the hardware says more than that an engine does not read it.

    Args:
        offer: the weights.
        reasons: reason and limit of every engine at hand.
        engine: the engine asked for, None = any.
        hardware: the device, None = any.

    Returns:
        None where nobody misses the offer: it only stands in for another format, or is for another kind of model.
    """
    for wanted in ("compute capability", "no multiple"):
        for reason, limit in reasons:
            if wanted in reason:
                return Refusal(offer.scheme.weights_name, offer.method.name, reason, limit)
    if offer.instead or any(EXPERTS_ONLY in reason for reason, _ in reasons):
        return None
    where = f" on {hardware.vendor}" if hardware else ""
    limit = "engine" if engine or not hardware else "hardware"
    reason = (f"{engine} does not run" if engine else "no engine of the catalogue runs") + f" such weights{where}"
    return Refusal(offer.scheme.weights_name, offer.method.name, reason, limit, offer.format)


def summarize(
    refusals: Sequence[Refusal],
    *,
    recipes: Collection[tuple[str, str]] = (),
    caches: Collection[str] = (),
    formats: Collection[str] = (),
) -> tuple[Rejection, ...]:
    """Refusals as one line a reason, without those of what runs in another way.

    Args:
        refusals: what single engines refused.
        recipes: weights and method of every candidate.
        caches: KV dtypes of every candidate.
        formats: checkpoint formats of every candidate; one of which nothing runs is named as a whole.
    """
    groups: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
    wholes = [entry for entry in refusals if entry.format and entry.format not in formats]
    for entry in (*wholes, *(entry for entry in refusals if entry not in wholes)):
        if (entry.scheme, entry.method) in recipes or entry.scheme in caches:
            continue
        schemes, methods = groups.setdefault((entry.reason, entry.limit), ({}, {}))
        whole = entry.format and entry.format not in formats
        schemes[entry.format if whole else entry.scheme] = None
        methods["" if whole else entry.method] = None
    return tuple(
        Rejection(scheme=_listed(list(schemes)), method=_listed(list(filter(None, methods))), reason=reason, limit=limit)
        for (reason, limit), (schemes, methods) in groups.items()
    )


def stored_rejection(stored: QuantScheme) -> Rejection:
    """The line that says why a quantized checkpoint is offered in its own format only."""
    return Rejection(
        scheme="all other weight formats",
        method="",
        reason=f"the checkpoint is stored as {stored.weights_name}: another format needs the original weights",
        limit="stored",
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
