"""Tables of published figures as they come in (CSV): one model a kind of row, and a reader that refuses out loud."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from knowledge.tasks import METRICS, TaskType

_Blank = BeforeValidator(lambda value: None if value == "" else value)
_Number = Annotated[float | None, _Blank]
_Integer = Annotated[Annotated[int, Field(ge=-(2**31), lt=2**31)] | None, _Blank]
"""As wide as the INTEGER columns of the store."""
_Flag = Annotated[bool | None, _Blank]
_Text = Annotated[str | None, _Blank]
_Bits = Annotated[float, Field(gt=0, le=16)]


class _Row(BaseModel):
    """A row of a table: a column that nobody knows is refused, an empty cell is None."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: str = Field(min_length=1)
    ref: str = Field(min_length=1)
    model: str = Field(min_length=1)
    params_b: _Number = None
    method: str = Field(min_length=1)
    note: _Text = None


class AccuracyRow(_Row):
    """One score of one quantized model on one task."""

    family: str = Field(min_length=1)
    tuned: _Flag = None
    w_bits: _Bits
    w_dtype: _Text = None
    w_group: _Integer = None
    w_sym: _Flag = None
    a_bits: _Bits
    a_dtype: _Text = None
    a_gran: _Text = None
    kv_bits: _Bits
    kv_dtype: _Text = None
    kv_group: _Text = None
    format: _Text = None
    bpw: _Number = None
    task: str = Field(min_length=1)
    task_type: TaskType
    ability: str = Field(min_length=1)
    shots: _Integer = None
    context: _Integer = None
    metric: str
    higher_is_better: bool
    score: float
    baseline: float
    baseline_dtype: _Text = None

    @model_validator(mode="after")
    def _sane(self) -> "AccuracyRow":
        """Refuse a metric that nobody knows, its wrong direction, and scores beyond its scale."""
        metric = METRICS.get(self.metric)
        if metric is None:
            raise ValueError(f"unknown metric {self.metric!r}")
        if self.metric not in ("bias", "acc_drop") and metric.higher_is_better != self.higher_is_better:
            raise ValueError(f"higher_is_better={self.higher_is_better:d} does not fit metric {self.metric}")
        for name, value in (("score", self.score), ("baseline", self.baseline)):
            if metric.maximum is not None and not 0 <= value <= metric.maximum:
                raise ValueError(f"{name} {value:g} is outside 0 … {metric.maximum:g} of metric {self.metric}")
            if metric.loss == "delta_nll" and self.metric != "nll" and value < 1:
                raise ValueError(f"{name} {value:g} cannot be a perplexity")
        return self


class EfficiencyRow(_Row):
    """One measured speed or memory figure."""

    w_bits: Annotated[_Bits | None, _Blank] = None
    a_bits: Annotated[_Bits | None, _Blank] = None
    kv_bits: Annotated[_Bits | None, _Blank] = None
    format: _Text = None
    engine: _Text = None
    hardware: _Text = None
    n_gpus: _Integer = None
    batch: _Integer = None
    prompt_len: _Integer = None
    gen_len: _Integer = None
    prefill_tok_s: _Number = None
    decode_tok_s: _Number = None
    latency_ms_per_token: _Number = None
    peak_mem_gb: _Number = None
    weights_gb: _Number = None

    @model_validator(mode="after")
    def _measured(self) -> "EfficiencyRow":
        """Refuse speeds and sizes that are not positive."""
        for name in ("prefill_tok_s", "decode_tok_s", "latency_ms_per_token", "peak_mem_gb", "weights_gb"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} {value:g} cannot be measured")
        return self


RowT = TypeVar("RowT", bound=_Row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A row that was not taken: where it stands and why."""

    file: str
    row: int
    """Line of the file, the header being line 1 (of rows without line breaks)."""
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow(Generic[RowT]):
    """A valid row with its place in its file, and as it was written."""

    file: str
    row: int
    value: RowT
    cells: dict[str, str]


def read_table(path: Path, kind: type[RowT]) -> Iterator[TableRow[RowT] | Refusal]:
    """The rows of a CSV table, each either valid or refused with its reason."""
    with path.open(encoding="utf-8", newline="") as file:
        for number, cells in enumerate(csv.DictReader(file), start=2):
            try:
                value = kind.model_validate({name: text for name, text in cells.items() if text != ""})
            except ValidationError as error:
                yield Refusal(file=path.name, row=number, reason=refusal_reason(error))
            else:
                yield TableRow(file=path.name, row=number, value=value, cells=cells)


def refusal_reason(error: ValidationError) -> str:
    """What is wrong with a row, field by field."""
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'row'}: {item['msg']}" for item in error.errors(include_url=False))
