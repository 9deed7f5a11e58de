"""Scheme names parse and print both ways; bits per weight against values worked out by hand."""

import pytest
from hypothesis import given, settings
from schemes_strategy import KV_NAMES, scheme_names

from knowledge.errors import InvalidSchemeError
from knowledge.schemes import UNQUANTIZED, QuantArgs, QuantScheme, parse_kv, parse_scheme

CANONICAL = (
    "w16a16", "w4a16", "w4a16-g128", "w4a16-g128-asym", "w4a16-g128-sym", "w4a16-channel", "w3a16-g64-asym", "w2.5a16",
    "w8a8", "w8a8-channel", "w8a8-channel-astatic", "w8a8-tensor-astatic", "w4a8-channel-asym-achannel",
    "w4a4-acluster", "w4afp8-astatic", "w16a8", "fp8", "fp8a16", "fp8a16-channel", "fp8-channel", "fp8-tensor-astatic",
    "fp8-tensor-atensor", "fp8-block", "fp8aint8-channel-astatic", "fp6a16", "fp6a16-channel", "fp4", "fp4-channel",
    "nf4", "nf4-dq", "mxfp4", "mxfp4a16", "mxfp4a8", "mxfp6", "mxfp8", "mxint4a8-g128", "mxint8a8-g16", "nvfp4",
    "nvfp4a16", "codebook2", "codebook2.3", "codebook4a8", "binary1", "gguf:q4_k_m", "gguf:q4_0-pure",
    "gguf:iq4_ks-mix", "gguf:f16", "exl2:4.0bpw", "exl2:4.25bpw", "exl3:2.5bpw", "mlx:q4", "mlx:q4g32",
    *(f"w4a16-g128-asym-{kv}" for kv in KV_NAMES), "w16a16-kv8", "w16afp8", "gguf:q4_k_m-kvq8_0", "exl2:4.0bpw-kvq4_0",
    "nf4-dq-kivi2",
)  # fmt: skip

ALIASES = [
    ("none", "w16a16"),
    ("bf16", "w16a16"),
    ("INT4", "w4a16"),
    ("int8", "w8a16"),
    ("llm.int8", "w8a8"),
    ("fp8a8", "fp8"),
    ("FP8-dynamic", "fp8"),
    ("fp8-static", "fp8-astatic"),
    ("w8a8-fp8", "fp8"),
    ("w8a8-int8", "w8a8"),
    ("bnb-nf4", "nf4"),
    ("nf4-double", "nf4-dq"),
    ("mxfp4a4", "mxfp4"),
    ("nvfp4a4", "nvfp4"),
    (" W4A16-G128-ASYM ", "w4a16-g128-asym"),
    ("GGUF:Q4_K_M", "gguf:q4_k_m"),
    ("Q4_K_M", "gguf:q4_k_m"),
    ("iq4_xs", "gguf:iq4_xs"),
    ("exl2:4bpw", "exl2:4.0bpw"),
    ("exl2:4", "exl2:4.0bpw"),
    ("mlx:q4g64", "mlx:q4"),
    ("kv8", "w16a16-kv8"),
    ("kivi2", "w16a16-kivi2"),
    ("kivi2g32", "w16a16-kivi2"),
    ("w4a16-kv16", "w4a16"),
    ("fp4a16", "fp4"),
    ("mxfp4-g32", "mxfp4"),
]


@pytest.mark.parametrize("name", CANONICAL)
def test_canonical_name_prints_as_it_was_read(name: str) -> None:
    assert parse_scheme(name).name == name


@pytest.mark.parametrize(("given", "name"), ALIASES, ids=[alias.strip() for alias, _ in ALIASES])
def test_other_spellings_are_one_scheme(given: str, name: str) -> None:
    assert parse_scheme(given) == parse_scheme(name)
    assert parse_scheme(given).name == name


