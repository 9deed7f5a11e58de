import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.schemes import parse_scheme
from measure.bits import dividing_group, stored_bits


@pytest.mark.parametrize(
    ("columns", "asked", "used"),
    [(4096, 128, 128), (4544, 128, 64), (64, 128, 64), (4544, 64, 64), (100, 64, 50), (96, 64, 32), (7, 4, 1)],
    ids=["divides", "falcon-7b", "short row", "falcon g64", "no power of two", "common divisor", "prime"],
)
def test_group_divides(columns, asked, used):
    assert dividing_group(columns, asked) == used


@given(columns=st.integers(1, 20000), asked=st.sampled_from([16, 32, 64, 128, 256]))
def test_group_always_divides_and_never_grows(columns, asked):
    group = dividing_group(columns, asked)
    assert columns % group == 0
    assert group <= max(asked, 1)
    assert group == asked or columns % asked or columns < asked


@pytest.mark.parametrize(
    "name",
    ["w4a16-g128-asym", "w4a16-g128-sym", "w2a16-g32-asym", "nf4", "nf4-dq", "fp4", "mxfp4", "nvfp4", "mxint8-g32"],
)
def test_bits_agree_with_the_scheme(name):
    scheme = parse_scheme(name)
    assert scheme.weights is not None
    bits = stored_bits(scheme.weights, 256, 4096, scheme.weights.group_size or 4096)
    assert math.isclose(bits / (256 * 4096), scheme.bits_per_weight)


def test_bits_by_hand():
    channel, tensor = parse_scheme("w8a8-channel-sym").weights, parse_scheme("w8a8-tensor-sym").weights
    assert channel is not None
    assert tensor is not None
    assert stored_bits(channel, 10, 100, 100) == 10 * 100 * 8 + 10 * 16
    assert stored_bits(tensor, 10, 100, 100) == 10 * 100 * 8 + 16
