"""Devices: memory, bandwidth and the number formats that their arithmetic takes.

`catalog/hardware.csv` holds one device a row with the source it was read from; an empty cell was not seen. Memory is the
marketed size in GiB unless the note gives what the driver reports. FP16 rates of shader cores are kept apart from those of
matrix units (`fp16_kind`): only the latter bound a prefill.
"""

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from knowledge.errors import UnknownNameError
from knowledge.values import value

GIB = 2**30

CATALOGUE = Path(__file__).with_name("catalog") / "hardware.csv"
"""The packaged file."""

_FP8_CAPABILITY = 8.9
"""First NVIDIA generation with FP8 matrix units (Ada): vLLM docs v0.15.1, quantization, hardware table."""
_FP4_CAPABILITY = 10.0
"""First NVIDIA generation with FP4 matrix units (Blackwell): NVIDIA/TensorRT-LLM@09d4c79 features/quantization.md."""

_NOISE = re.compile(
    r"nvidia|geforce|amd|radeon|instinct|intel|apple|tesla|quadro|gpu|graphics|generation|edition|workstation|blackwell"
    r"|hbm\d?e?|gddr\d|accelerator|oem|with|design|cards?"
)
"""Words of a driver's or shop's name that tell no two rows of the catalogue apart."""


@value
class HardwareSpec:
    """One device. Every figure that was not seen is None."""

    name: str
    vendor: str
    """`nvidia`, `amd`, `apple`, `intel`, `gaudi`, `cpu`."""
    source: str
    memory_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    compute_capability: float | None = None
    fp16_flops: float | None = None
    """Dense rate of the matrix units; None where only a shader rate was seen."""
    int8_ops: float | None = None
    fp8_flops: float | None = None
    fp4_flops: float | None = None
    unified_memory: bool = False
    notes: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def fp8_hardware(self) -> bool | None:
        """Whether the matrix units take FP8; None where neither a rate nor a compute capability was seen."""
        return _has_units(self, self.fp8_flops, _FP8_CAPABILITY, "FP8")

    @property
    def fp4_hardware(self) -> bool | None:
        """Whether the matrix units take FP4; None where neither a rate nor a compute capability was seen."""
        return _has_units(self, self.fp4_flops, _FP4_CAPABILITY, "FP4")


def _has_units(spec: HardwareSpec, rate: float | None, capability: float, word: str) -> bool | None:
    if f"no native {word}" in spec.notes:
        return False
    if rate is not None:
        return True
    if spec.compute_capability is not None:
        return spec.compute_capability >= capability
    return False if spec.vendor in ("apple", "cpu") else None


@cache
def all_hardware() -> tuple[HardwareSpec, ...]:
    """Every device of the catalogue, in its order."""
    with CATALOGUE.open(encoding="utf-8", newline="") as file:
        return tuple(_spec(row) for row in csv.DictReader(file))


def find_hardware(text: str, *, memory_bytes: int | None = None) -> HardwareSpec:
    """The device that `text` names: `rtx-4090`, `RTX 4090`, `NVIDIA A100-SXM4-80GB`, `a100-80gb`, `m2-max`.

    Every word of the text that tells devices apart must be part of the row's name, or be its memory. Of several rows the
    one with the fewest words left over is taken, then the one with the least memory and bandwidth.

    Args:
        text: a name as users and drivers write it.
        memory_bytes: what the driver reports; picks among variants of one name.

    Raises:
        UnknownNameError: no device goes by that name; `allowed` lists the nearest.
    """
    wanted = _words(text)
    rated = [(rating, index) for index, row in enumerate(all_hardware()) if (rating := _rating(wanted, row, memory_bytes))]
    if not wanted or not rated:
        names = [row.name for row in all_hardware()]
        raise UnknownNameError.of("hardware", text, names, hint="`qadvisor hardware` lists all; --mem alone also works")
    return all_hardware()[min(rated)[1]]


def _rating(wanted: frozenset[str], row: HardwareSpec, memory_bytes: int | None) -> tuple[float, ...] | None:
    """How far `row` is from the words asked for, least is best; None where it is another device."""
    best: int | None = None
    for words in _names(row):
        memory = {word for word in wanted if word.endswith("gb") and word not in words and _is_memory(word, row)}
        if wanted - memory <= words:
            left_over = len(
                {word for word in words - wanted if not (word.endswith("gb") and _is_memory(word, row) and memory_bytes)}
            )
            best = left_over if best is None else min(best, left_over)
    if best is None:
        return None
    size = row.memory_bytes or 0
    # A driver reports a little less than the marketed size; another variant differs by a quarter and more.
    off = abs(size - memory_bytes) / memory_bytes if memory_bytes and size else 0.0
    return (float(round(off * 5)), float(best), float(size), row.bandwidth_bytes_per_s or 0.0)


def _is_memory(word: str, row: HardwareSpec) -> bool:
    number = re.fullmatch(r"(\d+)gb", word)
    return bool(number and row.memory_bytes and abs(row.memory_bytes / GIB - int(number[1])) <= 0.06 * int(number[1]))


@cache
def _names(row: HardwareSpec) -> tuple[frozenset[str], ...]:
    return tuple(_words(name) for name in (row.name, *row.aliases))


def _words(text: str) -> frozenset[str]:
    """Words of a device name without case, brand and punctuation; `4090ti` is `4090 ti`, `sxm4` is `sxm`."""
    name = re.sub(r"\((?:r|tm|c)\)|®|™", " ", text.lower())
    name = re.sub(r"\b(rtx|gtx|rx)(?=\d)", r"\1 ", name)
    name = re.sub(r"\b(\d{3,4})(ti|super|xtx|xt|gre)\b", r"\1 \2", name)
    name = re.sub(r"\b(\d+) ?(?:gb|gib|g)\b", r"\1gb", name)
    name = re.sub(r"\bsxm\d\b", "sxm", name)
    words = re.findall(r"[a-z0-9.+]+", name)
    return frozenset(word for word in words if not _NOISE.fullmatch(word))


def _spec(row: Mapping[str, str]) -> HardwareSpec:
    shader = row["fp16_kind"] == "shader"
    memory = _number(row["memory_gib"])
    return HardwareSpec(
        name=row["name"],
        vendor=row["vendor"],
        source=row["source"],
        memory_bytes=round(memory * GIB) if memory is not None else None,
        bandwidth_bytes_per_s=_number(row["bandwidth_gb_s"], 1e9),
        compute_capability=_number(row["compute_capability"]),
        fp16_flops=None if shader else _number(row["fp16_tflops"], 1e12),
        int8_ops=_number(row["int8_tops"], 1e12),
        fp8_flops=_number(row["fp8_tflops"], 1e12),
        fp4_flops=_number(row["fp4_tflops"], 1e12),
        unified_memory=row["unified_memory"] == "1",
        notes=row["notes"],
        aliases=tuple(filter(None, row["aliases"].split("|"))),
    )


def _number(text: str, scale: float = 1.0) -> float | None:
    return float(text) * scale if text else None
