"""Spread of weights, activations, keys and values by layer, and the noise that each scheme adds to them.

The statistics of the seed study's figures (arXiv 2402.18158, section 3.2: AbsMax, Std, Kurtosis), with outliers and SQNR.
"""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from knowledge.measurements import Probe, TensorStats
from knowledge.schemes import QuantArgs, parse_kv, parse_scheme
from measure.bits import dividing_group
from measure.calibration import calibration_ids
from measure.environment import capture_environment
from measure.inference import in_batches
from measure.kv_cache import FakeQuantCache, cache_rounding, has_kv_cache
from measure.presets import PROTOCOLS, Protocol
from measure.quantizers.fake import Rounding, accumulator, in_blocks, rounding_for
from measure.quantizers.targets import weight_targets

if TYPE_CHECKING:
    from measure.loading import LoadedModel

WEIGHT_SCHEMES = ("w8a16-g128-asym", "w4a16-g128-asym", "w3a16-g128-asym", "w2a16-g128-asym", "fp8-channel", "mxfp4", "nvfp4")
ACTIVATION_SCHEMES = ("w16a8", "w16a4", "fp8", "mxfp4", "nvfp4")
CACHE_SCHEMES = ("kv8", "kv4", "kv3", "kv2", "kvfp8")

_OUTLIER = 6.0
_SILENT_DB = 200.0
"""SQNR reported where rounding changes nothing: far beyond what float32 resolves."""

Kind = Literal["weight", "activation", "key", "value"]


def measure_tensors(loaded: "LoadedModel") -> Probe:
    """Statistics of every quantizable weight, of its input, and of every layer's keys and values.

    Raises:
        TaskDataError: the calibration text is too short.
    """
    ids, calibration = calibration_ids(loaded)
    found = [*_weights(loaded), *_flows(loaded, ids)]
    return Probe(
        model=loaded.source.name,
        facts=loaded.facts(),
        calibration=calibration,
        tensors=[sums.stats() for sums in found],
        environment=capture_environment(loaded.settings.device),
    )


class _Sums:
    """Moments of values that come in parts; in a second pass what lies far out, and the noise of each scheme."""

    def __init__(self, name: str, kind: Kind, roundings: dict[str, Rounding]) -> None:
        self.name, self.kind, self.roundings = name, kind, roundings
        self.count, self.largest, self.tail = 0, 0.0, 0
        self.powers = [0.0] * 4
        self.noise = dict.fromkeys(roundings, 0.0)

    def add(self, values: Tensor) -> None:
        """First pass: moments."""
        x = values.detach().to(accumulator(values.device))
        self.count += x.numel()
        self.largest = max(self.largest, float(x.abs().max()))
        power = torch.ones_like(x)
        for index in range(4):
            power = power * x
            self.powers[index] += float(power.sum())

    def look(self, values: Tensor) -> None:
        """Second pass over the same values: outliers and noise."""
        x = values.detach().to(accumulator(values.device))
        self.tail += int((x.abs() > _OUTLIER * math.sqrt(self._moments()[0])).sum())
        for scheme, rounding in self.roundings.items():
            self.noise[scheme] += float((rounding(values.detach()).to(x) - x).square().sum())

    def _moments(self) -> tuple[float, float]:
        """Variance and fourth central moment."""
        first, second, third, fourth = (power / self.count for power in self.powers)
        central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        return max(second - first**2, 0.0), central

    def stats(self) -> TensorStats:
        """What was found."""
        variance, central = self._moments()
        match = re.search(r"\.(\d+)\.", self.name)
        return TensorStats(
            name=self.name,
            kind=self.kind,
            layer=int(match[1]) if match else None,
            part=self.name.removesuffix(".weight").rpartition(".")[2],
            elements=self.count,
            abs_max=self.largest,
            std=math.sqrt(variance),
            kurtosis=central / variance**2 if variance else 0.0,
            outlier_share=self.tail / self.count,
            sqnr_db={scheme: _decibel(self.powers[1], noise) for scheme, noise in self.noise.items()},
        )


def _decibel(signal: float, noise: float) -> float:
    return _SILENT_DB if noise == 0 or signal == 0 else min(_SILENT_DB, 10 * math.log10(signal / noise))


def _weights(loaded: "LoadedModel") -> list[_Sums]:
    protocol = PROTOCOLS["default"]
    roundings: dict[str, Rounding] = {}
    for name in WEIGHT_SCHEMES:
        rounding = _rounding(parse_scheme(name).weights, protocol, symmetric=False)
        roundings[name] = partial(in_blocks, rounding, whole=name == "nvfp4")
    found = []
    for target in weight_targets(loaded.model):
        matrix = target.matrix()
        sums = _Sums(target.name, "weight", roundings)
        sums.add(matrix)
        sums.look(matrix)
        found.append(sums)
    return found


def _rounding(args: QuantArgs | None, protocol: Protocol, *, symmetric: bool) -> Rounding:
    if args is None:
        raise ValueError("the scheme leaves this tensor alone")

    def rounded(x: Tensor) -> Tensor:
        columns = x.shape[-1]
        group = dividing_group(columns, args.group_size) if args.strategy == "group" and args.group_size else columns
        return rounding_for(args, group, symmetric=symmetric, include_zero=protocol.range_includes_zero)(x)

    return rounded


@torch.no_grad()
def _flows(loaded: "LoadedModel", ids: Tensor) -> list[_Sums]:
    """Activations, keys and values over the calibration text."""
    protocol = PROTOCOLS["default"]
    inputs = {name: _rounding(parse_scheme(name).activations, protocol, symmetric=True) for name in ACTIVATION_SCHEMES}
    caches = {name: cache_rounding(args, protocol)[0] for name in CACHE_SCHEMES if (args := parse_kv(name)) is not None}
    sums: dict[str, _Sums] = {}
    step = [_Sums.add]

    def take(name: str, kind: Kind, values: Tensor, roundings: dict[str, Rounding]) -> None:
        found = sums.setdefault(f"{kind} {name}", _Sums(name, kind, roundings))
        step[0](found, values)

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda module, args: take(name, "activation", args[0], inputs)

    handles = [
        target.module.register_forward_pre_hook(watch(target.name.removesuffix(".weight")))
        for target in weight_targets(loaded.model)
        if target.parameter.ndim == 2
    ]

    class Watching(FakeQuantCache):
        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            take(f"layers.{layer_idx}.key", "key", key_states, caches)
            take(f"layers.{layer_idx}.value", "value", value_states, caches)
            return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def forward(batch: Tensor) -> Tensor:
        extra = {"past_key_values": Watching(loaded.model.config, lambda x: x), "use_cache": True} if cached else {}
        return loaded.model(input_ids=batch, **extra).logits[:, :1, 0]

    cached = has_kv_cache(loaded.model.config)
    try:
        for step[0] in (_Sums.add, _Sums.look):
            for _ in in_batches(loaded, ids, forward):
                pass
    finally:
        for handle in handles:
            handle.remove()
    return list(sums.values())
