"""The map between a table's columns and (scheme, method): every combination of the evidence, both ways, and refusals."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes_strategy import scheme_names

from knowledge.columns import METHOD_ALIASES, RECIPE_COLUMNS, columns_of, kv_kind, recipe_of
from knowledge.errors import DataError, UnknownNameError
from knowledge.recipes import METHODS
from knowledge.schemes import UNQUANTIZED, parse_kv, parse_scheme

DATA = Path(__file__).parents[1] / "data" / "recipe_columns.csv"
"""Every combination of recipe columns that occurs in the tables the evidence was made from, with what it means."""


def _combinations() -> list[dict[str, str]]:
    with DATA.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", _combinations(), ids=lambda row: "|".join(row[name] for name in RECIPE_COLUMNS))
def test_every_combination_of_the_evidence(row: dict[str, str]) -> None:
    scheme, method = recipe_of(row)
    assert (scheme.name, method) == (row["expected_scheme"], row["expected_method"])
    assert parse_scheme(scheme.name) == scheme
    columns = columns_of(scheme, method)
    assert recipe_of(columns) == (scheme, method)
    assert recipe_of({name: "" if value is None else str(value) for name, value in columns.items()}) == (scheme, method)
    for name in ("w_bits", "a_bits", "kv_bits"):
        assert columns[name] == float(row[name])


@pytest.mark.parametrize(
    ("row", "scheme", "method"),
    [
        ({"method": "bnb-nf4", "w_bits": 4, "w_dtype": "nf", "w_group": 64}, "nf4", "rtn"),
        ({"method": "rtn", "w_bits": 4, "w_dtype": "nf", "format": "nf4-dq"}, "nf4-dq", "rtn"),
        ({"method": "gptq", "w_bits": 4.0, "w_group": 128.0, "w_sym": True}, "w4a16-g128-sym", "gptq"),
        ({"method": "gptq", "w_bits": 4, "w_group": float("nan"), "w_sym": None}, "w4a16", "gptq"),
        (
            {"method": "awq", "w_bits": "4", "w_dtype": "int", "w_group": "-1", "w_sym": "0", "kv_bits": "8"},
            "w4a16-channel-asym-kv8",
            "awq",
        ),
        ({"format": "gguf:q4_k_m"}, "gguf:q4_k_m", "rtn"),
        ({"format": "GGUF:Q4_K_M", "note": "with an importance matrix"}, "gguf:q4_k_m", "imatrix"),
        ({"format": "gguf:q4_k_m", "note": "No imatrix, w = 1"}, "gguf:q4_k_m", "rtn"),
        ({"format": "gguf:q4_0 (--pure)", "method": "gguf"}, "gguf:q4_0-pure", "rtn"),
        ({"format": "gguf:q4_k_m", "kv_bits": 8, "kv_group": 32}, "gguf:q4_k_m-kvq8_0", "rtn"),
        ({"format": "exl2:4.0bpw", "method": "exl2", "kv_bits": 4}, "exl2:4.0bpw-kvq4_0", "exl2"),
        ({"method": "kivi", "w_bits": 16, "kv_bits": 2, "kv_group": 32}, "w16a16-kivi2", "kivi"),
        ({"method": "rtn", "w_bits": 16, "kv_bits": 8, "kv_dtype": "q8_0"}, "w16a16-kvq8_0", "rtn"),
        ({"method": "none", "w_bits": 16}, "w16a16", "none"),
        ({"method": "none", "w_bits": 16, "a_bits": "", "kv_bits": ""}, "w16a16", "none"),
        ({"method": "none", "format": "gguf:f16"}, "gguf:f16", "none"),
        ({"scheme": "w4a16-g128-kv8", "method": "awq"}, "w4a16-g128-kv8", "awq"),
        ({"method": "imatrix", "format": "gguf:q4_k_m", "w_bits": 4}, "gguf:q4_k_m", "imatrix"),
    ],
)
def test_values_may_be_text_numbers_or_missing(row: dict[str, object], scheme: str, method: str) -> None:
    found = recipe_of(row)
    assert (found[0].name, found[1]) == (scheme, method)


@settings(max_examples=300, deadline=None)
@given(scheme_names(), st.sampled_from(sorted(METHODS.keys() - {"none", "kivi"})))
def test_columns_of_any_scheme_are_read_back(name: str, method: str) -> None:
    scheme = parse_scheme(name)
    if scheme.weights is None and scheme.activations is None and scheme.kv_cache is None:
        method = "none"
    assert recipe_of(columns_of(scheme, method)) == (scheme, method)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"method": "gptq"}, "w_bits is empty"),
        ({"method": "gguf", "w_bits": 4, "w_dtype": "kquant"}, "'kquant' needs a format"),
        ({"method": "rtn", "w_bits": 8, "format": "gguf:q4_k_m"}, "w_bits 8 contradicts the format, which has 4 bits"),
        ({"method": "none", "w_bits": 4}, "method none, but"),
        ({"method": "rtn", "w_bits": 4, "a_bits": 8, "a_gran": "row"}, "a_gran 'row' is none of"),
        ({"method": "rtn", "w_bits": 16, "kv_bits": 4, "kv_dtype": "bf"}, "kv_dtype 'bf' is none of"),
        ({"method": "rtn", "format": "gguf:q9_k", "w_bits": 9}, "cannot read scheme 'gguf:q9_k'"),
        ({"method": "rtn", "w_bits": 40}, "40 bits cannot be"),
        ({"method": "rtn", "w_bits": 4, "w_group": "many"}, "cannot read"),
        ({"method": "rtn", "w_bits": "four"}, "w_bits 'four' is no number"),
        ({"method": "rtn", "w_bits": 4, "w_sym": "yes"}, "w_sym 'yes' is neither 1 nor 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_columns_that_cannot_be_are_refused(row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        recipe_of(row)
    assert caught.value.given is not None
    assert caught.value.given.startswith("method=")


def test_unknown_method_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'gtpq'; did you mean gptq"):
        recipe_of({"method": "gtpq", "w_bits": 4})


def test_aliases_lead_to_methods() -> None:
    assert set(METHOD_ALIASES.values()) <= METHODS.keys()
    assert not METHOD_ALIASES.keys() & METHODS.keys()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("kv16", "none"),
        ("kv8", "int"),
        ("kv4g64", "int"),
        ("kvfp8", "fp"),
        ("kvnvfp4", "fp"),
        ("kvq8_0", "block"),
        ("kivi2", "kivi"),
    ],
)
def test_kv_kind(name: str, kind: str) -> None:
    assert kv_kind(parse_kv(name)) == kind


def test_unquantized_has_no_columns_but_bits() -> None:
    filled = {name: value for name, value in columns_of(UNQUANTIZED, "none").items() if value is not None}
    assert filled == {"method": "none", "w_bits": 16, "a_bits": 16, "kv_bits": 16}
