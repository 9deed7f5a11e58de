"""Fake quantization of what enters each quantized matrix product, with a scale per token that is found at run time."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from knowledge.schemes import QuantArgs
from measure.bits import dividing_group
from measure.errors import NotApplicableError
from measure.presets import Protocol
from measure.quantizers import Applied
from measure.quantizers.fake import rounding_for
from measure.quantizers.targets import weight_targets


def quantize_activations(applied: Applied, args: QuantArgs, protocol: Protocol) -> None:
    """Round the input of every target matrix of `applied.model`, per token (or per group within a token).

    Products inside attention are left alone, as in the study. In a mixture of experts the inputs of both expert products
    are rounded, although they are no modules of their own.

    Raises:
        NotApplicableError: a static or per-tensor range, which would need calibration or would mix tokens.
    """
    if args.strategy not in ("token", "group") or not args.dynamic:
        raise NotApplicableError(
            f"activations with {args.strategy} {'dynamic' if args.dynamic else 'static'} scales cannot be run here",
            given=str(args.strategy), allowed=["per token, dynamic (w8a8)", "groups within a token (w4a4-ag128, mxfp4)"],
        )  # fmt: skip

    def rounded(x: Tensor) -> Tensor:
        columns = x.shape[-1]
        group = columns if args.strategy == "token" else dividing_group(columns, args.group_size or columns)
        rule = {"include_zero": protocol.range_includes_zero, "floor": protocol.scale_floor}
        return rounding_for(args, group, symmetric=protocol.activation_symmetric, **rule)(x)  # type: ignore[arg-type]

    experts: set[nn.Module] = set()
    for target in weight_targets(applied.model, routers=protocol.quantize_router):
        if target.parameter.ndim == 3:
            experts.add(target.module)
        else:
            applied.undo_steps.append(target.module.register_forward_pre_hook(_input_hook(rounded)).remove)
    for module in experts:
        applied.undo_steps.append(_wrap_experts(module, rounded))
    kind = "symmetric" if protocol.activation_symmetric else "asymmetric"
    applied.conventions["activations"] = (
        f"{args.dtype}{args.num_bits:g} {kind if args.dtype == 'int' else ''} per {args.strategy}, dynamic"
    )


def _input_hook(rounded: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (rounded(inputs[0]), *inputs[1:])

    return hook


class _RoundedLinear(TorchFunctionMode):
    """Rounds the first argument of every `torch.nn.functional.linear` called within."""

    def __init__(self, rounded: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._rounded = rounded

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.linear:
            args = (self._rounded(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


def _wrap_experts(module: nn.Module, rounded: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """Make `module`, which must run its experts one by one through `linear`, round their inputs; returns the undo."""
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _RoundedLinear(rounded):
            return original(*args, **kwargs)

    module.forward = forward  # type: ignore[method-assign]

    def undo() -> None:
        del module.forward

    return undo
