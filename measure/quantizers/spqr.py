"""SpQR (arXiv 2306.03078), simulated: small groups with quantized statistics, sparse outliers in 16 bits, error compensation.

Written from the paper's algorithm 1; where it is silent, constants follow the authors' code (Vahe1994/SpQR). As the study
that measured it did (Jin et al. 2024, section 3): statistics in 3 bits, outlier threshold 0.2. Blocks of the model are
quantized one after the other, so that each sees what the blocks before it now give.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from knowledge.recipes import QuantRecipe
from measure.bits import dividing_group
from measure.calibration import calibration_ids
from measure.errors import NotApplicableError
from measure.inference import in_batches
from measure.presets import Protocol
from measure.quantizers import Applied
from measure.quantizers.apply import compare
from measure.quantizers.targets import Target, weight_targets

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_DAMPING = 0.01
_THRESHOLD = 0.2
_LAZY = 128
"""Columns after which the rest of the matrix is brought up to date; decides speed only."""
_STATISTIC_BITS = 3
_STATISTIC_GROUP = 16
_OUTLIER_BITS = 32
"""A 16-bit value and a 16-bit column index (paper, section 4.3)."""


def quantize(loaded: "LoadedModel", recipe: QuantRecipe, protocol: Protocol) -> Applied:
    """Quantize every linear target with SpQR, block by block; fused experts stay, and are recorded as left out.

    Raises:
        NotApplicableError: a scheme that is not integers in asymmetric groups.
        TaskDataError: the calibration text is too short.
    """
    weights = recipe.scheme.weights
    if (
        weights is None
        or weights.dtype != "int"
        or weights.strategy != "group"
        or weights.symmetric
        or weights.num_bits not in range(2, 9)
    ):
        raise NotApplicableError(
            "SpQR makes asymmetric integers in small groups", given=recipe.name, allowed="w3a16-g16-asym:spqr"
        )
    ids, facts = calibration_ids(loaded)
    applied = Applied(model=loaded.model, calibration=facts, undo_steps=[loaded.originals.restore])
    applied.conventions["weights"] = (
        f"SpQR: {_STATISTIC_BITS}-bit scales and zeros in groups of {_STATISTIC_GROUP} rows, outlier threshold {_THRESHOLD}, "
        f"outliers of {_OUTLIER_BITS} bits"
    )
    for block in _blocks(weight_targets(loaded.model, routers=protocol.quantize_router)):
        linear = [target for target in block if target.parameter.ndim == 2]
        applied.left_out |= {target.name: "a stack of experts" for target in block if target.parameter.ndim == 3}
        hessians = _hessians(loaded, linear, ids)
        for target in linear:
            matrix = target.matrix()
            group = dividing_group(matrix.shape[1], int(weights.group_size or 16))
            found = compress(matrix, hessians[target.name], bits=int(weights.num_bits), group=group)
            exception = None if group == weights.group_size else f"rows of {matrix.shape[1]}: groups of {group}"
            loaded.originals.keep(target.name, target.parameter)
            after = found.matrix.to(matrix.dtype)
            applied.changes.append(compare(target.name, matrix, after, bits=found.bits, group=group, exception=exception))
            target.write(after)
    return applied


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A matrix after SpQR."""

    matrix: Tensor
    outliers: Tensor
    """True where a weight is kept in 16 bits."""
    bits: float


