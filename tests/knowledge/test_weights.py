"""Bytes of checkpoints: worked sizes, published ones, and what must hold for every format."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.catalogue import find_model
from knowledge.errors import InvalidModelError, UnknownNameError
from knowledge.models import StoredTensor
from knowledge.schemes import QuantArgs, QuantScheme, parse_scheme
from knowledge.tensors import params_total
from knowledge.weight_formats import CONTAINERS, default_format
from knowledge.weights import WeightBytes, weights_bytes

LINEAR, TABLES, NORMS = 6_476_005_376, 2 * 131_072_000, 65 * 4096
"""Llama-2-7B: weights of the layers' matrices, embedding and head, norms."""
MATRICES = {(4096, 4096): 4 * 32, (11008, 4096): 2 * 32, (4096, 11008): 32}
"""(outputs, inputs) of its matrices and how many there are."""
REST = 2 * (TABLES + NORMS)


def _sum(formula: object) -> int:
    return sum(count * formula(rows, cols) for (rows, cols), count in MATRICES.items())  # type: ignore[operator]


def _bytes(model: str, scheme: str, format: str | None = None, method: str = "rtn") -> WeightBytes:
    return weights_bytes(find_model(model), parse_scheme(scheme), format, method=method)


BY_HAND = {
    ("w16a16", "safetensors"): 2 * LINEAR + REST,
    ("w4a16-g128", "gptq"): LINEAR // 2 + _sum(lambda o, i: i // 128 * (o // 2 + 2 * o) + 4 * i) + REST,
    ("w4a16-g128", "awq"): LINEAR // 2 + LINEAR // 128 * 5 // 2 + REST,
    ("w4a16-g128", "compressed-tensors"): LINEAR // 2 + LINEAR // 64 + 224 * 16 + REST,
    ("w4a16-g128-asym", "compressed-tensors"): LINEAR // 2 + LINEAR // 64 + LINEAR // 256 + 224 * 16 + REST,
    ("w8a8", "compressed-tensors"): LINEAR + _sum(lambda o, i: 2 * o) + REST,
    ("fp8", "compressed-tensors"): LINEAR + _sum(lambda o, i: 2 * o) + REST,
    ("fp8-astatic-tensor", "compressed-tensors"): LINEAR + 224 * 4 + REST,
    ("fp8-block", "fp8"): LINEAR + 4 * LINEAR // 128**2 + REST,
    ("nvfp4", "compressed-tensors"): LINEAR // 2 + LINEAR // 16 + 224 * 8 + REST,
    ("mxfp4", "compressed-tensors"): LINEAR // 2 + LINEAR // 32 + REST,
    ("mxfp8", "compressed-tensors"): LINEAR + LINEAR // 32 + REST,
    ("nf4", "bitsandbytes"): LINEAR // 2 + LINEAR // 16 + 224 * 154 + REST,
    ("nf4-dq", "bitsandbytes"): LINEAR // 2 + LINEAR // 64 + LINEAR // 64 // 64 + 224 * (1024 + 154) + REST,
    ("w8a16", "bitsandbytes"): LINEAR + _sum(lambda o, i: 4 * o + 1) + REST,
    ("w4a16-g64", "hqq"): LINEAR // 2 + LINEAR // 16 + REST,
    ("w4a16-g128", "quanto"): LINEAR // 2 + LINEAR // 32 + REST,
    ("w8a16", "quanto"): LINEAR + _sum(lambda o, i: 2 * o) + REST,
    ("w4a16-g128", "torchao"): (LINEAR + TABLES // 2) // 2 + (LINEAR + TABLES // 2) // 32 + TABLES + 2 * NORMS,
    ("exl2:4.0bpw", "exl2"): LINEAR // 2 + TABLES // 2 * 6 // 8 + TABLES + 2 * NORMS,
    ("exl3:4.0bpw", "exl3"): LINEAR // 2 + _sum(lambda o, i: 2 * (o + i)) + TABLES * 3 // 8 + 2 * 36096 + TABLES + 2 * NORMS,
    ("mlx:q4", "mlx"): (LINEAR + TABLES) // 2 + (LINEAR + TABLES) // 16 + 2 * NORMS,
}  # fmt: skip


@pytest.mark.parametrize(("case", "expected"), BY_HAND.items(), ids=[" ".join(case) for case in BY_HAND])
def test_llama_2_7b_by_hand(case: tuple[str, str], expected: int) -> None:
    scheme, format = case
    assert _bytes("llama-2-7b", scheme, format).total == expected


@pytest.mark.parametrize(
    ("model", "scheme", "format", "published"),
    [
        ("llama-3.1-8b-instruct", "w4a16-g128", "compressed-tensors", 5_700_595_200),
        ("llama-3.1-8b-instruct", "w8a16-g128", "compressed-tensors", 9_190_252_544),
        ("llama-3.1-70b", "nf4-dq", "bitsandbytes", 39.52e9),
        ("llama-3.1-70b", "w8a8", "compressed-tensors", 72.68e9),
        ("qwen2.5-7b", "nf4", "bitsandbytes", 5.85e9),
        ("mistral-7b-v0.1", "w4a16-g128", "awq", 4.15e9),
        ("mistral-7b-v0.1", "w4a16-g32", "gptq", 4.57e9),
        ("mistral-7b-v0.1", "w8a16-channel", "gptq", 7.52e9),
        ("llama-3.2-3b", "w4a16-g128", "torchao", 2.29e9),
    ],
)
def test_published_sizes(model: str, scheme: str, format: str, published: float) -> None:
    assert _bytes(model, scheme, format).total == pytest.approx(published, rel=0.002)


def test_w4a16_of_llama_3_1_8b_is_exact() -> None:
    """vllm-project/llm-compressor issue 1215 gives the tensors' bytes."""
    assert _bytes("llama-3.1-8b-instruct", "w4a16-g128").total == 5_700_595_200


@pytest.mark.parametrize(
    ("scheme", "method", "format"),
    [
        ("w16a16", "none", "safetensors"),
        ("w4a16-g128", "gptq", "gptq"),
        ("w4a16-g128", "awq", "awq"),
        ("w3a16-g128", "awq", "compressed-tensors"),
        ("w4a16-g128", "rtn", "compressed-tensors"),
        ("w4a16-g64", "hqq", "hqq"),
        ("nf4", "rtn", "bitsandbytes"),
        ("fp4", "rtn", "bitsandbytes"),
        ("w8a16", "llm.int8", "bitsandbytes"),
        ("w8a8", "smoothquant", "compressed-tensors"),
        ("gguf:q4_k_m", "imatrix", "gguf"),
        ("exl2:4.0bpw", "exl2", "exl2"),
        ("mlx:q4", "rtn", "mlx"),
    ],
)
def test_default_format(scheme: str, method: str, format: str) -> None:
    assert default_format(parse_scheme(scheme), method) == format
    assert _bytes("llama-2-7b", scheme, method=method).format == format


def test_imatrix_method_makes_an_imatrix_file() -> None:
    assert _bytes("qwen2.5-7b", "gguf:q4_0", method="imatrix").total - _bytes("qwen2.5-7b", "gguf:q4_0").total == 12_730_368


def test_routers_and_experts() -> None:
    spec = find_model("mixtral-8x7b")
    size = weights_bytes(spec, parse_scheme("w4a16-g128"))
    assert dict(size.by_role)["ffn_gate_inp"] == 2 * 32 * 8 * 4096
    assert dict(size.by_role)["ffn_down_exps"] == 32 * 8 * (4096 * 14336 // 2 + 4096 * 14336 // 64 + 16)


def test_gpt_oss_quantizes_only_its_experts() -> None:
    spec = find_model("gpt-oss-20b")
    size = dict(weights_bytes(spec, parse_scheme("mxfp4")).by_role)
    assert size["attn_q"] == 24 * 4096 * 2880 * 2
    assert size["ffn_gate_exps"] == 24 * 32 * 2880 * 2880 * 17 // 32


def test_a_quantized_file_has_its_own_bytes() -> None:
    stored = (
        StoredTensor(name="blk.0.attn_q.weight", shape=(64, 64), dtype="Q4_K", bytes=2304),
        StoredTensor(name="output_norm.weight", shape=(64,), dtype="F32", bytes=256),
    )
    spec = replace(find_model("llama-2-7b"), stored_tensors=stored, stored_scheme=parse_scheme("gguf:q4_k_m"))
    size = weights_bytes(spec, parse_scheme("gguf:q4_k_m-kvq8_0"))
    assert (size.total, size.quantized, size.kept16) == (2560, 2304, 256)
    assert weights_bytes(spec, parse_scheme("w4a16-g128")).total > 3e9


def test_an_unquantized_file_has_its_own_bytes_at_16_bits_only() -> None:
    stored = (StoredTensor(name="lm_head.weight", shape=(64, 64), dtype="BF16", bytes=8192),)
    spec = replace(find_model("llama-2-7b"), stored_tensors=stored)
    assert weights_bytes(spec, parse_scheme("w16a16")).total == 8192
    assert weights_bytes(spec, parse_scheme("w4a16-g128")).total > 3e9


def test_parameter_count_stands_in_for_an_unknown_shape() -> None:
    spec = replace(find_model("llama-2-7b"), architecture=None, params_published=6_738_415_616)
    size = weights_bytes(spec, parse_scheme("w4a16-g128"))
    assert not size.exact
    assert size.total == round(6_738_415_616 * 4.125 / 8)
    assert "architecture" in size.notes[0]
    assert weights_bytes(spec, parse_scheme("gguf:q8_0")).total == round(6_738_415_616 * 8.5 / 8)


def test_nothing_known_is_an_error() -> None:
    spec = replace(find_model("llama-2-7b"), architecture=None, params_published=None)
    with pytest.raises(InvalidModelError, match="architecture"):
        weights_bytes(spec, parse_scheme("w4a16-g128"))


def test_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="gptk"):
        _bytes("llama-2-7b", "w4a16-g128", "gptk")


@pytest.mark.parametrize(("scheme", "words"), [("w3a16", "group"), ("codebook2", "codebook")])
def test_conventions_are_stated(scheme: str, words: str) -> None:
    assert words in " ".join(_bytes("llama-2-7b", scheme).notes)


INTEGER = ("gptq", "compressed-tensors", "hqq", "quanto", "torchao", "mlx")
MODELS = ("llama-2-7b", "mixtral-8x7b", "qwen3-0.6b", "deepseek-v2-lite", "falcon-7b")


@given(
    format=st.sampled_from(sorted(CONTAINERS)),
    bits=st.sampled_from([2, 3, 4, 8]),
    group=st.sampled_from([32, 64, 128]),
    symmetric=st.sampled_from([None, True, False]),
    model=st.sampled_from(MODELS),
)
def test_parts_add_up(format: str, bits: int, group: int, symmetric: bool | None, model: str) -> None:
    weights = QuantArgs(num_bits=bits, strategy="group", group_size=group, symmetric=symmetric)
    size = weights_bytes(find_model(model), QuantScheme(weights=weights), format)
    assert size.total == size.quantized + size.overhead + size.kept16 == sum(part for _, part in size.by_role)
    assert size.total < 2 * (params_total(find_model(model)) or 0)


WHOLE = ("llama-2-7b", "mixtral-8x7b", "qwen3-0.6b", "llama-3.1-70b")
"""Models whose rows divide into groups; where they do not, torchao and MLX leave a matrix at 16 bits."""


@given(format=st.sampled_from(INTEGER), group=st.sampled_from([32, 64, 128, 256]), model=st.sampled_from(WHOLE))
def test_more_bits_never_take_fewer_bytes(format: str, group: int, model: str) -> None:
    spec = find_model(model)
    sizes = [
        weights_bytes(spec, QuantScheme(weights=QuantArgs(num_bits=bits, strategy="group", group_size=group)), format).total
        for bits in (2, 3, 4, 8)
    ]
    assert sizes == sorted(sizes)


@given(bits=st.sampled_from([2, 3, 4, 5, 6]), model=st.sampled_from(MODELS))
def test_longer_groups_never_take_more_bytes(bits: int, model: str) -> None:
    spec = find_model(model)
    sizes = [
        weights_bytes(spec, QuantScheme(weights=QuantArgs(num_bits=bits, strategy="group", group_size=group))).total
        for group in (32, 64, 128, 256)
    ]
    assert sizes == sorted(sizes, reverse=True)
