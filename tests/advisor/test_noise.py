import math

import pytest

from advisor.noise import BIT, CLEAN, group_length, noise_level

KINDS = ("int", "fp", "nf", "mxint", "mxfp", "nvfp", "kquant", "codebook", "binary")


@pytest.mark.parametrize(
    ("dtype", "bits", "group", "symmetric", "simulated"),
    [
        ("int", 4, 128, False, -4.59),
        ("int", 4, 128, True, -4.27),
        ("int", 3, 64, False, -3.26),
        ("int", 2, 32, True, -0.84),
        ("int", 8, 128, False, -10.26),
        ("fp", 8, -1, None, -7.27),
        ("nf", 4, 64, None, -4.77),
        ("mxfp", 4, 32, None, -4.31),
        ("nvfp", 4, 16, None, -4.73),
    ],
    ids=lambda value: str(value),
)
def test_noise_agrees_with_rounding_gaussian_values(dtype, bits, group, symmetric, simulated):
    """Expected values: 131,072 standard normal values rounded by each format."""
    assert noise_level(dtype, bits, group, symmetric) == pytest.approx(simulated, abs=0.15)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("group", [16, 128, -1, 0, None])
@pytest.mark.parametrize("symmetric", [True, False, None])
def test_less_noise_with_more_bits(dtype, group, symmetric):
    levels = [noise_level(dtype, bits, group, symmetric) for bits in (1, 2, 2.5, 3, 4, 5, 6, 8, 16)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == CLEAN


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_less_noise_in_longer_groups(dtype, bits):
    levels = [noise_level(dtype, bits, group, False) for group in (8, 16, 32, 64, 128, 256, 1024, -1, 0)]
    assert levels == sorted(levels)


def test_a_bit_of_an_integer_is_worth_six_decibel():
    assert noise_level("int", 7, 128, False) - noise_level("int", 8, 128, False) == pytest.approx(BIT, abs=0.01)


@pytest.mark.parametrize(("group", "length"), [(None, 128), (math.nan, 128), (-1, 4096), (0, 2**24), (32, 32)])
def test_group_length(group, length):
    assert group_length(group) == length
