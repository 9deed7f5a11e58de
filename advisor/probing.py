"""What a probe of the very model adds to its forecast: how much more or less rounding its weights costs than expected.

The law knows a model by its size, family and tuning. `qadvisor measure probe --landscape` rounded its own weights to nearest
and saw the loss of a text rise. The logarithm of measured over expected rise is the feature `weight_excess`, of which the law
counts `advisor.law.EXCESS_TRUST` for every recipe that quantizes weights. What that was found to be worth:
`docs/experiments.md` (2026-11-27, probes).
"""

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from advisor.features import encode
from advisor.law import EXCESS_TRUST
from advisor.predictor import Predictor
from knowledge.errors import DataError, InvalidRequestError
from knowledge.probes import Landscape, Probe, probe_from_json
from knowledge.schemes import parse_scheme

BITS = (3, 4)
"""Weight bits of the roundings that are compared: finer ones drown in noise, coarser ones break models in ways of their own."""
MOST = math.log(5.0)
"""A rise beyond five times what is expected, or below a fifth of it, counts as that."""
_SAME_SIZE = 0.05
"""Relative difference of parameters from which on a probe is of another model."""


def read_probe(path: Path, *, model: str, parameters: float) -> Probe:
    """The probe in a file.

    Args:
        path: what `qadvisor measure probe` wrote.
        model: name of the model that is asked about.
        parameters: how many it has.

    Raises:
        InvalidRequestError: the file cannot be read, is no probe, or is of a model of another size.
    """
    try:
        probe = probe_from_json(path.read_bytes(), source=str(path))
    except (OSError, DataError) as error:
        reason = error.message if isinstance(error, DataError) else error.strerror
        raise InvalidRequestError(
            f"cannot read the probe {path}: {reason}", given=str(path), allowed="a file that `qadvisor measure probe` wrote"
        ) from error
    if abs(probe.facts.parameters / parameters - 1) > _SAME_SIZE:
        raise InvalidRequestError(
            f"the probe {path} is of {probe.model} with {probe.facts.parameters / 1e9:.4g} billion parameters, "
            f"{model} has {parameters / 1e9:.4g}",
            given=str(path), allowed=f"a probe of {model}", hint=f"qadvisor measure probe PATH-OF-{model} --landscape",
        )  # fmt: skip
    return probe


def weight_excess(predictor: Predictor, probe: Probe, model: Mapping[str, Any]) -> float | None:
    """ln(measured / expected rise of the loss) under rounding to nearest; None where the probe did not look at the loss.

    Args:
        predictor: what expects.
        probe: what was measured.
        model: facts of the model, under the names of the candidate relation (`advisor.relation.model_columns`).
    """
    rises = _rises(probe.landscape) if probe.landscape else {}
    if not rises:
        return None
    columns = {name: [fact] * len(rises) for name, fact in model.items()}
    columns |= {"scheme": list(rises), "method": ["rtn"] * len(rises), "task_type": ["language-modeling"] * len(rises)}
    expected = predictor.law.damage(encode(columns)).loss
    found = median(math.log(rise / nats) for rise, nats in zip(rises.values(), expected.tolist(), strict=True))
    return min(max(found, -MOST), MOST)


def _rises(found: Landscape) -> dict[str, float]:
    """Measured rise by scheme; the second-order one where the measured drowned in noise."""
    rises = {
        scheme: nll - found.nll if nll > found.nll else found.expected_rise.get(scheme, 0.0)
        for scheme, nll in found.rounded.items()
        if parse_scheme(scheme).w_bits in BITS
    }
    return {scheme: rise for scheme, rise in rises.items() if rise > 0}


def describe(probe: Probe, excess: float | None) -> str:
    """What became of a probe, for the notes of an answer."""
    if excess is None:
        return (
            f"the probe of {probe.model} did not look at the loss, so that the estimates do not rest on it: "
            "`qadvisor measure probe --landscape` does"
        )
    return (
        f"rounding the weights of {probe.model} costs {math.exp(excess):.2g} times what is expected of such a model "
        f"(probe); the estimates count {100 * EXCESS_TRUST:.0f} % of its logarithm"
    )
