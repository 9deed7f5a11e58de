"""GGUF mixes against llama.cpp's own figures and published files."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.catalogue import find_model
from knowledge.errors import InvalidModelError, InvalidSchemeError
from knowledge.filesizes import load_filesizes
from knowledge.ggml import GGML_TYPES, GGUF_FILE_TYPES
from knowledge.gguf_mix import ALIASES, GgufOptions, gguf_bytes, gguf_tensor_types, gguf_tensors
from knowledge.tensors import missing_facts, params_total

TYPES = ["q2_k", "q3_k_m", "q4_0", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k", "q8_0"]
BITS = {
    "llama-2-7b": (3.006, 3.915, 4.541, 4.578, 4.844, 5.678, 6.564, 8.501),
    "mistral-7b-v0.1": (3.003, 3.887, 4.538, 4.573, 4.825, 5.668, 6.563, 8.501),
    "llama-3-8b": (3.159, 3.996, 4.636, 4.667, 4.894, 5.704, 6.563, 8.501),
    "qwen2.5-7b": (3.162, 3.994, 4.649, 4.677, 4.913, 5.713, 6.564, 8.501),
    "gemma-2-9b": (3.289, 4.117, 4.707, 4.738, 4.982, 5.749, 6.564, 8.502),
}
"""Bits per weight without importance matrix; Llama-2-7B and Llama-3-8B as llama.cpp's READMEs print them."""


@pytest.mark.parametrize("model", BITS)
def test_bits_per_weight_of_each_mix(model: str) -> None:
    found = [round(gguf_bytes(find_model(model), kind).bits_per_weight, 3) for kind in TYPES]
    assert found == list(BITS[model])


def test_rows_that_do_not_fill_a_block_fall_back() -> None:
    """Qwen2.5-0.5B: 896 = 3.5 x 256 columns everywhere but in ffn_down, whose 4864 are 19 x 256."""
    spec = replace(find_model("qwen2.5-0.5b"), tied_embeddings=True)
    kinds = {tensor.role: tensor.kind for tensor in gguf_tensor_types(spec, "q4_k_s") if tensor.count > 4}
    assert kinds["attn_q"] == kinds["ffn_up"] == "q5_0"
    assert kinds["ffn_down"] == "q4_k"
    assert {t.kind for t in gguf_tensor_types(spec, "q4_k_m") if t.role == "token_embd"} == {"q8_0"}


MIXTRAL = ["q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"]


@pytest.mark.parametrize(
    ("era", "sizes"),
    [
        ("today", (17.31, 20.43, 22.55, 24.17, 26.75, 28.45, 32.23, 33.23, 38.38)),
        ("2023-12", (15.64, 20.29, 20.36, 20.43, 26.44, 26.44, 32.23, 32.23, 38.38)),
    ],
)
def test_mixtral_in_gigabytes(era: str, sizes: tuple[float, ...]) -> None:
    """Today's mixes, and TheBloke's files of the week in which llama.cpp learned Mixtral."""
    spec = find_model("mixtral-8x7b")
    assert [round(gguf_bytes(spec, kind, GgufOptions(era=era)).total / 1e9, 2) for kind in MIXTRAL] == list(sizes)


def _size(model: str, kind: str, **options: object) -> int:
    return gguf_bytes(find_model(model), kind, GgufOptions(**options)).total  # type: ignore[arg-type]


def test_q2_k_of_2023_had_more_bits() -> None:
    """Llama-2-7B: 3.35 bits in llama.cpp's README of that time, 3.01 since pull request 4872."""
    assert round(gguf_bytes(find_model("llama-2-7b"), "q2_k", GgufOptions(era="2023")).bits_per_weight, 2) == 3.35
    assert round(_size("mistral-7b-v0.1", "q2_k", era="2023") / 1e9, 2) == 3.08


def test_importance_matrix_gives_q4_0_four_q4_1_layers() -> None:
    """Three of 28 layers' ffn_down: 0.5 bits more (pull request 4969)."""
    more = _size("qwen2.5-7b", "q4_0", imatrix=True) - _size("qwen2.5-7b", "q4_0")
    assert more == 3 * 18944 * 3584 // 16 == 12_730_368


@pytest.mark.parametrize(
    ("kind", "base"), [("q4_k_l", "q4_k_m"), ("q6_k_l", "q6_k"), ("q3_k_xl", "q3_k_l"), ("q2_k_l", "q2_k")]
)
def test_large_mixes_have_embedding_and_head_at_q8_0(kind: str, base: str) -> None:
    spec = find_model("llama-3-8b")
    large = {t.role: t.kind for t in gguf_tensor_types(spec, kind)}
    assert large["token_embd"] == large["output"] == "q8_0"
    stated = GgufOptions(token_embedding_type="q8_0", output_tensor_type="q8_0")
    assert gguf_bytes(spec, kind).total == gguf_bytes(spec, base, stated).total


@pytest.mark.parametrize(("alias", "kind"), ALIASES.items(), ids=ALIASES.keys())
def test_short_names_are_the_medium_mixes(alias: str, kind: str) -> None:
    assert _size("llama-3-8b", alias) == _size("llama-3-8b", kind)


def test_pure_has_one_type() -> None:
    kinds = {t.kind for t in gguf_tensor_types(find_model("llama-3-8b"), "q4_k_m-pure")}
    assert kinds == {"q4_k", "f32"}


def test_tied_table_takes_the_type_of_the_head() -> None:
    spec = find_model("gemma-2-9b")
    kinds = {era: _kind_of(spec, era) for era in ("2023", "2024-02", "today")}
    assert kinds == {"2023": "q4_k", "2024-02": "q4_k", "today": "q6_k"}
    assert _kind_of(find_model("gemma-7b"), "2024-02") == "q8_0"


