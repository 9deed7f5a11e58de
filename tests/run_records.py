"""Run records as `qadvisor measure` writes them, with whatever a test cares about changed."""

from dataclasses import replace
from pathlib import Path

from knowledge.measurements import (
    ComparabilityKey,
    Comparison,
    Environment,
    Measurement,
    ModelFacts,
    QuantizationFacts,
    RunRecord,
    RunSpec,
)
from knowledge.recipes import parse_recipe

FINGERPRINT = "f00dfeed00000000"
FACTS = ModelFacts(family="llama", architecture="LlamaForCausalLM", parameters=6_738_415_616, fingerprint=FINGERPRINT)
HERE = Environment(tool_version="0.1.0", python="3.11.7", platform="Linux-x86_64", device="cpu")


def accuracy(hits: list[int], before: list[int] | None = None, **changes: object) -> Measurement:
    """An accuracy over `hits`, with its comparison where the baseline's `before` is given."""
    share = sum(hits) / len(hits)
    comparison = None
    if before is not None:
        base = sum(before) / len(before)
        comparison = Comparison(
            baseline=base, delta=share - base, lower=share - base - 0.1, upper=share - base + 0.1, n=len(hits)
        )
    values = {
        "metric": "acc", "value": share, "n": len(hits), "unit": "share of items", "higher_is_better": True,
        "per_sample": "acc", "against_baseline": comparison,
    }  # fmt: skip
    return Measurement(**(values | changes))


def make_record(
    recipe: str = "none",
    task: str = "hellaswag",
    hits: list[int] | None = None,
    *,
    key: dict[str, object] | None = None,
    **changes: object,
) -> RunRecord:
    """A record of `recipe` on `task` with an accuracy over `hits`; `key` changes the conditions, `changes` the record."""
    hits = [1] * 70 + [0] * 30 if hits is None else hits
    spec = RunSpec(
        model="llama-2-7b", model_fingerprint=FINGERPRINT, recipe=recipe, task=task, task_hash="beef", dtype="float16"
    )
    parsed = parse_recipe(recipe)
    quantization = None
    if recipe != "none":
        quantization = QuantizationFacts(
            scheme=parsed.scheme.name,
            method=parsed.method.name,
            protocol="default",
            library="own",
            simulated=True,
            bits_per_weight=4.25,
        )
    conditions = ComparabilityKey(task=task, shots=0, harness="lm_eval 0.4.13", dtype="float16", model_fingerprint=FINGERPRINT)
    values = {
        "key": spec.key, "spec": spec, "status": "ok", "started": "2026-01-01T00:00:00+00:00", "model": FACTS,
        "environment": HERE, "quantization": quantization, "comparability": replace(conditions, **(key or {})),
        "measurements": [accuracy(hits)], "samples": {"id": list(range(len(hits))), "acc": list(hits)},
    }  # fmt: skip
    return RunRecord(**(values | changes))


def write_records(folder: Path, *records: RunRecord) -> Path:
    """The records as files; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        (folder / f"{record.spec.stem}.json").write_text(record.to_json(), encoding="utf-8")
    return folder
