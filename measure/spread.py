"""Moments, outliers and rounding noise of values that come in parts, on any device.

The statistics of the seed study's figures (arXiv 2402.18158, section 3.2: AbsMax, Std, Kurtosis), with outliers and SQNR.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from knowledge.probes import KINDS, Kind, TensorStats
from knowledge.schemes import QuantArgs
from measure.bits import dividing_group
from measure.quantizers.fake import Rounding, accumulator, fake_nvfp4, nvfp4_tensor_scale, rounding_for

_OUTLIER = 6.0
_SILENT_DB = 200.0
"""SQNR reported where rounding changes nothing: far beyond what float32 resolves."""


@dataclass(slots=True)
class Sums:
    """Sums over a tensor that is seen twice: moments first, then what lies far out and the noise of each scheme."""

    name: str
    kind: Kind
    count: int = 0
    largest: float = 0.0
    tail: int = 0
    powers: list[float] = field(default_factory=lambda: [0.0] * 4)
    """Sums of x, x^2, x^3, x^4."""
    noise: dict[str, float] = field(default_factory=dict)
    """Scheme -> sum of squared rounding errors."""

    def add(self, values: Tensor) -> None:
        """First pass: moments."""
        x = values.detach().to(accumulator(values.device)).reshape(-1)
        square = x * x
        self.count += x.numel()
        self.largest = max(self.largest, float(square.max()) ** 0.5)
        sums = (x.sum(), square.sum(), torch.dot(square, x), torch.dot(square, square))
        self.powers = [before + float(more) for before, more in zip(self.powers, sums, strict=True)]

    def look(self, values: Tensor, roundings: Mapping[str, Rounding]) -> None:
        """Second pass over the same values: outliers and noise."""
        x = values.detach().float()
        wide = accumulator(values.device)
        self.tail += int((x.abs() > _OUTLIER * math.sqrt(self._moments()[0])).sum())
        for scheme, rounding in roundings.items():
            error = float((rounding(x) - x).square_().sum(dtype=wide))
            self.noise[scheme] = self.noise.get(scheme, 0.0) + error

    def merge(self, other: "Sums") -> None:
        """Take in the sums of another tensor; its outliers stay those of its own standard deviation."""
        self.count += other.count
        self.largest = max(self.largest, other.largest)
        self.tail += other.tail
        self.powers = [mine + its for mine, its in zip(self.powers, other.powers, strict=True)]
        for scheme, error in other.noise.items():
            self.noise[scheme] = self.noise.get(scheme, 0.0) + error

    def _moments(self) -> tuple[float, float]:
        """Variance and fourth central moment."""
        first, second, third, fourth = (power / self.count for power in self.powers)
        central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        return max(second - first**2, 0.0), max(central, 0.0)

    @property
    def layer(self) -> int | None:
        """Number of the block, by the first number in the name."""
        match = re.search(r"\.(\d+)\.", self.name)
        return int(match[1]) if match else None

    @property
    def part(self) -> str:
        """Last component of the module's name."""
        return self.name.removesuffix(".weight").rpartition(".")[2]

    def stats(self, *, part: str | None = None) -> TensorStats:
        """What was found; `part` where the sums are over layers."""
        variance, central = self._moments()
        return TensorStats(
            name=self.name,
            kind=self.kind,
            layer=self.layer if part is None else None,
            part=part or self.part,
            elements=self.count,
            abs_max=self.largest,
            std=math.sqrt(variance),
            kurtosis=central / variance**2 if variance else 0.0,
            outlier_share=self.tail / self.count,
            sqnr_db={scheme: _decibel(self.powers[1], noise) for scheme, noise in self.noise.items()},
        )


def total_stats(found: Iterable[Sums]) -> list[TensorStats]:
    """Sums over layers: for each kind its parts in the order of first sight, then all of it."""
    tensors = list(found)
    totals = []
    for kind in KINDS:
        of_kind = [sums for sums in tensors if sums.kind == kind]
        parts = dict.fromkeys(sums.part for sums in of_kind)
        groups = [(part, [sums for sums in of_kind if sums.part == part]) for part in parts]
        groups += [("all", of_kind)] if of_kind else []
        for part, members in groups:
            total = Sums(f"{kind} {part}", kind)
            for sums in members:
                total.merge(sums)
            totals.append(total.stats(part=part))
    return totals


def _decibel(signal: float, noise: float) -> float:
    return _SILENT_DB if noise == 0 or signal == 0 else min(_SILENT_DB, 10 * math.log10(signal / noise))


def roundings_of(
    schemes: Mapping[str, QuantArgs | None], *, symmetric: bool, include_zero: bool, largest: float | None = None
) -> dict[str, Rounding]:
    """Scheme name -> rounding of rows, with a dividing group where the stated one does not divide.

    Args:
        schemes: number format by name.
        symmetric: symmetry of integers that do not state it.
        include_zero: whether an asymmetric range is widened to contain 0.
        largest: largest magnitude of the whole tensor, where it comes in parts and a format has a scale per tensor.
    """

    def rounding(args: QuantArgs) -> Rounding:
        def rounded(x: Tensor) -> Tensor:
            columns = x.shape[-1]
            group = dividing_group(columns, args.group_size) if args.strategy == "group" and args.group_size else columns
            if args.dtype == "nvfp" and largest is not None:
                return fake_nvfp4(x, group, tensor_scale=nvfp4_tensor_scale(torch.tensor(largest, device=x.device)))
            stated = symmetric if args.symmetric is None else args.symmetric
            return rounding_for(args, group, symmetric=stated, include_zero=include_zero)(x)

        return rounded

    return {name: rounding(args) for name, args in schemes.items() if args is not None}
