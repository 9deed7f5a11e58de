"""KV caches that hold quantized values, on transformers' `DynamicCache`: keys and values are rounded as they enter.

Rounding at entry acts in one plain forward, in token-by-token decoding and in `generate`, on every attention family, sliding
windows included; transformers' own `QuantizedCache` does nothing in a single forward.

Per-channel keys (KIVI) share a scale over several tokens. Tokens wait unquantized in the newest block; a block is rounded
when the next one begins. A forward is therefore cut into blocks, and then equals decoding token by token.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from knowledge.schemes import QuantArgs
from measure.bits import dividing_group
from measure.errors import NotApplicableError
from measure.presets import Protocol
from measure.quantizers import Applied
from measure.quantizers.fake import Rounding, cast_float8, fake_integer, rounding_for


class FakeQuantCache(DynamicCache):
    """Rounds keys and values per token as they enter."""

    def __init__(self, config: Any, rounding: Rounding) -> None:
        super().__init__(config=config)
        self._rounding = rounding

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Round, then store as the parent does."""
        return super().update(self._rounding(key_states), self._rounding(value_states), layer_idx, *args, **kwargs)


class BlockQuantCache(DynamicCache):
    """KIVI (arXiv 2402.02750): keys per channel over groups of tokens, values per token over groups of channels.

    The newest block of `residual` tokens stays as it is. Values leave the residual with the keys, block by block.
    """

    def __init__(self, config: Any, *, bits: float, group: int, residual: int) -> None:
        super().__init__(config=config)
        self.bits, self.group, self.residual = bits, group, residual
        self._seen: dict[int, int] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Round the block that these tokens complete the turn of, then store them unquantized."""
        seen, new = self._seen.get(layer_idx, 0), key_states.shape[-2]
        if seen % self.residual + new > self.residual:
            raise ValueError(f"{new} tokens at position {seen} cross a block of {self.residual}; feed them block by block")
        if seen and seen % self.residual == 0:
            self._round_newest(self.layers[layer_idx])
        self._seen[layer_idx] = seen + new
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def _round_newest(self, layer: Any) -> None:
        keys, values = layer.keys[..., -self.residual :, :], layer.values[..., -self.residual :, :]
        group = dividing_group(self.residual, self.group)
        by_channel = fake_integer(keys.transpose(-1, -2), self.bits, group, symmetric=False).transpose(-1, -2)
        by_token = fake_integer(values, self.bits, dividing_group(values.shape[-1], self.group), symmetric=False)
        layer.keys = torch.cat([layer.keys[..., : -self.residual, :], by_channel], dim=-2)
        layer.values = torch.cat([layer.values[..., : -self.residual, :], by_token], dim=-2)


def quantize_cache(applied: Applied, args: QuantArgs, protocol: Protocol) -> None:
    """Give `applied.model` a quantized cache wherever it would use a plain one.

    Raises:
        NotApplicableError: no KV cache in this family, or a cache format without a rounding rule here.
    """
    model = applied.model
    if not has_kv_cache(model.config):
        raise NotApplicableError(f"{model.config.model_type} has no KV cache", given=model.config.model_type)
    if args.type_name == "kivi":
        residual = protocol.kv_residual
        windows = [window for window in [getattr(model.config, "sliding_window", None)] if window]
        if any(window <= residual for window in windows):
            raise NotApplicableError(
                f"a window of {min(windows)} tokens is no longer than the residual of {residual}", given=str(min(windows))
            )
        group = args.group_size or 32

        def make() -> DynamicCache:
            return BlockQuantCache(model.config, bits=args.num_bits, group=group, residual=residual)

        applied.chunk = residual
        applied.undo_steps.append(feed_in_blocks(model, residual))
        applied.conventions["kv_cache"] = (
            f"KIVI: keys per channel and {group} tokens, values per token and {group} channels, residual {residual}"
        )
    else:
        rounding, words = cache_rounding(args, protocol)

        def make() -> DynamicCache:
            return FakeQuantCache(model.config, rounding)

        applied.conventions["kv_cache"] = words
    applied.undo_steps.append(model.register_forward_pre_hook(_cache_hook(make), with_kwargs=True).remove)


def has_kv_cache(config: Any) -> bool:
    """Whether the family keeps keys and values (Mamba keeps a state)."""
    return getattr(config, "num_attention_heads", None) is not None and "mamba" not in str(config.model_type)


def cache_rounding(args: QuantArgs, protocol: Protocol) -> tuple[Rounding, str]:
    """How one token's keys or values of one head are rounded, and that in words.

    Raises:
        NotApplicableError: the format has no rounding rule here, or a range over more than one token.
    """
    if args.type_name or args.strategy in ("cluster", "row") or (args.strategy == "tensor" and args.dtype != "fp"):
        name = str(args.type_name or args.strategy)
        raise NotApplicableError(
            f"no rounding rule for the cache format {name}", given=name,
            allowed=["kv8", "kv4", "kv4g64", "kvfp8", "kvmxfp4", "kivi2"],
        )  # fmt: skip
    if args.dtype == "fp":
        if args.num_bits != 8:
            raise NotApplicableError(
                "a floating-point cache has 8 bits here", given=f"kvfp{args.num_bits:g}", allowed=["kvfp8"]
            )
        return cast_float8, "E4M3 without a scale, saturating at 448"
    if args.dtype == "nvfp":
        raise NotApplicableError(
            "NVFP4 needs a scale over the whole tensor, which decoding does not have", given="kvnvfp4", allowed=["kvmxfp4"]
        )
    wanted = args.group_size if args.strategy == "group" else protocol.kv_group

    def rounding(x: Tensor) -> Tensor:
        group = x.shape[-1] if wanted is None else dividing_group(x.shape[-1], wanted)
        rule = {"include_zero": protocol.range_includes_zero, "floor": protocol.scale_floor}
        return rounding_for(args, group, symmetric=False, **rule)(x)  # type: ignore[arg-type]

    scope = f"groups of {wanted} along the head" if wanted else "one range a token and head"
    return rounding, f"{args.dtype}{args.num_bits:g}, keys after the position encoding, {scope}, asymmetric"


def _cache_hook(make: Callable[[], DynamicCache]) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        past = kwargs.get("past_key_values")
        if isinstance(past, (FakeQuantCache, BlockQuantCache)):
            return args, kwargs
        if past is not None and past.get_seq_length() > 0:
            raise ValueError("a cache that was filled without quantization cannot be gone on with")
        return args, kwargs | {
            "past_key_values": make(),
            "use_cache": True,
        }  # `generate` brings an empty plain cache of its own

    return hook


def feed_in_blocks(model: Any, length: int) -> Callable[[], None]:
    """Make a forward of `model` run in aligned blocks of `length` tokens with one cache; returns the undo."""
    original = model.forward

    @wraps(original)  # `generate` looks at the signature
    def forward(*args: Any, **kwargs: Any) -> Any:
        inputs = dict(kwargs)
        if args:
            inputs["input_ids"] = args[0]
        ids, cache = inputs.pop("input_ids"), inputs["past_key_values"]
        mask, positions = inputs.pop("attention_mask", None), inputs.pop("position_ids", None)
        past, total, start = cache.get_seq_length(), ids.shape[-1], 0
        outputs = []
        while start < total:
            stop = min(total, start + length - (past + start) % length)
            part = dict(inputs, input_ids=ids[:, start:stop])
            if mask is not None:
                part["attention_mask"] = mask[:, : past + stop]
            if positions is not None:
                part["position_ids"] = positions[:, start:stop]
            outputs.append(original(**part))
            start = stop
        last = outputs[-1]
        if not inputs.get("logits_to_keep"):
            last.logits = torch.cat([output.logits for output in outputs], dim=1)
        return last

    model.forward = forward

    def undo() -> None:
        del model.forward

    return undo