@settings(max_examples=400, deadline=None)
@given(scheme_names())
def test_any_name_survives_printing(name: str) -> None:
    scheme = parse_scheme(name)
    assert parse_scheme(scheme.name) == scheme
    assert parse_scheme(scheme.weights_name).with_kv(scheme.kv_cache) == scheme
    assert parse_kv(scheme.kv_name) == scheme.kv_cache
    assert scheme.bits_per_weight >= scheme.w_bits or scheme.file_type


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("w16a16", 16),
        ("w4a16-channel", 4),
        ("w4a16-g128-sym", 4 + 16 / 128),
        ("w4a16-g128-asym", 4 + 16 / 128 + 4 / 128),
        ("w3a16-g64-asym", 3 + 16 / 64 + 3 / 64),
        ("w8a8-channel", 8),
        ("nf4", 4 + 32 / 64),
        ("nf4-dq", 4 + (8 + 32 / 256) / 64),
        ("fp4", 4 + 32 / 64),
        ("fp4-channel", 4),
        ("fp8-block", 8),
        ("mxfp4", 4 + 8 / 32),
        ("nvfp4", 4 + 8 / 16),
        ("mxint8a8-g16", 8 + 8 / 16),
        ("mlx:q4", 4 + 32 / 64),
        ("mlx:q4g32", 4 + 32 / 32),
        ("exl2:4.25bpw", 4.25),
        ("gguf:q8_0", 34 * 8 / 32),
        ("gguf:q4_k_m", 144 * 8 / 256),
        ("gguf:q6_k", 210 * 8 / 256),
        ("gguf:iq2_xxs", 66 * 8 / 256),
        ("gguf:f16", 16),
        ("w4a16-g128-sym-kv4", 4.125),
    ],
)
def test_bits_per_weight_worked_by_hand(name: str, bits: float) -> None:
    assert parse_scheme(name).bits_per_weight == pytest.approx(bits, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "w_bits", "a_bits", "kv_bits"),
    [
        ("w4a16-g128", 4, 16, 16),
        ("w8a8-kv8", 8, 8, 8),
        ("fp8", 8, 8, 16),
        ("fp4", 4, 16, 16),
        ("mxfp4", 4, 4, 16),
        ("nvfp4a16", 4, 16, 16),
        ("gguf:q4_k_m-kvq8_0", 4, 16, 8),
        ("gguf:iq1_s", 1, 16, 16),
        ("kivi2", 16, 16, 2),
    ],
)
def test_nominal_bits(name: str, w_bits: float, a_bits: float, kv_bits: float) -> None:
    scheme = parse_scheme(name)
    assert (scheme.w_bits, scheme.a_bits, scheme.kv_bits) == (w_bits, a_bits, kv_bits)


def test_what_a_name_does_not_state_is_unknown() -> None:
    weights = parse_scheme("w4a16").weights
    assert weights is not None
    assert (weights.strategy, weights.group_size, weights.symmetric) == (None, None, None)


def test_kv_names_that_look_alike_differ() -> None:
    assert len({parse_kv(name) for name in KV_NAMES}) == len(KV_NAMES)
    assert parse_kv("kv16") is None
    assert parse_scheme("w4a16-kv8").kv_name == "kv8"
    assert UNQUANTIZED.kv_name == "kv16"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot read scheme ''"),
        ("w4", "cannot read scheme 'w4'"),
        ("awq", "cannot read scheme 'awq'"),
        ("gguf:q9_k", "cannot read scheme 'gguf:q9_k'"),
        ("mlx:q7", "cannot read scheme 'mlx:q7'"),
        ("w4a16-g128-g64", "cannot read 'g64' in scheme"),
        ("w4a16-sym-asym", "cannot read 'asym' in scheme"),
        ("w4a16-astatic", "cannot read 'astatic' in scheme"),
        ("fp8-asym", "cannot read 'asym' in scheme"),
        ("w4a16-block", "cannot read 'block' in scheme"),
        ("w4a16-kv", "cannot read 'kv' in scheme"),
        ("w4a16-kv8-foo", "cannot read 'kv8-foo' in scheme"),
        ("w4a16-kvq9_9", "cannot read 'kvq9_9' in scheme"),
        ("w17a16", "17 bits cannot be"),
        ("w0a16", "0 bits cannot be"),
        ("w4a16-kv99", "99 bits cannot be"),
        ("w4a16-g0", "a group needs a length"),
        ("exl2:99bpw", "99 bits cannot be"),
    ],
)
def test_refusal_says_what_was_given_and_what_is_allowed(name: str, message: str) -> None:
    with pytest.raises(InvalidSchemeError, match=message) as caught:
        parse_scheme(name)
    assert caught.value.given is not None
    assert caught.value.allowed


def test_schemes_are_values() -> None:
    assert QuantScheme() == UNQUANTIZED
    assert hash(parse_scheme("w4a16-g128")) == hash(parse_scheme("W4A16-G128"))
    with pytest.raises(InvalidSchemeError, match="a group needs a length"):
        QuantArgs(num_bits=4, strategy="group")
