"""The candidate relation: what the predicates of rules may speak of, and how the table is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from knowledge.errors import DataError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Sort = Literal["INTEGER", "BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN"]


@dataclass(frozen=True, slots=True)
class CandidateColumn:
    """One column of the candidate relation."""

    sort: Sort
    """DuckDB type."""
    meaning: str
    """One line for the documentation, with the unit or the values."""


def _columns() -> dict[str, CandidateColumn]:
    column = CandidateColumn
    return {
        "candidate_id": column("INTEGER", "number of the candidate; a candidate has one row a task"),
        "scheme": column("VARCHAR", "canonical scheme name, KV part included: `w4a16-g128-kv8`"),
        "method": column("VARCHAR", "method name: `rtn`, `gptq`, `awq`, …; `none` where nothing but the KV cache is quantized"),
        "format": column("VARCHAR", "checkpoint format: `gptq`, `awq`, `compressed-tensors`, `bitsandbytes`, `gguf`, …"),
        "engine": column("VARCHAR", "engine that would run it"),
        "w_bits": column("DOUBLE", "nominal weight bits, 16 = not quantized"),
        "w_dtype": column("VARCHAR", "`int`, `fp`, `nf`, `mxint`, `mxfp`, `nvfp`, `codebook`, `binary`, `kquant`; NULL at 16"),
        "w_group": column("INTEGER", "weights that share a scale; -1 per output channel, 0 per tensor, NULL not stated"),
        "w_sym": column("BOOLEAN", "weights symmetric around zero; NULL not stated"),
        "a_bits": column("DOUBLE", "activation bits, 16 = not quantized"),
        "a_dtype": column("VARCHAR", "`int`, `fp`, `mxint`, `mxfp`, `nvfp`; NULL at 16 bits"),
        "kv_bits": column("DOUBLE", "KV-cache bits, 16 = not quantized"),
        "kv_dtype": column("VARCHAR", "`int`, `fp`, `block` (ggml types), `kivi` (keys per channel), `none`"),
        "kv_name": column("VARCHAR", "KV part of the scheme name: `kv16`, `kv8`, `kvfp8`, `kvq8_0`, `kivi2`, …"),
        "bits_per_weight": column("DOUBLE", "bits of a quantized weight, scales and zero points counted"),
        "calibration": column("VARCHAR", "what the method needs: `none`, `data`, `training`"),
        "method_rank": column("INTEGER", "0 rounding, 1 scaling or compensation, 2 both or learned, 3 retraining"),
        "weights_bytes": column("BIGINT", "bytes of all weights"),
        "kv_cache_bytes": column("BIGINT", "bytes of the KV cache at `context` and `batch`"),
        "state_bytes": column("BIGINT", "bytes of recurrent state"),
        "buffers_bytes": column("BIGINT", "bytes of working buffers and runtime"),
        "total_bytes": column("BIGINT", "sum of the four"),
        "budget_bytes": column("BIGINT", "bytes that the request allows"),
        "fits": column("BOOLEAN", "`total_bytes <= budget_bytes`"),
        "model": column("VARCHAR", "canonical model name"),
        "family": column("VARCHAR", "model family: `llama`, `qwen`, `opt`, …"),
        "params_b": column("DOUBLE", "parameters in 1e9"),
        "active_params_b": column("DOUBLE", "parameters used per token in 1e9; equals `params_b` without experts"),
        "moe": column("BOOLEAN", "mixture of experts"),
        "tuned": column("BOOLEAN", "instruction- or chat-tuned; NULL not stated"),
        "reasoning": column("BOOLEAN", "trained to reason at length before it answers; NULL not stated"),
        "gqa_ratio": column("DOUBLE", "attention heads per KV head; NULL not known"),
        "attention_bias": column("BOOLEAN", "biases on the Q, K and V projections; NULL not known"),
        "has_kv_cache": column("BOOLEAN", "whether there is a KV cache at all (pure state-space models have none)"),
        "task": column("VARCHAR", "canonical task name"),
        "task_type": column("VARCHAR", "one of the seven task types: `basic-nlp`, `emergent`, `long-context`, `code`, …"),
        "ability": column("VARCHAR", "ability within the type: `math`, `retrieval`, `multi-document-qa`, `ethics`, …"),
        "metric": column("VARCHAR", "metric of the task"),
        "context": column("INTEGER", "tokens of context asked for"),
        "batch": column("INTEGER", "sequences decoded at once"),
        "hardware": column("VARCHAR", "device name; NULL not stated"),
        "vendor": column("VARCHAR", "`nvidia`, `amd`, `apple`, `intel`, `cpu`; NULL not stated"),
        "compute_capability": column("DOUBLE", "CUDA compute capability; NULL elsewhere"),
        "fp8_hardware": column("BOOLEAN", "the device multiplies FP8"),
        "fp4_hardware": column("BOOLEAN", "the device multiplies FP4"),
        "objective": column("VARCHAR", "`balanced`, `quality`, `speed`, `memory`"),
    }  # fmt: skip


CANDIDATE_COLUMNS: Mapping[str, CandidateColumn] = MappingProxyType(_columns())
"""Every column of the table `candidate`, in order: the words that a rule's predicate may use."""

