"""What was run, on what, and what came out: the record that a measurement leaves and that the knowledge base reads.

One record is one cell of a sweep (model x recipe x task) in one JSON file. A number never travels without its conditions:
`Environment` says on what it was made, `ComparabilityKey` with what it may be compared. Unknown is None.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from knowledge.errors import DataError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

SCHEMA_VERSION = 1
"""Raised when the meaning of a field changes; a reader refuses versions it does not know."""

Scalar = str | int | float | bool | None


class Strict:
    """Fields that nobody knows are refused when a record is read."""

    __slots__ = ()
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec(Strict):
    """What to run: everything that decides the result, so that two equal specs need one run."""

    model: str
    """Name shown to people; `model_fingerprint` decides identity."""
    model_fingerprint: str
    """Hash over the configuration and the weight files, see `measure.models.fingerprint`."""
    recipe: str
    """Fully stated recipe name (`w4a16-g128-asym:gptq`), `none` for the baseline."""
    protocol: str = "default"
    """Conventions that a scheme name leaves open; a name in `measure.presets.PROTOCOLS`."""
    task: str
    task_hash: str
    """Hash over the task's definition, options and data, as far as they are known before the run."""
    options: dict[str, Scalar] = field(default_factory=dict)
    """Task options that the user may set: limit, context, shots, …"""
    calibration: str | None = None
    """Hash of the calibration request; None where the method needs no data."""
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    """Kind of device: cpu, cuda or mps."""

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that name this run; the shown model name does not take part."""
        content = {name: value for name, value in asdict(self).items() if name != "model"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def stem(self) -> str:
        """File name without its ending: readable parts first, then the key."""
        parts = (self.model.rstrip("/").rsplit("/", 1)[-1], self.recipe, self.task)
        return "__".join([*(re.sub(r"[^\w.+-]+", "-", part)[:60].strip("-.") for part in parts), self.key])


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Strict):
    """On what a record was made."""

    tool_version: str
    python: str
    platform: str
    device: str
    """Kind of device: cpu, cuda or mps."""
    device_name: str | None = None
    device_memory_bytes: int | None = None
    device_count: int | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None
    cpu_threads: int | None = None
    libraries: dict[str, str] = field(default_factory=dict)
    """Installed versions of the packages that decide results."""
    commit: str | None = None
    """Commit of the checkout that ran, None for an installed package."""
    dirty: bool | None = None
    """Whether that checkout had uncommitted changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts(Strict):
    """The model that ran."""

    family: str
    """`model_type` of its configuration."""
    architecture: str
    parameters: int
    fingerprint: str
    revision: str | None = None
    """Commit on the hub, where it was read from a hub snapshot."""
    tokenizer_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFacts(Strict):
    """Text that a method saw."""

    source: str
    samples: int
    tokens_per_sample: int
    seed: int
    sha256: str
    """Over the token ids, so equal hashes mean equal calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationFacts(Strict):
    """What was really done to the model, as `measure.verify` found it."""

    scheme: str
    method: str
    protocol: str
    library: str
    """`own`, or the package whose code made the values."""
    simulated: bool
    """Rounded and scaled back in floating point: says nothing about memory or speed."""
    conventions: dict[str, str] = field(default_factory=dict)
    """Rules that the scheme name leaves open (scale of a symmetric code, rounding of a block scale, …)."""
    tensors_expected: int = 0
    tensors_changed: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    """Weight matrices that stay at 16 bits, with the reason."""
    group_exceptions: dict[str, str] = field(default_factory=dict)
    """Matrices whose rows the group does not divide, with what was done."""
    bits_per_weight: float | None = None
    """Effective bits over the quantized matrices: codes, scales, zero points, outliers."""
    model_bits_per_weight: float | None = None
    """The same over all parameters, those that stay counted with 16 bits."""
    weight_error: float | None = None
    """|W - Wq| / |W| over the quantized matrices."""
    logit_change: float | None = None
    """|logits - baseline logits| / |baseline logits| on the probe tokens."""
    calibration: CalibrationFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Strict):
    """A metric against the unquantized model on the same samples (paired)."""

    baseline: float
    delta: float
    """Quantized - baseline, mean over the samples."""
    lower: float | None = None
    upper: float | None = None
    level: float = 0.95
    resamples: int | None = None
    n: int
    flips: float | None = None
    """Share of items right before and wrong after, or the other way round (arXiv 2407.09141)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Strict):
    """One metric of one task."""

    metric: str
    value: float
    stderr: float | None = None
    """Standard error; None where it is not defined (one sample, a rank statistic)."""
    stderr_method: str | None = None
    n: int
    """Independent samples behind the value."""
    unit: str
    higher_is_better: bool | None
    """None for quantities that are neither (a token count)."""
    per_sample: str | None = None
    """Column of `RunRecord.samples` whose mean is the value, or of which it is a function."""
    against_baseline: Comparison | None = None

    def __post_init__(self) -> None:
        for name in ("value", "stderr"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise DataError(
                    f"{name} of {self.metric} is not finite", given=str(number), hint="the model gives no usable numbers"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparabilityKey(Strict):
    """Two numbers may be compared when these agree; `differences` names what does not."""

    task: str
    task_version: str | None = None
    data_hash: str | None = None
    metric_version: str | None = None
    shots: int | None = None
    chat_template_hash: str | None = None
    harness: str | None = None
    """Package and version whose code formed prompts and scores."""
    limit: int | None = None
    context: int | None = None
    dtype: str = "float32"
    model_fingerprint: str
    tokenizer_hash: str | None = None
    seed: int = 0

    def differences(self, other: "ComparabilityKey") -> list[str]:
        """Names of the fields in which the two differ, empty where numbers may be compared."""
        mine, theirs = asdict(self), asdict(other)
        return [name for name, value in mine.items() if value != theirs[name]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError(Strict):
    """Why a cell has no numbers."""

    code: str
    message: str
    hint: str | None = None
    where: str | None = None
    """Stage that failed: quantize, verify, score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(Strict):
    """One cell of a sweep: what ran and what came out, or why nothing did."""

    schema_version: int = SCHEMA_VERSION
    key: str
    spec: RunSpec
    status: Literal["ok", "failed"]
    error: RunError | None = None
    started: str
    """UTC, ISO 8601."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of the stages."""
    model: ModelFacts
    quantization: QuantizationFacts | None = None
    comparability: ComparabilityKey | None = None
    measurements: list[Measurement] = field(default_factory=list)
    samples: dict[str, list[float | int | str | None]] = field(default_factory=dict)
    """Columns of equal length, one row a sample: `id`, then one column a metric."""
    details: dict[str, Scalar] = field(default_factory=dict)
    environment: Environment

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise DataError(
                f"run record of schema version {self.schema_version}",
                given=str(self.schema_version),
                allowed=str(SCHEMA_VERSION),
                hint="read it with the version of qadvisor that wrote it",
            )
        if self.key != self.spec.key:
            raise DataError("the key does not belong to the spec", given=self.key, allowed=self.spec.key)
        if (self.status == "failed") != (self.error is not None):
            raise DataError("a failed record has an error, any other has none", given=self.status)
        lengths = {len(column) for column in self.samples.values()}
        if len(lengths) > 1:
            raise DataError("sample columns of different length", given=str(sorted(lengths)))

    def to_json(self) -> str:
        """The record as JSON text, which `record_from_json` reads back to an equal record."""
        return _adapter().dump_json(self, indent=1).decode() + "\n"


@lru_cache(maxsize=1)
def _adapter() -> "TypeAdapter[RunRecord]":
    from pydantic import TypeAdapter

    return TypeAdapter(RunRecord)


def record_from_json(text: str | bytes, *, source: str = "run record") -> RunRecord:
    """The record that `text` holds.

    Raises:
        DataError: no JSON, an unknown or missing field, a value of the wrong type, another schema version.
    """
    from pydantic import ValidationError

    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise refused(error, source, "run") from error


def load_record(path: Path) -> RunRecord:
    """The record in the file `path`.

    Raises:
        DataError: the file cannot be read, or holds no record.
    """
    try:
        return record_from_json(path.read_bytes(), source=str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", given=str(path)) from error


def refused(error: "ValidationError", source: str, command: str) -> DataError:
    """The error of a file that does not hold what `qadvisor measure COMMAND` writes."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    where = f" at {place}" if place else ""
    return DataError(
        f"{source}: {first['msg']}{where}", given=place or None, hint=f"`qadvisor measure {command}` writes such files"
    )
