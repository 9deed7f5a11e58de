"""The loss around a model's weights: along random directions, under rounding, and the trace of its Hessian.

The radial profile is that of Xu et al. (arXiv 2410.12119): the loss at w + r |w| d for random d. The trace is Hutchinson's
(1990): the mean of v'Hv over vectors v of random signs; the part of v'Hv that belongs to one matrix estimates the trace of
its block.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge.measurements import CalibrationFacts
from knowledge.probes import Estimate, Landscape
from knowledge.schemes import parse_scheme
from measure.inference import forward_logits, in_batches, token_log_probabilities
from measure.presets import PROTOCOLS
from measure.probe import check_landscape_dtype
from measure.quantizers.fake import accumulator, in_blocks
from measure.quantizers.targets import weight_targets
from measure.spread import roundings_of

if TYPE_CHECKING:
    from measure.loading import LoadedModel

SCHEMES = tuple(f"w{bits}a16-g128-asym" for bits in (8, 4, 3, 2))

RADII = (0.01, 0.03, 0.1)
"""Relative changes of the weights. For comparison: rounding to 4 bits in groups of 128 changes a normal matrix by a tenth."""

DIRECTIONS, VECTORS = 8, 8

Loss = Callable[[], Tensor]
"""The loss at the parameters as they stand, a scalar that can be differentiated."""


def measure_landscape(loaded: "LoadedModel", ids: Tensor, text: CalibrationFacts) -> Landscape:
    """The loss of the windows `ids` (rows of tokens) at the weights and around them; the weights are back afterwards.

    Raises:
        InvalidRequestError: the model is not in float32, where a change of one percent is lost in rounding.
    """
    check_landscape_dtype(loaded.settings.dtype)
    targets = weight_targets(loaded.model)
    parameters = [target.parameter for target in targets]

    def nll() -> float:
        return fmean(_window_losses(loaded, ids))

    losses = _window_losses(loaded, ids)
    seed = loaded.settings.seed
    pairs = losses_along_directions(nll, parameters, radii=RADII, directions=DIRECTIONS, seed=seed)
    traces = hessian_traces(_differentiable(loaded, ids), parameters, vectors=VECTORS, seed=seed)
    rounded, expected = _under_rounding(loaded, nll, [fmean(trace) for trace in traces])
    base, radius = fmean(losses), RADII[0]
    return Landscape(
        text=text,
        nll=base,
        nll_stderr=_estimate(losses).stderr,
        rounded=rounded,
        slope=_estimate([(up - down) / (2 * radius) for up, down in pairs[radius]]),
        curvature=_estimate([(up - 2 * base + down) / radius**2 for up, down in pairs[radius]]),
        profile={f"{r:g}": _estimate([(up + down) / 2 - base for up, down in pairs[r]]) for r in RADII},
        hessian_trace=_estimate([sum(parts) for parts in zip(*traces, strict=True)]),
        expected_rise=expected,
        seed=seed,
    )


def _estimate(values: Sequence[float]) -> Estimate:
    spread = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(value=fmean(values), stderr=spread, n=len(values))


def losses_along_directions(
    loss: Callable[[], float], parameters: Sequence[Tensor], *, radii: Sequence[float], directions: int, seed: int
) -> dict[float, list[tuple[float, float]]]:
    """Radius -> (loss at +r, loss at -r) for each direction; every parameter is changed by r times its own length.

    Args:
        loss: the loss at the parameters as they stand.
        parameters: changed in place, and back bit for bit at the end.
        radii: relative lengths of the change.
        directions: how many normal directions are drawn, the same for every radius.
        seed: of the draws, which are made on the host so that devices agree.
    """
    found: dict[float, list[tuple[float, float]]] = {radius: [] for radius in radii}
    originals = [parameter.detach().to("cpu", copy=True) for parameter in parameters]

    @torch.no_grad()
    def at(step: float, draw: int) -> float:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + draw)
        for parameter, original in zip(parameters, originals, strict=True):
            direction = torch.randn(original.shape, generator=generator)
            length = original.norm() / direction.norm().clamp_min(1e-30)
            parameter.copy_(torch.add(original, direction, alpha=step * float(length)))
        return loss()

    try:
        for draw in range(directions):
            for radius in radii:
                found[radius].append((at(radius, draw), at(-radius, draw)))
    finally:
        with torch.no_grad():
            for parameter, original in zip(parameters, originals, strict=True):
                parameter.copy_(original)
    return found


def hessian_traces(losses: Sequence[Loss], parameters: Sequence[Tensor], *, vectors: int, seed: int) -> list[list[float]]:
    """For each parameter its trace of the Hessian of the mean of `losses`, once for each of `vectors` vectors of random signs.

    The vectors are drawn on the host, so that devices agree. Losses are differentiated one by one to save memory.
    """
    traces = [[0.0] * vectors for _ in parameters]
    wide = accumulator(parameters[0].device)
    with _requiring_gradients(parameters), torch.enable_grad():
        for loss in losses:
            slopes = torch.autograd.grad(loss(), parameters, create_graph=True, allow_unused=True, materialize_grads=True)
            for draw in range(vectors):
                signs = _random_signs(parameters, seed * 1_000_003 + draw)
                products = torch.autograd.grad(
                    slopes, parameters, signs, retain_graph=draw < vectors - 1, allow_unused=True, materialize_grads=True
                )
                for trace, sign, product in zip(traces, signs, products, strict=True):
                    trace[draw] += float((sign * product).sum(dtype=wide)) / len(losses)
    return traces


def _random_signs(parameters: Sequence[Tensor], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1).to(parameter.device, parameter.dtype)
        for parameter in parameters
    ]


@contextmanager
def _requiring_gradients(parameters: Sequence[Tensor]) -> Iterator[None]:
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(requires_grad=True)
        yield
    finally:
        for parameter, required in zip(parameters, before, strict=True):
            parameter.requires_grad_(requires_grad=required)


def _window_losses(loaded: "LoadedModel", ids: Tensor) -> list[float]:
    """Mean negative log-likelihood of each window, nats per token."""

    def score(rows: Tensor) -> Tensor:
        return -token_log_probabilities(forward_logits(loaded.model, rows), rows).double().mean(-1)

    return torch.cat([part.cpu() for _, part in in_batches(loaded, ids, score)]).tolist()


def _differentiable(loaded: "LoadedModel", ids: Tensor) -> list[Loss]:
    """The loss of each window, by kernels of attention that have second derivatives."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def of(row: Tensor) -> Loss:
        def loss() -> Tensor:
            with sdpa_kernel(SDPBackend.MATH):
                logits = loaded.model(input_ids=row, use_cache=False).logits
            return torch.nn.functional.cross_entropy(logits[0, :-1].float(), row[0, 1:])

        return loss

    return [of(row.to(loaded.device)) for row in ids.split(1)]


def _under_rounding(
    loaded: "LoadedModel", nll: Callable[[], float], traces: Sequence[float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Scheme -> loss after rounding to nearest, and scheme -> half the sum of trace x mean squared error over matrices."""
    schemes = {name: parse_scheme(name).weights for name in SCHEMES}
    roundings = roundings_of(schemes, symmetric=False, include_zero=PROTOCOLS["default"].range_includes_zero)
    rounded: dict[str, float] = {}
    expected = dict.fromkeys(roundings, 0.0)
    for name, rounding in roundings.items():
        try:
            for target, trace in zip(weight_targets(loaded.model), traces, strict=True):
                loaded.originals.keep(target.name, target.parameter)
                matrix = target.matrix()
                values = in_blocks(rounding, matrix)
                expected[name] += trace * float((values - matrix).square().mean(dtype=accumulator(matrix.device))) / 2
                target.write(values)
            rounded[name] = nll()
        finally:
            loaded.originals.restore()
    return rounded, expected
