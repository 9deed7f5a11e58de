"""Spread of a model's weights and the noise that rounding adds to them, streamed from its files."""

import math
from collections.abc import Callable

import torch

from knowledge.errors import InvalidModelError
from knowledge.schemes import parse_scheme
from measure.devices import find_device
from measure.models import ModelSource
from measure.presets import PROTOCOLS
from measure.quantizers.fake import block_rows
from measure.spread import Sums, roundings_of
from measure.weightfiles import StoredMatrix, stored_matrices

WEIGHT_SCHEMES = (
    *(f"w{bits}a16-g128-asym" for bits in (8, 6, 5, 4, 3, 2)), "w4a16-g32-asym", "w4a16-channel-sym", "fp8-channel", "mxfp4",
    "nvfp4",
)  # fmt: skip


def measure_weights(
    source: ModelSource, *, device: str = "cpu", on_matrix: Callable[[int, int], None] = lambda done, total: None
) -> list[Sums]:
    """Sums of every matrix that a weight recipe would quantize, some rows in memory at a time.

    Args:
        source: the model on disk.
        device: where the sums are taken.
        on_matrix: called with the elements seen so far and all of them.

    Raises:
        InvalidModelError: no matrix, one that holds values that are not numbers, or a file that ends early.
        InvalidRequestError: the device is not there.
    """
    matrices = stored_matrices(source)
    if not matrices:
        raise InvalidModelError(f"{source.name} has no matrix that a recipe would quantize", given=str(source.path))
    place = find_device(device)
    total, done, found = sum(matrix.elements for matrix in matrices), 0, []
    for matrix in matrices:
        found.append(_measure(matrix, place))
        done += matrix.elements
        on_matrix(done, total)
    return found


@torch.no_grad()
def _measure(matrix: StoredMatrix, device: torch.device) -> Sums:
    sums = Sums(matrix.name, "weight")
    elements = block_rows(device, 1)
    for block in matrix.blocks(elements):
        sums.add(block.to(device))
    if not math.isfinite(sums.powers[3]):
        raise InvalidModelError(
            f"{matrix.name} holds values that are not numbers", given=str(matrix.file), hint="the checkpoint is damaged"
        )
    schemes = {name: parse_scheme(name).weights for name in WEIGHT_SCHEMES}
    include_zero = PROTOCOLS["default"].range_includes_zero
    roundings = roundings_of(schemes, symmetric=False, include_zero=include_zero, largest=sums.largest)
    for block in matrix.blocks(elements):
        sums.look(block.to(device), roundings)
    return sums