def compress(matrix: Tensor, hessian: Tensor, *, bits: int, group: int, threshold: float = _THRESHOLD) -> Compressed:
    """SpQR of one matrix, given the second moments of its inputs.

    Columns are rounded from left to right, and what each loses is made up for in those to its right (GPTQ). Where a group
    begins, its range is fitted without the weights that alone would cost more than `threshold` times the mean variance over
    sensitivity; any weight whose error is still beyond that is kept as it is.
    """
    weight = matrix.float().clone()
    upper = _inverse_factor(hessian.float())
    sensitivity = torch.diag(upper)
    limit = threshold * float((weight.var(dim=0) / sensitivity.square()).mean())
    outliers = torch.zeros_like(weight, dtype=torch.bool)
    top = 2**bits - 1
    scale = zero = torch.empty(0)
    lazy = group * max(1, _LAZY // group)  # whole groups, so that a range is never fitted on columns that are not up to date
    errors = weight.new_zeros(len(weight), lazy)
    for column in range(weight.shape[1]):
        stop = min(weight.shape[1], column - column % lazy + lazy)
        if column % group == 0:
            inside = weight[:, column : column + group]
            scale, zero = _fit(inside, _leave_one_out(inside, sensitivity[column : column + group], top) > limit, top)
        values = weight[:, column].clone()
        rounded = ((values / scale).round().add(zero.round()).clamp(0, top) - zero.round()) * scale
        kept = ((values - rounded) / sensitivity[column]).square() > limit
        rounded = torch.where(kept, values, rounded)
        error = (values - rounded) / sensitivity[column]
        outliers[:, column], weight[:, column] = kept, rounded
        errors[:, column % lazy] = error
        weight[:, column + 1 : stop] -= error[:, None] * upper[column, column + 1 : stop]
        if column + 1 == stop:  # the columns beyond this block in one product
            first = column - column % lazy
            weight[:, stop:] -= errors[:, : stop - first] @ upper[first:stop, stop:]
    rows, columns = weight.shape
    groups = rows * columns / group
    second = 2 * 2 * 16 / _STATISTIC_GROUP  # scale and zero have a 16-bit scale and zero each, shared by a group of rows
    total = rows * columns * bits + groups * (2 * _STATISTIC_BITS + second) + float(outliers.sum()) * _OUTLIER_BITS
    return Compressed(matrix=weight, outliers=outliers, bits=total)


def _inverse_factor(hessian: Tensor) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped second moments; inputs that are always 0 count as independent."""
    damped = hessian.clone()
    diagonal = torch.diag(damped)
    dead = diagonal == 0
    damped += torch.eye(len(damped), device=damped.device) * (_DAMPING * float(diagonal.mean()))
    damped[dead, dead] = 1
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)


def _range(values: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Scale and real zero point of the asymmetric range of each row, 0 included."""
    low, high = values.amin(-1).clamp_max(0), values.amax(-1).clamp_min(0)
    scale = ((high - low) / top).clamp_min(1e-9)
    return scale, -low / scale


def _leave_one_out(inside: Tensor, sensitivity: Tensor, top: int) -> Tensor:
    """How much the group's error falls when one weight is left out of the range and out of the error, for each weight."""
    size = inside.shape[1]
    if size < 2:
        return torch.zeros_like(inside)
    others = torch.arange(size, device=inside.device)
    others = torch.stack([torch.cat([others[:n], others[n + 1 :]]) for n in range(size)])

    def loss(values: Tensor, weights: Tensor) -> Tensor:
        scale, zero = (part[..., None] for part in _range(values, top))
        rounded = ((values / scale).round().add(zero.round()).clamp(0, top) - zero.round()) * scale
        return ((values - rounded) / weights).square().sum(-1)

    return loss(inside, sensitivity)[:, None] - loss(inside[:, others], sensitivity[others])


def _fit(inside: Tensor, left_out: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Range of each row without the weights left out, its scale and zero point themselves in 3 bits."""
    keep = ~left_out
    mean = (inside * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp_min(1)
    scale, zero = _range(torch.where(keep, inside, mean), top)
    return _second_level(scale).clamp_min(1e-9), _second_level(zero).clamp(0, top)


def _second_level(statistic: Tensor) -> Tensor:
    """Round a statistic of consecutive rows to 3-bit codes over its range in each group of rows."""
    size = dividing_group(len(statistic), _STATISTIC_GROUP)
    values = statistic.reshape(-1, size)
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    step = ((high - low) / (2**_STATISTIC_BITS - 1)).clamp_min(1e-12)
    return (((values - low) / step).round() * step + low).reshape(-1)


def _blocks(targets: list[Target]) -> Iterator[list[Target]]:
    """Targets by the repeated block that they are in, in the order of the model."""
    found: dict[str, list[Target]] = {}
    for target in targets:
        match = re.match(r"^.*?\.\d+\.", target.name)
        found.setdefault(match[0] if match else target.name, []).append(target)
    yield from found.values()


@torch.no_grad()
def _hessians(loaded: "LoadedModel", targets: list[Target], ids: Tensor) -> dict[str, Tensor]:
    """Second moments 2 X^T X / n of what enters each target, over the calibration text and the model as it stands."""
    sums = {
        target.name: torch.zeros(target.matrix().shape[1], target.matrix().shape[1], device=loaded.device) for target in targets
    }
    count = 0

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float()
            sums[name] += rows.T @ rows

        return hook

    handles = [target.module.register_forward_pre_hook(watch(target.name)) for target in targets]
    try:
        for _, result in in_batches(loaded, ids, lambda batch: loaded.model(input_ids=batch).logits[:, :, 0]):
            count += result.numel()
    finally:
        for handle in handles:
            handle.remove()
    return {name: total * (2 / count) for name, total in sums.items()}
