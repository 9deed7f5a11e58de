"""Builders of small real values, and the command line as a function. Each builder takes what a test cares about."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class CliResult:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_cli(*args: object) -> CliResult:
    """Run `qadvisor ARGS` in this process."""
    from advisor.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(arg) for arg in args])
    return CliResult(code=code, out=out.getvalue(), err=err.getvalue())


def make_memory(**changes: Any) -> Any:
    from advisor.answer import Memory

    values: dict[str, Any] = {
        "weights_bytes": 4_370_000_000, "kv_cache_bytes": 2_280_000_000, "state_bytes": 0, "buffers_bytes": 650_000_000,
        "total_bytes": 7_300_000_000, "budget_bytes": 16_000_000_000, "policy": "full cache",
    }  # fmt: skip
    return Memory(**(values | changes))


def make_quality(point: float = 0.012, lower: float = 0.001, upper: float = 0.03, **changes: Any) -> Any:
    from advisor.answer import Estimate, Quality, TaskQuality

    loss = Estimate(point=point, lower=lower, upper=upper)
    task = TaskQuality(
        task="longbench", weight=1.0, loss=loss, predicted=loss, direct=None, n_evidence=0, in_support=True,
        n_calibration=1834, baseline=41.2, expected_score=40.7, chance=0.0, metric="score",
    )  # fmt: skip
    values: dict[str, Any] = {
        "kind": "relative_loss", "unit": "share of above-chance performance", "loss": loss,
        "expected_loss": 0.014, "level": 0.9, "basis": "predicted", "n_evidence": 0, "in_support": True,
        "expected_score": 40.7, "baseline": 41.2, "by_task": (task,),
    }  # fmt: skip
    return Quality(**(values | changes))


def make_option(rank: int = 1, **changes: Any) -> Any:
    from advisor.answer import EvidenceRow, Option, RuleEffect

    rule = RuleEffect(
        id="L07", title="Long texts: 4-bit weights before a KV cache below 8 bits", effect="prefer", strength="strong",
        why="Long-context scores fall sooner with the cache than with the weights.",
        citations=("Li et al. 2024 (arXiv 2402.18158), section 7",), status="applied",
    )  # fmt: skip
    row = EvidenceRow(
        source="li2024", ref="table 7", model="mistral-7b-v0.1", scheme="w4a16-g128", method="awq", task="longeval",
        metric="accuracy", context=16384, score=98.2, baseline=98.6, loss=0.004,
    )  # fmt: skip
    values: dict[str, Any] = {
        "rank": rank, "scheme": "w4a16-g128-kv8", "method": "awq", "format": "awq", "engines": ("vllm", "lmdeploy"),
        "bits_per_weight": 4.156, "memory": make_memory(), "quality": make_quality(), "speed": None, "pareto": True,
        "rules": (rule,), "evidence": (row,),
        "reasons": ("fewest bytes moved per token among the recipes within 0.01 of the least loss",),
        "cautions": ("8-bit caches were measured on A100 only",),
    }  # fmt: skip
    return Option(**(values | changes))


def make_recommendation(**changes: Any) -> Any:
    from advisor.answer import Recommendation, Rejection

    values: dict[str, Any] = {
        "knowledge_version": "0.1.0+abc1234", "tool_version": "0.1.0",
        "request": {
            "model": "mistral-7b", "task": "long-context", "memory": 16_000_000_000, "context": 32768, "batch": 1,
            "hardware": None, "engine": None, "max_loss": None, "objective": "balanced",
        },
        "model": {"name": "mistral-7b-v0.1", "hf_id": "mistralai/Mistral-7B-v0.1", "params_total": 7_241_732_096, "layers": 32},
        "recommendations": (
            make_option(),
            make_option(2, scheme="gguf:q4_k_m-kvq8_0", method="imatrix", format="gguf", engines=("llama.cpp", "ollama")),
            make_option(3, scheme="w8a8", method="smoothquant", format="compressed-tensors", engines=("vllm", "sglang")),
        ),
        "rejected": (
            Rejection(scheme="w16a16", method="none", reason="19.1 GB at this context", limit="memory"),
            Rejection(scheme="w8a16", method="rtn", reason="16.4 GB at this context", limit="memory"),
            Rejection(scheme="w2a16-g64", method="rtn", reason="loses up to 61 %", limit="max_loss"),
        ),
        "n_candidates": 1204,
        "changes": ("with 20GB: w16a16",),
        "notes": ("mistral-7b was taken for mistral-7b-v0.1",),
    }  # fmt: skip
    return Recommendation(**(values | changes))
