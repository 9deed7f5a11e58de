"""Speed of generation: how many bytes a token moves, and the rate that follows where the device's bandwidth is known.

Generating a token reads every active weight once for the whole batch and the cache of every sequence, and memory bandwidth
bounds it (roofline; arithmetic is idle at small batches). So tokens per second <= bandwidth / bytes per token, all
sequences together. A kernel that unpacks badly gains less than its bytes say: where a source measured that, the bytes are
multiplied by a penalty. Measured rates of like cases are quoted beside the bound, never mixed into it.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from knowledge.engines import EngineFormat, Kernel, find_formats
from knowledge.errors import InvalidRequestError
from knowledge.hardware import HardwareSpec
from knowledge.schemes import UNQUANTIZED_BITS, QuantScheme
from knowledge.values import field_names, value

Floats = npt.NDArray[np.float64]

_LIKE_SIZE = 4.0
"""Models within this factor of parameters are like enough for their speed to be quoted."""

_FAR = 1e4
"""Stands for a size or batch that a source does not state."""


@value
class SpeedEvidence:
    """One measured rate, as its source gives it."""

    source: str
    ref: str
    model: str
    engine: str
    hardware: str
    batch: int | None
    prompt_tokens: int | None
    generated_tokens: int | None
    decode_tokens_per_s: float | None
    latency_ms_per_token: float | None
    note: str


@value
class Speed:
    """How fast a recipe generates, as far as it is known."""

    bytes_per_token: float
    """Bytes read from memory for one token, penalty not counted."""
    tokens_per_s: float | None
    """Upper bound, all sequences together, penalty on the weights counted; None where the bandwidth is not known."""
    kernel: Kernel
    penalty: float
    """Factor by which the kernel falls short of what the bytes of its weights allow."""
    kernel_note: str
    """What the engine's source says of the kernel."""
    evidence: tuple[SpeedEvidence, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The `speed` object of the JSON contract."""
        fields = {name: getattr(self, name) for name in field_names(self)}
        return fields | {"evidence": [{name: getattr(row, name) for name in field_names(row)} for row in self.evidence]}


@overload
def bytes_per_token(active_weight_bytes: float, kv_bytes: float, batch: int = 1) -> float: ...
@overload
def bytes_per_token(active_weight_bytes: Floats, kv_bytes: Floats, batch: int = 1) -> Floats: ...
def bytes_per_token(active_weight_bytes: float | Floats, kv_bytes: float | Floats, batch: int = 1) -> float | Floats:
    """Bytes read for one generated token: `active_weight_bytes / batch + kv_bytes / batch`.

    Args:
        active_weight_bytes: weights that one token uses (of a mixture the active experts: a lower bound for batches,
            whose tokens choose different experts).
        kv_bytes: cache and state of all sequences together, as `kv_cache_bytes` gives them.
        batch: sequences that share one reading of the weights.

    Raises:
        InvalidRequestError: the batch is below 1.
    """
    if batch < 1:
        raise InvalidRequestError("a batch has at least one sequence", given=str(batch), allowed="1 or more")
    return (active_weight_bytes + kv_bytes) / batch


def tokens_per_s_upper(moved_bytes: float, hardware: HardwareSpec | None) -> float | None:
    """Upper bound of generated tokens per second: bandwidth / bytes per token; None where the bandwidth is not known."""
    if hardware is None or hardware.bandwidth_bytes_per_s is None or moved_bytes <= 0:
        return None
    return hardware.bandwidth_bytes_per_s / moved_bytes


def kernel_penalty(row: EngineFormat, bits_per_weight: float) -> float:
    """Factor on the bytes moved, at least 1, for a kernel that falls short of its bytes.

    A format of b bits should run 16 / b times as fast as 16 bits. Where `r` times was measured, the factor is
    `(16 / b) / r`; where a source only says that the kernel is slow, the format is taken to gain nothing: `r = 1`.
    """
    ratio = row.relative_speed if row.relative_speed is not None else 1.0 if row.kernel == "slow" else None
    return max(1.0, UNQUANTIZED_BITS / bits_per_weight / ratio) if ratio else 1.0


def estimate_speed(
    scheme: QuantScheme,
    *,
    engine: str,
    checkpoint: str,
    moved_bytes: float,
    weight_bytes: float | None = None,
    hardware: HardwareSpec | None = None,
    evidence: Sequence[SpeedEvidence] = (),
) -> Speed:
    """What is known of the speed of a scheme on an engine.

    Args:
        scheme: number formats.
        engine: the engine that runs it.
        checkpoint: checkpoint format.
        moved_bytes: of `bytes_per_token`.
        weight_bytes: how many of them are weights, which alone a slow kernel delays; None = all.
        hardware: the device, where known.
        evidence: measured rates to quote, as `nearest_evidence` picks them.

    Raises:
        UnknownNameError: nobody knows the engine.
    """
    rows = find_formats(engine, checkpoint, scheme)
    row = rows[0] if rows else None
    penalty = kernel_penalty(row, scheme.bits_per_weight) if row else 1.0
    delayed = moved_bytes if weight_bytes is None else weight_bytes
    return Speed(
        bytes_per_token=moved_bytes,
        tokens_per_s=tokens_per_s_upper(moved_bytes + (penalty - 1) * delayed, hardware),
        kernel=row.kernel if row else "unknown",
        penalty=penalty,
        kernel_note=row.notes if row else "",
        evidence=tuple(evidence),
    )


def nearest_evidence(
    rows: Iterable[Mapping[str, Any]],
    scheme: QuantScheme,
    *,
    method: str,
    engine: str,
    params_b: float | None,
    batch: int = 1,
    hardware: str | None = None,
    count: int = 3,
) -> tuple[SpeedEvidence, ...]:
    """The measured rates most like a case: same bits and engine; then device, file type, method, batch and size decide.

    One rate of a table of a source is enough, that with the nearest batch and size; models of more than four times the
    size, or less than a quarter, are left out.

    Args:
        rows: rows of the table of measured efficiency.
        scheme: number formats; weight and activation bits must agree.
        method: name of the method.
        engine: the engine; rows of other engines are left out.
        params_b: parameters of the model in 1e9.
        batch: sequences at once.
        hardware: name of the device, as the catalogue has it.
        count: how many to return at most.
    """

    def fits(row: Mapping[str, Any]) -> bool:
        size = _value(row, "params_b")
        if size and params_b and abs(log(size / params_b)) > log(_LIKE_SIZE):
            return False
        bits = (_value(row, "w_bits"), _value(row, "a_bits") or UNQUANTIZED_BITS, _value(row, "kv_bits") or UNQUANTIZED_BITS)
        rated = _value(row, "decode_tok_s") is not None or _value(row, "latency_ms_per_token") is not None
        named = str(row.get("engine") or "").startswith(engine)
        return named and rated and bits == (scheme.w_bits, scheme.a_bits, scheme.kv_bits)

    def distance(row: Mapping[str, Any]) -> tuple[object, ...]:
        size = _value(row, "params_b")
        off = abs(log(size / params_b)) if size and params_b else _FAR
        return (
            not (hardware and _same_device(hardware, str(row.get("hardware") or ""))),
            scheme.file_type is not None and row.get("format") != scheme.file_type,
            row.get("method") != method,
            abs(log((_value(row, "batch") or _FAR) / batch)),
            round(off, 2),
            (_value(row, "n_gpus") or 1) != 1,
            str(row.get("source")),
            str(row.get("ref")),
            str(row.get("model")),
        )

    nearest: dict[tuple[object, ...], Mapping[str, Any]] = {}
    for row in sorted(filter(fits, rows), key=distance):
        nearest.setdefault((row.get("source"), row.get("ref"), row.get("model"), row.get("hardware")), row)
    return tuple(_evidence(row) for row in list(nearest.values())[:count])


def _same_device(name: str, text: str) -> bool:
    """Whether the words of a catalogue name all stand in a source's name for its device."""
    flat = "".join(character for character in text.lower() if character.isalnum())
    return all(word in flat for word in name.lower().split("-") if word not in ("sxm", "pcie"))


def _value(row: Mapping[str, Any], name: str) -> float | None:
    """A number of a row, None where it is missing (None or NaN)."""
    value = row.get(name)
    return None if value is None or value != value else float(value)


def _count(row: Mapping[str, Any], name: str) -> int | None:
    value = _value(row, name)
    return None if value is None else int(value)


def _evidence(row: Mapping[str, Any]) -> SpeedEvidence:
    return SpeedEvidence(
        source=str(row["source"]),
        ref=str(row["ref"]),
        model=str(row["model"]),
        engine=str(row["engine"]),
        hardware=str(row.get("hardware") or ""),
        batch=_count(row, "batch"),
        prompt_tokens=_count(row, "prompt_len"),
        generated_tokens=_count(row, "gen_len"),
        decode_tokens_per_s=_value(row, "decode_tok_s"),
        latency_ms_per_token=_value(row, "latency_ms_per_token"),
        note=str(row.get("note") or ""),
    )
