"""What a look at a model's own tensors found: spread, rounding noise, and the loss around its weights; features of them.

Written by `qadvisor measure probe`, read here without torch. Unknown is None or absent, never a guess.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Literal

from knowledge.errors import DataError
from knowledge.measurements import CalibrationFacts, Environment, ModelFacts, Strict, refused

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PROBE_VERSION = 2
"""Raised when the meaning of a field changes; a reader refuses versions it does not know."""

Kind = Literal["weight", "activation", "key", "value"]

KINDS: tuple[Kind, ...] = ("weight", "activation", "key", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStats(Strict):
    """How the values of one tensor (or of all tensors of a kind) are spread, and what rounding does to them."""

    name: str
    kind: Kind
    layer: int | None
    """Number of the block, None outside of blocks and for sums over blocks."""
    part: str
    """Last component of the module's name: `q_proj`, `down_proj`, …; `all` for the sum over a kind."""
    elements: int
    abs_max: float
    std: float
    kurtosis: float
    """Fourth standardized moment; 3 for a normal distribution."""
    outlier_share: float
    """Share of values further from 0 than six standard deviations of their tensor."""
    sqnr_db: dict[str, float]
    """Scheme name -> 10 log10(sum x^2 / sum (x - rounded x)^2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Strict):
    """A mean over random draws."""

    value: float
    stderr: float | None
    """Standard error over the draws; None for a single one."""
    n: int
    """Independent draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape(Strict):
    """The loss (mean negative log-likelihood of the text, nats per token) at the weights and around them.

    A direction d is drawn per matrix with the length of that matrix, so that a radius is a relative change of the weights:
    L(r) = loss(w + r |w| d / |d|).
    """

    text: CalibrationFacts
    nll: float
    """Loss at the weights."""
    nll_stderr: float | None
    """Standard error over windows of text."""
    rounded: dict[str, float]
    """Scheme name -> loss after rounding to nearest."""
    slope: Estimate
    """(L(r) - L(-r)) / 2r at the smallest radius, mean over directions: nats for a relative change of 1."""
    curvature: Estimate
    """(L(r) - 2 L(0) + L(-r)) / r^2 at the smallest radius, mean over directions."""
    profile: dict[str, Estimate]
    """Radius -> mean of (L(r) + L(-r)) / 2 - L(0): flat, then rising like a step where the model breaks."""
    hessian_trace: Estimate
    """Trace of the Hessian over the quantizable matrices (Hutchinson's estimator, Rademacher vectors)."""
    expected_rise: dict[str, float]
    """Scheme name -> half the sum over matrices of trace x mean squared rounding error: the second-order rise of the loss,
    were rounding noise independent of the weights."""
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Strict):
    """Statistics of a model's own tensors: features for the predictor, and what the seed study's figures show."""

    schema_version: int = PROBE_VERSION
    model: str
    facts: ModelFacts
    calibration: CalibrationFacts | None
    """Text behind the statistics of activations, keys and values; None where only weights were looked at."""
    tensors: list[TensorStats]
    totals: list[TensorStats] = field(default_factory=list)
    """Sums over layers: one entry a part of each kind, and one a kind (`part` all)."""
    landscape: Landscape | None = None
    environment: Environment

    def to_json(self) -> str:
        """The probe as JSON text, which `probe_from_json` reads back to an equal probe."""
        return _adapter().dump_json(self, indent=1).decode() + "\n"


@lru_cache(maxsize=1)
def _adapter() -> "TypeAdapter[Probe]":
    from pydantic import TypeAdapter

    return TypeAdapter(Probe)


def probe_from_json(text: str | bytes, *, source: str = "probe") -> Probe:
    """The probe that `text` holds.

    Raises:
        DataError: no JSON, or not what `qadvisor measure probe` writes.
    """
    from pydantic import ValidationError

    try:
        probe = _adapter().validate_json(text)
    except ValidationError as error:
        raise refused(error, source, "probe") from error
    if probe.schema_version != PROBE_VERSION:
        raise DataError(
            f"{source}: schema version {probe.schema_version}", given=str(probe.schema_version), allowed=str(PROBE_VERSION),
            hint="write it anew with `qadvisor measure probe`",
        )  # fmt: skip
    return probe


def probe_features(probe: Probe) -> dict[str, float]:
    """Scalar features of a model by name; what was not measured is absent, and every value is finite.

    For each kind K of tensor (weight, activation, key, value) that was looked at, medians over its tensors unless said
    otherwise:

    - `K_log_abs_max`: ln(largest magnitude / standard deviation); `K_log_kurtosis`: ln(kurtosis);
      `K_log_kurtosis_max`: the largest of them; `K_outlier_share`: over all values;
    - `K_sqnr_db:S`: dB of rounding to scheme S over all values; `K_sqnr_db_min:S`: the worst tensor's.

    With a landscape:

    - `nll` and `nll_rise:S`: loss of the text, and its rise by rounding to S, in nats per token;
    - `slope`, `curvature`, `log_trace`: see `Landscape`; `log_trace` is ln(trace / parameters), absent where not positive;
    - `expected_rise:S`: the second-order rise;
    - `profile:R`: rise at relative radius R.
    """
    found = dict(_spread(probe))
    if probe.landscape is not None:
        found |= dict(_landscape(probe.landscape, probe.facts.parameters))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _spread(probe: Probe) -> Iterator[tuple[str, float]]:
    for kind in KINDS:
        tensors = [stats for stats in probe.tensors if stats.kind == kind and stats.std > 0]
        if not tensors:
            continue
        kurtoses = [math.log(stats.kurtosis) for stats in tensors if stats.kurtosis > 0]
        yield f"{kind}_log_abs_max", median(math.log(stats.abs_max / stats.std) for stats in tensors)
        if kurtoses:
            yield f"{kind}_log_kurtosis", median(kurtoses)
            yield f"{kind}_log_kurtosis_max", max(kurtoses)
        yield f"{kind}_outlier_share", _mean((stats.outlier_share, stats.elements) for stats in tensors)
        for total in probe.totals:
            if total.kind == kind and total.part == "all":
                yield from ((f"{kind}_sqnr_db:{scheme}", value) for scheme, value in total.sqnr_db.items())
        for scheme in tensors[0].sqnr_db:
            yield f"{kind}_sqnr_db_min:{scheme}", min(stats.sqnr_db[scheme] for stats in tensors if scheme in stats.sqnr_db)


def _mean(pairs: Iterable[tuple[float, int]]) -> float:
    weighted = [(value * count, count) for value, count in pairs]
    return sum(value for value, _ in weighted) / sum(count for _, count in weighted)


def _landscape(found: Landscape, parameters: int) -> Iterator[tuple[str, float]]:
    yield "nll", found.nll
    yield "slope", found.slope.value
    yield "curvature", found.curvature.value
    if found.hessian_trace.value > 0:
        yield "log_trace", math.log(found.hessian_trace.value / parameters)
    yield from ((f"nll_rise:{scheme}", nll - found.nll) for scheme, nll in found.rounded.items())
    yield from ((f"expected_rise:{scheme}", rise) for scheme, rise in found.expected_rise.items())
    yield from ((f"profile:{radius}", rise.value) for radius, rise in found.profile.items())
