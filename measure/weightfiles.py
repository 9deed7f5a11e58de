"""Weight matrices read from safetensors files some rows at a time, so that a model larger than memory can be looked at."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge.errors import InvalidModelError
from measure.models import ModelSource, tensor_entries
from measure.quantizers.targets import LEFT_ALONE, ROUTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_NOT_QUANTIZED = {"lm_head", "output_layer", "embed_out", "wte", "wpe", "score", "conv1d", *ROUTERS, *LEFT_ALONE}
"""Modules whose matrices no recipe quantizes, beside all with `embed` in their name."""

_STORED_TRANSPOSED = ("gpt2", "openai-gpt")
"""Families whose linear layers are stored as (in, out)."""

_EXPERTS_TRANSPOSED = ("gpt_oss", "llama4", "llama4_text")
"""Families whose stacked experts are stored as (expert, in, out)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMatrix:
    """One weight matrix (or stack of expert matrices) in a file."""

    name: str
    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """First byte in the file."""
    transposed: bool = False

    @property
    def elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def columns(self) -> int:
        """Length of a row: the inputs of a product, along which groups run."""
        return self.shape[-2] if self.transposed else self.shape[-1]

    def blocks(self, elements: int = 1 << 20) -> Iterator[Tensor]:
        """The matrix as (rows, columns) in blocks of about `elements`; a transposed one matrix by matrix.

        Raises:
            InvalidModelError: the file ended early.
        """
        unit = prod(self.shape[-2:]) if self.transposed else self.columns
        count, units = max(1, elements // unit), self.elements // unit
        size = unit * self.dtype.itemsize
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            for first in range(0, units, count):
                number = min(count, units - first)
                data = bytearray(number * size)
                if stream.readinto(data) != len(data):
                    raise InvalidModelError(
                        f"{self.file.name} is cut short", given=str(self.file), hint="complete the download"
                    )
                block = torch.frombuffer(data, dtype=self.dtype)
                if self.transposed:
                    block = block.reshape(-1, *self.shape[-2:]).transpose(-1, -2)
                yield block.reshape(-1, self.columns)


def stored_matrices(source: ModelSource) -> list[StoredMatrix]:
    """The matrices that a weight recipe would quantize, by their names in the files, in the order of layers.

    The same weights as `measure.quantizers.targets.weight_targets` of the loaded model, before anything is fused or split.

    Raises:
        InvalidModelError: weights in a type that is no plain floating-point number.
    """
    found = []
    for file in source.weight_files:
        entries, begin = tensor_entries(file)
        for name, entry in entries.items():
            shape = tuple(int(size) for size in entry["shape"])
            if _is_quantizable(name, shape):
                found.append(_matrix(source, file, name, shape, entry, begin))
    return sorted(found, key=lambda matrix: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", matrix.name)])


def _is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    module = name.removesuffix(".weight")
    parent, _, leaf = module.rpartition(".")
    if len(shape) == 3:
        return parent.endswith("experts")
    return len(shape) == 2 and name.endswith(".weight") and leaf not in _NOT_QUANTIZED and "embed" not in leaf


def _matrix(
    source: ModelSource, file: Path, name: str, shape: tuple[int, ...], entry: "Mapping[str, object]", begin: int
) -> StoredMatrix:
    dtype = _DTYPES.get(str(entry["dtype"]))
    if dtype is None:
        raise InvalidModelError(
            f"{name} is stored as {entry['dtype']}", given=str(file), allowed=list(_DTYPES),
            hint="look at the 16-bit checkpoint that this one was made of",
        )  # fmt: skip
    families = _EXPERTS_TRANSPOSED if len(shape) == 3 else _STORED_TRANSPOSED
    start = begin + int(entry["data_offsets"][0])  # type: ignore[index]
    return StoredMatrix(name=name, file=file, dtype=dtype, shape=shape, start=start, transposed=source.family in families)
