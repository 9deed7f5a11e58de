"""The candidate relation: what the predicates of rules may speak of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Sort = Literal["INTEGER", "BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN"]
About = Literal["recipe", "request", "both"]


@dataclass(frozen=True, slots=True)
class CandidateColumn:
    """One column of the candidate relation."""

    about: About
    """What its value follows from: the recipe alone (with its format and engine), the request alone (model, task, device,
    limits), or both together, as the bytes do."""
    sort: Sort
    """DuckDB type."""
    meaning: str
    """One line for the documentation, with the unit or the values."""


def _columns() -> dict[str, CandidateColumn]:
    recipe, request, both = (partial(CandidateColumn, about) for about in get_args(About))
    return {
        "candidate_id": both("INTEGER", "number of the candidate; a candidate has one row a task"),
        "scheme": recipe("VARCHAR", "canonical scheme name, KV part included: `w4a16-g128-kv8`"),
        "method": recipe("VARCHAR", "method name: `rtn`, `gptq`, `awq`, …; `none` where nothing but the KV cache is quantized"),
        "format": recipe("VARCHAR", "checkpoint format: `gptq`, `awq`, `compressed-tensors`, `bitsandbytes`, `gguf`, …"),
        "engine": recipe("VARCHAR", "engine that would run it"),
        "w_bits": recipe("DOUBLE", "nominal weight bits, 16 = not quantized"),
        "w_dtype": recipe("VARCHAR", "`int`, `fp`, `nf`, `mxint`, `mxfp`, `nvfp`, `codebook`, `binary`, `kquant`; NULL at 16"),
        "w_group": recipe("INTEGER", "weights that share a scale; -1 per output channel, 0 per tensor, NULL not stated"),
        "w_sym": recipe("BOOLEAN", "weights symmetric around zero; NULL not stated"),
        "a_bits": recipe("DOUBLE", "activation bits, 16 = not quantized"),
        "a_dtype": recipe("VARCHAR", "`int`, `fp`, `mxint`, `mxfp`, `nvfp`; NULL at 16 bits"),
        "kv_bits": recipe("DOUBLE", "KV-cache bits, 16 = not quantized"),
        "kv_dtype": recipe("VARCHAR", "`int`, `fp`, `block` (ggml types), `kivi` (keys per channel), `none`"),
        "kv_name": recipe("VARCHAR", "KV part of the scheme name: `kv16`, `kv8`, `kvfp8`, `kvq8_0`, `kivi2`, …"),
        "bits_per_weight": recipe("DOUBLE", "bits of a quantized weight, scales and zero points counted"),
        "calibration": recipe("VARCHAR", "what the method needs: `none`, `data`, `training`"),
        "method_rank": recipe("INTEGER", "0 rounding, 1 scaling or compensation, 2 both or learned, 3 retraining"),
        "weights_bytes": both("BIGINT", "bytes of all weights"),
        "kv_cache_bytes": both("BIGINT", "bytes of the KV cache at `context` and `batch`"),
        "state_bytes": both("BIGINT", "bytes of recurrent state"),
        "buffers_bytes": both("BIGINT", "bytes of working buffers and runtime"),
        "total_bytes": both("BIGINT", "sum of the four"),
        "budget_bytes": request("BIGINT", "bytes that the request allows"),
        "fits": both("BOOLEAN", "`total_bytes <= budget_bytes`"),
        "model": request("VARCHAR", "canonical model name"),
        "family": request("VARCHAR", "model family: `llama`, `qwen`, `opt`, …"),
        "params_b": request("DOUBLE", "parameters in 1e9"),
        "active_params_b": request("DOUBLE", "parameters used per token in 1e9; equals `params_b` without experts"),
        "moe": request("BOOLEAN", "mixture of experts"),
        "tuned": request("BOOLEAN", "instruction- or chat-tuned; NULL not stated"),
        "reasoning": request("BOOLEAN", "trained to reason at length before it answers; NULL not stated"),
        "gqa_ratio": request("DOUBLE", "attention heads per KV head; NULL not known"),
        "attention_bias": request("BOOLEAN", "biases on the Q, K and V projections; NULL not known"),
        "has_kv_cache": request("BOOLEAN", "whether there is a KV cache at all (pure state-space models have none)"),
        "task": request("VARCHAR", "canonical task name"),
        "task_type": request("VARCHAR", "one of the seven task types: `basic-nlp`, `emergent`, `long-context`, `code`, …"),
        "ability": request("VARCHAR", "ability within the type: `math`, `retrieval`, `multi-document-qa`, `ethics`, …"),
        "metric": request("VARCHAR", "metric of the task"),
        "context": request("INTEGER", "tokens of context asked for"),
        "batch": request("INTEGER", "sequences decoded at once"),
        "hardware": request("VARCHAR", "device name; NULL not stated"),
        "vendor": request("VARCHAR", "`nvidia`, `amd`, `apple`, `intel`, `cpu`; NULL not stated"),
        "compute_capability": request("DOUBLE", "CUDA compute capability; NULL elsewhere"),
        "fp8_hardware": request("BOOLEAN", "the device multiplies FP8"),
        "fp4_hardware": request("BOOLEAN", "the device multiplies FP4"),
        "objective": request("VARCHAR", "`balanced`, `quality`, `speed`, `memory`"),
    }  # fmt: skip


CANDIDATE_COLUMNS: Mapping[str, CandidateColumn] = MappingProxyType(_columns())
"""Every column of the relation `candidate`, in order: the words that a rule's predicate may use."""


def column_names(about: About) -> tuple[str, ...]:
    """The columns about one thing, in order."""
    return tuple(name for name, column in CANDIDATE_COLUMNS.items() if column.about == about)


def create_empty_table(connection: "DuckDBPyConnection", name: str, sorts: Mapping[str, str]) -> None:
    """Create the temporary table `name` without rows, in place of an earlier one; `sorts` are DuckDB types by column."""
    body = ", ".join(f'"{column}" {sort}' for column, sort in sorts.items())
    connection.execute(f'CREATE OR REPLACE TEMP TABLE "{name}" ({body})')
