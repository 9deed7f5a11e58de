"""Puts a recipe together: weights by the quantizer of its method, then activations, then the KV cache; undone in reverse."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge.recipes import QuantRecipe
from knowledge.schemes import QuantArgs
from measure.bits import dividing_group, stored_bits
from measure.presets import Protocol
from measure.quantizers import Applied, TensorChange, load_quantizer
from measure.quantizers.activations import quantize_activations
from measure.quantizers.fake import accumulator, block_rows, in_blocks
from measure.quantizers.fused import Kernel, Rule, find_kernel, round_groups
from measure.quantizers.targets import Target, weight_targets

if TYPE_CHECKING:
    from measure.loading import LoadedModel


def apply_recipe(loaded: "LoadedModel", recipe: QuantRecipe, protocol: Protocol) -> Applied:
    """Quantize `loaded` as `recipe` says; on an error the originals are back before it is raised.

    Raises:
        NotApplicableError: the method, scheme or cache cannot be used on this model.
        MissingDependencyError: a package is missing.
    """
    from measure.kv_cache import quantize_cache

    applied = Applied(model=loaded.model)
    try:
        if recipe.scheme.weights is not None:
            applied = load_quantizer(recipe.method.name)(loaded, recipe, protocol)
        if recipe.scheme.activations is not None and "activations" not in applied.conventions:
            quantize_activations(applied, recipe.scheme.activations, protocol)
        if recipe.scheme.kv_cache is not None:
            quantize_cache(applied, recipe.scheme.kv_cache, protocol)
    except BaseException:
        applied.undo()
        loaded.originals.restore()
        raise
    return applied


def rewrite_weights(
    loaded: "LoadedModel",
    weights: QuantArgs,
    protocol: Protocol,
    rounding: Callable[[Target, int], Callable[[Tensor], Tensor]],
    *,
    rule: Callable[[int], Rule] | None = None,
    whole: bool = False,
    flattened: bool = False,
) -> Applied:
    """Replace every target matrix by its fake-quantized value, group by group, keeping the originals.

    Args:
        loaded: the model.
        weights: the format, with its group.
        protocol: what happens where the group does not divide the rows.
        rounding: for a target and its group, the function from a matrix to its quantized values.
        rule: for a group, the rule of a fused kernel that gives the same values, used where the device has one.
        whole: whether a matrix must be rounded in one piece (a scale over the tensor).
        flattened: whether groups run over the flattened matrix, so that no row needs an exception (bitsandbytes).
    """
    applied = Applied(model=loaded.model, undo_steps=[loaded.originals.restore])
    waiting: list[tuple[TensorChange, Tensor]] = []
    for target in weight_targets(loaded.model, routers=protocol.quantize_router):
        rows, columns = target.matrix().shape
        group = columns if weights.strategy in (None, "channel", "tensor") else weights.group_size or columns
        group = group if flattened else dividing_group(columns, group)
        exception = None
        if weights.strategy == "group" and weights.group_size != group:
            exception = f"rows of {columns}: groups of {group} instead of {weights.group_size}"
            if protocol.indivisible == "leave":
                applied.left_out[target.name] = f"rows of {columns} are not a multiple of {weights.group_size}"
                continue
        loaded.originals.keep(target.name, target.parameter)
        bits = stored_bits(weights, rows, columns, group)
        kernel = None
        if rule is not None and not target.transposed:
            kernel = find_kernel(rule(group), loaded.device, target.parameter.dtype, rows * columns // group)
        if kernel is not None:
            waiting.append(_in_one_pass(kernel, target, bits=bits, group=group, exception=exception))
            continue
        matrix = target.matrix()
        quantized = in_blocks(rounding(target, group), matrix, whole=whole)
        applied.changes.append(compare(target.name, matrix, quantized, bits=bits, group=group, exception=exception))
        target.write(quantized)
    applied.changes += _with_sums(waiting)
    return applied


def _in_one_pass(
    kernel: Kernel, target: Target, *, bits: float, group: int, exception: str | None
) -> tuple[TensorChange, Tensor]:
    """Round a parameter by a fused kernel; its change lacks the sums, which are still on the device."""
    values, sums = round_groups(kernel, target.parameter.detach().reshape(-1, group))
    target.parameter.data = values.reshape(target.parameter.shape)  # no further pass over memory to copy it
    change = TensorChange(
        name=target.name, elements=values.numel(), bits=bits, group=group, squared_error=0.0, squared_norm=0.0,
        exception=exception,
    )  # fmt: skip
    return change, sums


def _with_sums(waiting: list[tuple[TensorChange, Tensor]]) -> list[TensorChange]:
    """The changes with their sums, fetched from the device at once."""
    if not waiting:
        return []
    fetched = torch.stack([sums for _, sums in waiting]).tolist()
    return [
        replace(change, squared_error=error, squared_norm=norm, constant=low == high)
        for (change, _), (error, norm, low, high) in zip(waiting, fetched, strict=True)
    ]


def compare(name: str, before: Tensor, after: Tensor, *, bits: float, group: int, exception: str | None = None) -> TensorChange:
    """What rounding did to one matrix. The sums are taken in blocks of rows, so that the workspace stays small."""
    error = norm = 0.0
    wide = accumulator(before.device)
    rows = block_rows(before.device, before.shape[-1])
    for old, new in zip(before.split(rows), after.split(rows), strict=True):
        error += float((new.float() - old.float()).square_().sum(dtype=wide))
        norm += float(old.float().square().sum(dtype=wide))
    return TensorChange(
        name=name, elements=before.numel(), bits=bits, group=group, squared_error=error, squared_norm=norm,
        constant=bool((before == before.reshape(-1)[0]).all()), exception=exception,
    )  # fmt: skip
