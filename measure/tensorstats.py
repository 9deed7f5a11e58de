"""Spread of activations, keys and values over a calibration text, and the noise that each scheme adds to them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from knowledge.probes import Kind
from knowledge.schemes import parse_kv, parse_scheme
from measure.kv_cache import FakeQuantCache, cache_rounding, has_kv_cache
from measure.presets import PROTOCOLS
from measure.quantizers.fake import Rounding
from measure.quantizers.targets import weight_targets
from measure.spread import Sums, roundings_of

if TYPE_CHECKING:
    from measure.loading import LoadedModel

ACTIVATION_SCHEMES = ("w16a8", "w16a4", "fp8", "mxfp4", "nvfp4")
CACHE_SCHEMES = ("kv8", "kv4", "kv3", "kv2", "kvfp8")


@torch.no_grad()
def measure_flows(loaded: "LoadedModel", ids: Tensor) -> list[Sums]:
    """Sums of the input of every quantizable matrix, and of every layer's keys and values, over the tokens `ids`."""
    protocol = PROTOCOLS["default"]
    schemes = {name: parse_scheme(name).activations for name in ACTIVATION_SCHEMES}
    inputs = roundings_of(schemes, symmetric=True, include_zero=protocol.range_includes_zero)
    caches = {name: cache_rounding(args, protocol)[0] for name in CACHE_SCHEMES if (args := parse_kv(name)) is not None}
    found: dict[str, Sums] = {}
    second = False

    def take(name: str, kind: Kind, values: Tensor, roundings: Mapping[str, Rounding]) -> None:
        sums = found.setdefault(f"{kind} {name}", Sums(name, kind))
        if second:
            sums.look(values, roundings)
        else:
            sums.add(values)

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda module, args: take(name, "activation", args[0], inputs)

    class Watching(FakeQuantCache):
        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            take(f"layers.{layer_idx}.key", "key", key_states, caches)
            take(f"layers.{layer_idx}.value", "value", value_states, caches)
            return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def forward(row: Tensor) -> None:
        extra = {"past_key_values": Watching(loaded.model.config, lambda x: x), "use_cache": True} if cached else {}
        loaded.model(input_ids=row.to(loaded.device), **extra)

    cached = has_kv_cache(loaded.model.config)
    handles = [
        target.module.register_forward_pre_hook(watch(target.name.removesuffix(".weight")))
        for target in weight_targets(loaded.model)
        if target.parameter.ndim == 2
    ]
    try:
        for pass_number in (1, 2):
            second = pass_number == 2
            for row in ids.split(1):  # a batch halved for want of memory would be counted twice in its first layers
                forward(row)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())
