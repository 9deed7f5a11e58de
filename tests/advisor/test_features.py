import math

import numpy as np
import pytest

from advisor.features import RECIPE_COLUMNS, encode, recipe_features, series_of
from advisor.noise import CLEAN
from knowledge.errors import DataError


def recipe(**cells):
    return recipe_features(tuple(cells.get(name) for name in RECIPE_COLUMNS))


@pytest.mark.parametrize(
    ("model", "series"),
    [
        ("llama-3.1-8b-instruct", "llama-3.1"),
        ("qwen2.5-0.5b", "qwen2.5"),
        ("deepseek-r1-distill-qwen-7b", "deepseek-r1-distill-qwen"),
        ("mixtral-8x7b", "mixtral"),
        ("opt-350m", "opt"),
        ("gpt-j", ""),
        ("7b", ""),
        ("", ""),
    ],
)
def test_series_is_what_stands_before_the_size(model, series):
    assert series_of(model) == series


def test_scheme_fills_in_for_missing_columns():
    stated = recipe(w_bits=4, w_dtype="int", w_group=128, w_sym=False, a_bits=8, a_dtype="int", kv_bits=16)
    assert recipe(scheme="w4a8-g128-asym", w_sym=False) == stated


@pytest.mark.parametrize("missing", [None, "", math.nan])
def test_every_kind_of_missing_is_one(missing):
    names = {name: [missing] for name in ("w_group", "w_sym", "params_b", "context", "baseline", "family", "task")}
    plain = encode({"w_bits": [4]})
    features = encode({"w_bits": [4], **names})
    for name, values in plain.numbers.items():
        np.testing.assert_array_equal(values, features.numbers[name], err_msg=name)
    for name, texts in plain.names.items():
        assert texts.tolist() == features.names[name].tolist()


@pytest.mark.parametrize("value", ["1", "true", True, 1.0, np.True_])
def test_flags_in_every_spelling(value):
    assert encode({"tuned": [value]}).numbers["tuned"].tolist() == [1.0]


def test_tensor_kinds_at_16_bits_are_clean():
    features = recipe(w_bits=16, a_bits=16, kv_bits=16)
    assert (features.w_noise, features.a_noise, features.kv_noise) == (CLEAN, CLEAN, CLEAN)
    assert (features.code, features.a_code, features.kv_code) == ("", "", "")


def test_gguf_mixes_are_ordered_by_size():
    names = ["q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"]
    levels = [recipe(scheme=f"gguf:{name}").w_noise for name in names]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) == len(levels)


@pytest.mark.parametrize(
    ("name", "code"), [("kv4", "int"), ("kvfp8", "fp"), ("kvq4_0", "block"), ("kivi2", "kivi"), ("kv8g64", "int")]
)
def test_kind_of_cache_from_its_name(name, code):
    bits = float("".join(c for c in name.split("_")[0].split("g")[0] if c.isdigit()))
    assert recipe(kv_bits=bits, kv_name=name).kv_code == code


@pytest.mark.parametrize(
    ("metric", "task_type", "nats"),
    [
        ("ppl", "language-modeling", True),
        ("acc", "language-modeling", False),
        ("", "language-modeling", True),
        ("", "emergent", False),
        ("no-such-metric", "language-modeling", True),
        ("acc", "", False),
    ],
)
def test_kind_of_loss_follows_from_metric_then_task_type(metric, task_type, nats):
    assert encode({"metric": [metric], "task_type": [task_type]}).is_nll.tolist() == [nats]


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(DataError, match="differ in length"):
        encode({"w_bits": [4, 3], "params_b": [7]})


def test_a_number_that_is_none_is_refused_by_column():
    with pytest.raises(DataError, match="'params_b'"):
        encode({"params_b": ["seven"]})


def test_a_scheme_that_cannot_be_read_is_refused():
    with pytest.raises(DataError, match="'scheme'"):
        encode({"scheme": ["w4b16"]})


def test_no_rows():
    assert len(encode({"w_bits": []})) == 0
