"""Run records on their way into evidence: every measurement is a row, left out for a reason, or quarantined with one."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_records import FACTS, FINGERPRINT, HERE, accuracy, make_record, write_records

from knowledge.evidence import BATCH_COLUMNS, EFFICIENCY_BATCH_COLUMNS
from knowledge.intake import Intake, take_in
from knowledge.measurements import Comparison, Measurement, RunError, RunRecord

HITS = [1] * 70 + [0] * 30
FEWER = [1] * 60 + [0] * 10 + [1] * 4 + [0] * 26


def rows_of(intake: Intake, **wanted: object) -> list[dict[str, object]]:
    rows = [dict(zip(BATCH_COLUMNS, values, strict=True)) for values in intake.rows]
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_a_quantized_run_becomes_a_row_against_its_baseline(tmp_path: Path) -> None:
    record = make_record("w4a16-g128:gptq", hits=FEWER)
    intake = take_in([write_records(tmp_path, make_record(), record)])
    (row,) = rows_of(intake, method="gptq")
    assert intake.read == {"run record": 2}
    expected = {
        "source": "own:measure", "licence": "none stated", "own": True, "model": "llama-2-7b", "family": "llama",
        "params_b": 6.738416, "scheme": "w4a16-g128", "w_bits": 4, "task": "hellaswag", "metric": "acc", "score": 64.0,
        "baseline": 70.0, "chance": 25.0, "items": 100, "learnable": True, "weight": 1.0, "bpw": 4.25,
        "baseline_dtype": "fp16", "note": "simulated, own", "checkpoint": f"{FINGERPRINT}/w4a16-g128:gptq/default",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["loss"] == pytest.approx(6 / 45)
    assert json.loads(str(row["key"]))["harness"] == "lm_eval 0.4.13"


def test_noise_is_that_of_the_paired_difference(tmp_path: Path) -> None:
    record = make_record("w4a16-g128:gptq", hits=FEWER)
    (row,) = rows_of(take_in([write_records(tmp_path, make_record(), record)]), method="gptq")
    difference = np.array(FEWER) - np.array(HITS)  # ten items lost, four won; one more of either is added
    error = math.sqrt(difference.var(ddof=1) / 100 + 2 / (102 * 100))
    assert row["loss_se"] == pytest.approx(error / 0.45, rel=1e-9)
    assert row["loss_se"] < 0.9 * math.sqrt(0.64 * 0.36 / 100) / 0.45, "pairing tells more than two scores do"


def test_two_equal_runs_are_not_certain_to_be_equal(tmp_path: Path) -> None:
    (row,) = rows_of(take_in([write_records(tmp_path, make_record(), make_record("w8a16-g128"))]), method="rtn")
    assert row["loss"] == 0
    assert row["loss_se"] == pytest.approx(math.sqrt(2 / (102 * 100)) / 0.45)


def test_a_record_that_carries_its_comparison_needs_no_baseline(tmp_path: Path) -> None:
    record = make_record("w4a16-g128", hits=FEWER, measurements=[accuracy(FEWER, HITS)])
    (row,) = rows_of(take_in([write_records(tmp_path, record)]))
    assert (row["score"], row["baseline"]) == (64.0, 70.0)
    assert row["loss_se"] == pytest.approx(math.hypot(0.2 / (2 * 1.959964), math.sqrt(2 / (102 * 100))) / 0.45, rel=1e-5)


def test_a_baseline_is_found_among_earlier_records(tmp_path: Path) -> None:
    new = write_records(tmp_path / "new", make_record("w4a16-g128"))
    assert len(take_in([new]).rows) == 0
    intake = take_in([new], beside=write_records(tmp_path / "runs", make_record()))
    assert [row["score"] for row in rows_of(intake)] == [70.0], "the baseline itself is not taken in again"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shots": 5}, "shots differ"),
        ({"limit": 100, "harness": "lm_eval 0.4.2"}, "harness, limit differ"),
        ({"chat_template_hash": "abc"}, "chat_template_hash differ"),
        ({"dtype": "float32"}, "dtype differ"),
        ({"task_version": "2"}, "task_version differ"),
    ],
    ids=lambda value: str(value),
)
def test_other_conditions_never_become_a_comparison(tmp_path: Path, change: dict[str, object], named: str) -> None:
    intake = take_in([write_records(tmp_path, make_record(), make_record("w4a16-g128", key=change))])
    assert rows_of(intake, method="rtn") == []
    (refused,) = intake.quarantined
    assert named in refused.reason
    assert refused.file.endswith(".json")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"comparability": None}, "states no conditions"),
        ({"quantization": None}, "does not say how the model was quantized"),
        ({"model": replace(FACTS, fingerprint="other")}, "contradicts itself"),
        ({"measurements": [accuracy(HITS, HITS, value=1.7)]}, "score 170 is outside 0 … 100"),
    ],
    ids=["conditions", "quantization", "fingerprint", "score"],
)
def test_records_that_cannot_be_right_are_quarantined(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    intake = take_in([write_records(tmp_path, make_record("w4a16-g128", **changes))])
    assert (list(intake.rows), [reason in item.reason for item in intake.quarantined]) == ([], [True])


def test_what_was_made_must_be_what_was_asked_for(tmp_path: Path) -> None:
    record = make_record("w4a16-g128")
    assert record.quantization
    record = replace(record, quantization=replace(record.quantization, scheme="w3a16-g128"))
    (refused,) = take_in([write_records(tmp_path, record)]).quarantined
    assert refused.reason == "recipe w4a16-g128 was asked for, w3a16-g128:rtn was made"


def test_failed_runs_are_counted(tmp_path: Path) -> None:
    error = RunError(code="out_of_memory", message="m")
    failed = make_record("w4a16-g128", status="failed", error=error, measurements=[], samples={}, comparability=None)
    intake = take_in([write_records(tmp_path, failed)])
    assert (list(intake.rows), list(intake.quarantined)) == ([], [])
    assert intake.left_out == {"failed run: out_of_memory": 1}


def perplexity(recipe: str, losses: list[float]) -> RunRecord:
    mean = sum(losses) / len(losses)
    measurements = [
        Measurement(metric="nll_per_token", value=mean, n=len(losses), unit="nats per token", higher_is_better=False,
                    per_sample="nll_per_token"),
        Measurement(metric="perplexity", value=math.exp(mean), n=len(losses), unit="per token", higher_is_better=False),
    ]  # fmt: skip
    samples = {"id": list(range(len(losses))), "nll_per_token": list(losses)}
    return make_record(recipe, "perplexity", measurements=measurements, samples=samples)


def test_perplexity_of_own_text_is_a_difference_in_nats_with_its_noise(tmp_path: Path) -> None:
    base, quantized = [2.0, 2.2, 2.4, 2.6], [2.1, 2.25, 2.5, 2.75]
    intake = take_in([write_records(tmp_path, perplexity("none", base), perplexity("w4a16-g128", quantized))])
    (row,) = rows_of(intake, method="rtn")
    assert (row["task"], row["metric"], row["loss_kind"], row["unit"]) == ("own_text", "ppl", "delta_nll", "nats per token")
    assert row["loss"] == pytest.approx(0.1)
    assert row["loss_se"] == pytest.approx(np.std([0.1, 0.05, 0.1, 0.15], ddof=1) / 2)
    assert intake.left_out == {"perplexity nll_per_token: no evidence of a loss": 2}


def test_perplexity_with_a_comparison_alone(tmp_path: Path) -> None:
    record = perplexity("w4a16-g128", [2.1, 2.3])
    nll, ppl = record.measurements
    nll = replace(nll, against_baseline=Comparison(baseline=2.0, delta=0.2, lower=0.1, upper=0.3, n=2))
    (row,) = rows_of(take_in([write_records(tmp_path, replace(record, measurements=[nll, ppl]))]))
    assert row["loss"] == pytest.approx(0.2)
    assert row["loss_se"] == pytest.approx(0.2 / (2 * 1.959964), rel=1e-5)


def test_retrieval_counts_length_by_length(tmp_path: Path) -> None:
    def retrieval(recipe: str, short: list[int], long: list[int]) -> RunRecord:
        hits = short + long
        measurements = [
            accuracy(hits, metric="exact_match", per_sample="exact_match"),
            accuracy(short, metric="exact_match@512", per_sample=None),
            accuracy(long, metric="exact_match@1024", per_sample=None),
        ]
        contexts = [512] * len(short) + [1024] * len(long)
        samples = {"id": list(range(len(hits))), "exact_match": list(hits), "context": contexts}
        return make_record(recipe, "retrieval", measurements=measurements, samples=samples)

    base, quantized = retrieval("none", [1] * 20, [1] * 18 + [0] * 2), retrieval("kv4", [1] * 20, [1] * 9 + [0] * 11)
    intake = take_in([write_records(tmp_path, base, quantized)])
    found = {row["context"]: row for row in rows_of(intake, task="key_retrieval", method="rtn")}
    assert {context: row["loss"] for context, row in found.items()} == {512: 0.0, 1024: pytest.approx(0.5)}
    assert found[1024]["loss_se"] > found[512]["loss_se"]
    assert intake.left_out == {"retrieval exact_match over all lengths: taken length by length": 2}


def test_word_perplexity_of_the_harness_is_weighed_by_words(tmp_path: Path) -> None:
    def rolling(recipe: str, losses: list[float], words: list[float]) -> RunRecord:
        mean = float(np.average(losses, weights=words))
        measurements = [
            Measurement(
                metric="nll_per_word", value=mean, n=3, unit="nats per word", higher_is_better=False, per_sample="nll_per_word"
            ),
            Measurement(metric="word_perplexity", value=math.exp(mean), n=3, unit="harness metric", higher_is_better=False),
        ]
        samples = {"id": ["a", "b", "c"], "nll_per_word": list(losses), "nll_per_word.weight": list(words)}
        return make_record(recipe, "wikitext", measurements=measurements, samples=samples)

    records = rolling("none", [3.0, 3.1, 3.2], [10, 20, 30]), rolling("w3a16-g128", [3.3, 3.4, 3.6], [10, 20, 30])
    intake = take_in([write_records(tmp_path, *records)])
    (row,) = rows_of(intake, method="rtn")
    assert (row["task"], row["metric"], row["unit"]) == ("wikitext", "word_perplexity", "nats per word")
    assert row["loss"] == pytest.approx((0.3 * 10 + 0.3 * 20 + 0.4 * 30) / 60)
    assert row["loss_se"] > 0


def test_speed_is_kept_apart(tmp_path: Path) -> None:
    measurements = [
        Measurement(metric="decode_rate", value=50.0, n=5, unit="tokens per second", higher_is_better=True),
        Measurement(metric="weight_bytes", value=4e9, n=1, unit="bytes", higher_is_better=False),
    ]
    device = replace(HERE, device="cuda", device_name="NVIDIA H100")
    record = make_record(
        "none", "speed", measurements=measurements, samples={}, environment=device, details={"batch": 4, "prompt_tokens": 256}
    )
    intake = take_in([write_records(tmp_path, record)])
    (row,) = (dict(zip(EFFICIENCY_BATCH_COLUMNS, values, strict=True)) for values in intake.efficiency)
    expected = {
        "engine": "transformers",
        "hardware": "NVIDIA H100",
        "batch": 4,
        "decode_tok_s": 50.0,
        "weights_gb": 4.0,
        "w_bits": 16,
    }
    assert {name: row[name] for name in expected} == expected
    assert list(intake.rows) == []


@pytest.mark.parametrize(
    ("name", "parameters", "model", "family"),
    [
        ("llama-2-7b", 6_738_415_616, "llama-2-7b", "llama"),
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616, "llama-2-7b", "llama"),
        ("llama-2-7b", 400_000, "llama-2-7b@f00dfeed", "llama"),
        ("Lab/New-Model", 400_000, "new-model", "llama"),
        ("My-Model", 400_000, "My-Model", "llama"),
    ],
    ids=["catalogue", "hub id", "namesake of another size", "unknown hub id", "folder"],
)
def test_models_keep_their_identity(tmp_path: Path, name: str, parameters: int, model: str, family: str) -> None:
    record = make_record()
    spec = replace(record.spec, model=name)
    facts = replace(FACTS, parameters=parameters)
    (row,) = rows_of(take_in([write_records(tmp_path, replace(record, spec=spec, model=facts))]))
    assert (row["model"], row["family"]) == (model, family)
    if parameters == 400_000:
        assert row["params_b"] == pytest.approx(0.0004), "a small folder of a known name does not get the known size"


def test_nothing_is_taken_twice(tmp_path: Path) -> None:
    folder = write_records(tmp_path / "runs", make_record(), make_record("w4a16-g128", hits=FEWER))
    (tmp_path / "copy").symlink_to(folder)
    again = write_records(tmp_path / "elsewhere", make_record("w4a16-g128", hits=FEWER), make_record())
    first = take_in([folder, tmp_path / "copy", folder / "*.json", again])
    assert (len(first.rows), first.known) == (2, 2)
    hashes = {str(row["row_hash"]) for row in rows_of(first)}
    second = take_in([again], known=lambda asked: set(asked) & hashes)
    assert (len(second.rows), second.known) == (0, 2)
