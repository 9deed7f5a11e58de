"""Speed: bytes a token moves, the bound that follows, penalties for slow kernels, and the measured rates that are quoted."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.speed import bytes_per_token, estimate_speed, kernel_penalty, nearest_evidence, tokens_per_s_upper
from knowledge.engines import find_formats
from knowledge.errors import InvalidRequestError
from knowledge.hardware import HardwareSpec, find_hardware
from knowledge.schemes import parse_scheme


@pytest.mark.parametrize(
    ("weights", "cache", "batch", "expected"),
    [
        pytest.param(4e9, 1e9, 1, 5e9, id="one sequence reads both"),
        pytest.param(4e9, 8e9, 8, 1.5e9, id="eight share the weights"),
        pytest.param(4e9, 0, 1, 4e9, id="no cache"),
    ],
)
def test_bytes_per_token(weights: float, cache: float, batch: int, expected: float) -> None:
    assert bytes_per_token(weights, cache, batch) == expected


def test_bytes_per_token_of_many() -> None:
    assert bytes_per_token(np.array([4e9, 2e9]), np.array([1e9, 1e9])).tolist() == [5e9, 3e9]


def test_a_batch_is_positive() -> None:
    with pytest.raises(InvalidRequestError, match="at least one sequence"):
        bytes_per_token(1.0, 1.0, 0)


@given(weights=st.floats(1, 1e12), cache=st.floats(0, 1e12), more=st.floats(0, 1e12), batch=st.integers(1, 64))
def test_more_bytes_are_never_faster(weights: float, cache: float, more: float, batch: int) -> None:
    assert bytes_per_token(weights, cache, batch) <= bytes_per_token(weights + more, cache, batch)
    assert bytes_per_token(weights, cache, batch) <= bytes_per_token(weights, cache + more, batch)
    assert bytes_per_token(weights, cache * batch, batch) >= bytes_per_token(weights, cache * (batch + 1), batch + 1) * (
        1 - 1e-9
    )


def test_upper_bound() -> None:
    assert tokens_per_s_upper(5.04e9, find_hardware("rtx-4090")) == pytest.approx(200)
    assert tokens_per_s_upper(5e9, None) is None
    assert tokens_per_s_upper(5e9, HardwareSpec(name="x", vendor="cpu", source="test")) is None
    assert tokens_per_s_upper(0, find_hardware("rtx-4090")) is None


@pytest.mark.parametrize(
    ("engine", "checkpoint", "scheme", "expected"),
    [
        pytest.param("vllm", "gptq", "w4a16-g128", 1.0, id="a fitted kernel"),
        pytest.param("transformers", "bitsandbytes", "w8a8-channel", 2 / 0.19, id="LLM.int8: 0.19 of the 16-bit speed"),
        pytest.param("transformers", "gptq", "w4a16-channel", 4.0, id="as fast as 16 bits: gains nothing"),
        pytest.param("vllm", "gguf", "gguf:q8_0", 16 / 8.5, id="said to be slow, no figure"),
        pytest.param("vllm", "safetensors", "w16a16", 1.0, id="16 bits"),
    ],
)
def test_kernel_penalty(engine: str, checkpoint: str, scheme: str, expected: float) -> None:
    parsed = parse_scheme(scheme)
    row = find_formats(engine, checkpoint, parsed)[0]
    assert kernel_penalty(row, parsed.bits_per_weight) == pytest.approx(expected)


def test_estimate() -> None:
    device = find_hardware("a100-80gb-sxm")
    speed = estimate_speed(
        parse_scheme("nf4"), engine="transformers", checkpoint="bitsandbytes", moved_bytes=4.5e9, hardware=device
    )
    assert speed.kernel == "slow"
    assert speed.penalty == pytest.approx(16 / 4.5 / 0.51)
    assert speed.tokens_per_s == pytest.approx(2039e9 / 4.5e9 / speed.penalty)
    assert "QwenLM" in speed.kernel_note
    document = speed.as_dict()
    assert json.loads(json.dumps(document)) == document
    assert {"bytes_per_token", "tokens_per_s", "kernel"} <= document.keys()


def test_a_slow_kernel_delays_the_weights_not_the_cache() -> None:
    device = find_hardware("a100-80gb-sxm")
    speed = estimate_speed(
        parse_scheme("w8a8-channel"),
        engine="transformers",
        checkpoint="bitsandbytes",
        moved_bytes=10e9,
        weight_bytes=7e9,
        hardware=device,
    )
    assert speed.tokens_per_s == pytest.approx(2039e9 / (7e9 * 2 / 0.19 + 3e9))


def test_estimate_of_what_no_row_lists() -> None:
    speed = estimate_speed(parse_scheme("exl2:4.0bpw"), engine="vllm", checkpoint="exl2", moved_bytes=1e9)
    assert (speed.kernel, speed.penalty, speed.tokens_per_s, speed.kernel_note) == ("unknown", 1.0, None, "")


def make_row(**values: object) -> dict[str, object]:
    row = {
        "source": "test", "ref": "table 1", "model": "m-7b", "params_b": 7.0, "method": "gptq", "w_bits": 4.0, "a_bits": 16.0,
        "kv_bits": 16.0, "format": "gptq", "engine": "vllm", "hardware": "NVIDIA A100-80GB SXM", "n_gpus": 1, "batch": 1,
        "prompt_len": 512, "gen_len": 128, "decode_tok_s": 100.0, "latency_ms_per_token": None, "note": "",
    }  # fmt: skip
    return row | values


def nearest(rows: list[dict[str, object]], scheme: str = "w4a16-g128", hardware: str | None = "a100-80gb-sxm") -> list[str]:
    found = nearest_evidence(rows, parse_scheme(scheme), method="gptq", engine="vllm", params_b=7.0, hardware=hardware)
    return [row.ref for row in found]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"w_bits": 8.0}, id="bits"),
        pytest.param({"a_bits": 8.0}, id="activation bits"),
        pytest.param({"kv_bits": 8.0}, id="cache bits"),
        pytest.param({"engine": "sglang"}, id="engine"),
        pytest.param({"decode_tok_s": None}, id="no rate"),
        pytest.param({"decode_tok_s": float("nan")}, id="no rate, as the store gives it"),
        pytest.param({"params_b": 70.0}, id="ten times the size"),
    ],
)
def test_rows_of_other_cases_are_left_out(other: dict[str, object]) -> None:
    assert nearest([make_row(**other)]) == []


@pytest.mark.parametrize(
    "further",
    [
        pytest.param({"hardware": "RTX 4090"}, id="device"),
        pytest.param({"method": "awq"}, id="method"),
        pytest.param({"batch": 16}, id="batch"),
        pytest.param({"batch": None}, id="batch not stated"),
        pytest.param({"params_b": 13.0}, id="size"),
        pytest.param({"n_gpus": 4}, id="devices"),
    ],
)
def test_the_nearest_comes_first(further: dict[str, object]) -> None:
    rows = [make_row(ref="far", **further), make_row(ref="near")]
    assert nearest(rows) == ["near", "far"]


def test_the_file_type_counts() -> None:
    rows = [make_row(ref="other", format="gguf:q4_0"), make_row(ref="same", format="gguf:q4_k_m")]
    assert nearest(rows, "gguf:q4_k_m") == ["same", "other"]


def test_one_rate_of_a_table() -> None:
    rows = [make_row(prompt_len=length) for length in (1, 512, 8192)]
    assert nearest(rows, hardware=None) == ["table 1"]


def test_latency_alone_is_a_rate() -> None:
    row = make_row(decode_tok_s=None, latency_ms_per_token=10.0, batch=None, hardware=None)
    found = nearest_evidence([row], parse_scheme("w4a16-g128"), method="gptq", engine="vllm", params_b=None)
    assert (found[0].latency_ms_per_token, found[0].batch, found[0].hardware) == (10.0, None, "")