_INPUT = "qadvisor_candidate_input"


def create_candidate_table(connection: "DuckDBPyConnection", columns: Mapping[str, object]) -> int:
    """Create the temporary table `candidate`, in place of an earlier one, and return its number of rows.

    Args:
        connection: any DuckDB connection, read-only ones included.
        columns: for each name of `CANDIDATE_COLUMNS` an array with a value a row, or one plain value that holds for all
            rows (None = unknown). NaN, None and masked entries become NULL.

    Raises:
        DataError: a column is missing or unknown, or arrays differ in length.
    """
    arrays, constants = _split(columns)
    rows = {len(array) for array in arrays.values()}
    if len(rows) != 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise DataError("the candidate columns must be arrays of one length", given=lengths or "no array at all")
    parts = [
        f"CAST({f'${name}' if name in constants else _quoted(name)} AS {column.sort}) AS {_quoted(name)}"
        for name, column in CANDIDATE_COLUMNS.items()
    ]
    connection.register(_INPUT, arrays)
    try:
        # A prepared parameter cannot stand in CREATE TABLE AS, so the empty table comes first.
        create_empty_table(connection, "candidate", {name: column.sort for name, column in CANDIDATE_COLUMNS.items()})
        connection.execute(f"INSERT INTO candidate SELECT {', '.join(parts)} FROM {_INPUT}", constants)
    finally:
        connection.unregister(_INPUT)
    return rows.pop()


def create_empty_table(connection: "DuckDBPyConnection", name: str, sorts: Mapping[str, str]) -> None:
    """Create the temporary table `name` without rows, in place of an earlier one; `sorts` are DuckDB types by column."""
    body = ", ".join(f'"{column}" {sort}' for column, sort in sorts.items())
    connection.execute(f'CREATE OR REPLACE TEMP TABLE "{name}" ({body})')


def _split(columns: Mapping[str, object]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, object]]:
    """Arrays and single values of `columns`, all names checked."""
    missing = [name for name in CANDIDATE_COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in CANDIDATE_COLUMNS]
    if missing or unknown:
        wrong = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"does not know {', '.join(unknown)}"] * bool(unknown)
        raise DataError(
            f"the candidate relation {' and '.join(wrong)}",
            given=", ".join(columns),
            allowed=list(CANDIDATE_COLUMNS),
        )
    arrays = {name: value for name, value in columns.items() if isinstance(value, np.ndarray)}
    constants = {name: _plain(name, value) for name, value in columns.items() if name not in arrays}
    return arrays, constants


def _plain(name: str, value: object) -> object:
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, str | int | float):
        return plain
    message = f"candidate column {name!r} is neither an array nor one value"
    raise DataError(message, given=type(value).__name__, allowed="a NumPy array")


def _quoted(name: str) -> str:
    return f'"{name}"'