def _kind_of(spec: object, era: str) -> str:
    types = gguf_tensor_types(spec, "q4_k_m", GgufOptions(era=era))  # type: ignore[arg-type]
    return next(t.kind for t in types if t.role == "token_embd")


def test_separate_output_of_a_tied_model() -> None:
    spec = find_model("qwen3-0.6b")
    extra = _size("qwen3-0.6b", "q8_0", separate_output=True) - _size("qwen3-0.6b", "q8_0")
    assert 0 <= extra - (spec.vocab or 0) * (spec.hidden or 0) // 32 * 34 < 100  # and its line in the directory


def test_fused_matrices_are_split_where_the_converter_does() -> None:
    roles = {t.role for t in gguf_tensors(find_model("internlm2-7b"))}
    assert {"attn_q", "attn_k", "attn_v"} <= roles
    assert "attn_qkv" not in roles
    assert "attn_qkv" in {t.role for t in gguf_tensors(find_model("phi-3-mini-4k-instruct"))}


def test_fused_matrices_follow_attn_v_since_2026() -> None:
    spec = find_model("phi-3-mini-4k-instruct")
    kinds = [
        {t.kind: t.count for t in gguf_tensor_types(spec, "q4_k_m", GgufOptions(era=era)) if t.role == "attn_qkv"}
        for era in ("2025-06-01", "today")
    ]
    assert kinds == [{"q5_k": 32}, {"q6_k": 16, "q4_k": 16}]


@pytest.mark.parametrize(("kind", "published"), [("q4_k_m", 3.9), ("q6_k", 5.3), ("q8_0", 6.8), ("q2_k", 2.6)])
def test_gemma_3n_in_gibibytes(kind: str, published: float) -> None:
    """bartowski's files, printed to 0.1 GiB: per-layer embeddings at the base type, AltUp and LAuReL at 16 bits."""
    size = gguf_bytes(find_model("gemma-3n-e4b-it"), kind, GgufOptions(era="2025-07-01", imatrix=True)).total
    assert size / 2**30 == pytest.approx(published, abs=0.06)


def test_falcon_rules() -> None:
    kinds = [(t.kind, t.count) for t in gguf_tensor_types(find_model("falcon-40b"), "q4_k_m") if t.role == "ffn_down"]
    assert dict(kinds) == {"q6_k": 3, "q5_k": 27, "q4_k": 30}
    assert {t.kind for t in gguf_tensor_types(find_model("falcon-40b"), "q4_k_m") if t.role == "output"} == {"q8_0"}


def test_seventy_billion_rule() -> None:
    kinds = {t.kind for t in gguf_tensor_types(find_model("llama-3.1-70b"), "q3_k_s") if t.role == "attn_v"}
    assert kinds == {"q5_k"}


@pytest.mark.parametrize("kind", ["iq4_ks", "ud-q4_k_xl", "q9_k"], ids=["another tool's", "a recipe", "unknown"])
def test_mixes_without_a_rule_are_refused(kind: str) -> None:
    with pytest.raises(InvalidSchemeError, match=kind):
        gguf_bytes(find_model("llama-3-8b"), kind)


def test_unknown_age_is_refused() -> None:
    with pytest.raises(InvalidSchemeError, match="age"):
        _size("llama-3-8b", "q4_k_m", era="last year")


def test_incomplete_shape_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="kv_heads"):
        gguf_bytes(replace(find_model("llama-3-8b"), kv_heads=None), "q4_k_m")


def test_files_known_to_the_byte() -> None:
    """Every such published file of a known shape within 1 %, half of them within 0.1 %, with the options of a plain file."""
    errors = {}
    for row in load_filesizes():
        kind = row.format.removeprefix("gguf:")
        if row.exact and row.format.startswith("gguf:") and row.model != "mpt-7b-chat":
            try:
                spec = find_model(row.model)
            except LookupError:
                continue
            if not missing_facts(spec):
                size = gguf_bytes(spec, kind, GgufOptions(era="2026-01-01")).total
                errors[row.model, kind] = abs(size / (row.size_bytes or 1) - 1)
    values = sorted(errors.values())
    assert len(values) >= 35
    assert values[len(values) // 2] <= 0.001
    assert values[-1] <= 0.01, max(errors, key=errors.__getitem__)


KNOWN = sorted(name for name, kind in GGUF_FILE_TYPES.items() if kind.known_mix)


@given(
    kind=st.sampled_from(KNOWN), model=st.sampled_from(["llama-3-8b", "mixtral-8x7b", "qwen3-0.6b", "gemma-2-9b", "falcon-7b"])
)
def test_every_parameter_is_stored_once(kind: str, model: str) -> None:
    spec = find_model(model)
    stored = gguf_tensor_types(spec, kind)
    assert sum(tensor.params for tensor in stored) == params_total(spec)
    assert all(tensor.cols % GGML_TYPES[tensor.kind].block == 0 for tensor in stored)


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b", "qwen3-0.6b", "llama-3.1-70b"])
@pytest.mark.parametrize(
    "ladder",
    [
        ["q2_k_s", "q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k", "q8_0", "f16"],
        ["iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xs", "iq3_s", "iq3_m", "iq4_xs"],
    ],
    ids=["k-quants", "i-quants"],
)
def test_more_bits_never_take_fewer_bytes(model: str, ladder: list[str]) -> None:
    """Of models whose rows fill the blocks; where they fall back, Q2_K may well be larger than Q3_K_S."""
    sizes = [gguf_bytes(find_model(model), kind).total for kind in ladder]
    assert sizes == sorted(sizes)
