"""Rounding against values worked out by hand, against compressed-tensors, and by properties."""

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from knowledge.schemes import parse_scheme  # noqa: E402
from measure.errors import NotApplicableError  # noqa: E402
from measure.quantizers.fake import (  # noqa: E402
    cast_float8,
    fake_float8,
    fake_integer,
    fake_microscaling,
    fake_nvfp4,
    in_blocks,
    round_to_float,
    rounding_for,
)

pytestmark = pytest.mark.measure

FP4 = (2, 1, 6.0)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("x", "bits", "symmetric", "zero", "out"),
    [
        ([0.0, 1.0, 2.0, 3.0], 2, False, True, [0.0, 1.0, 2.0, 3.0]),
        ([-3.0, 0.4, 1.0, 3.0], 2, False, True, [-4.0, 0.0, 0.0, 2.0]),
        ([1.0, 2.1, 3.0, 4.0], 2, False, True, [4 / 3, 8 / 3, 8 / 3, 4.0]),
        ([1.0, 2.0, 3.0, 4.0], 2, False, False, [1.0, 2.0, 3.0, 3.0]),
        ([-7.0, 3.4, 3.6, 7.0], 4, True, True, [-7.0, 3.0, 4.0, 7.0]),
        ([-1.0, 0.4, 0.6, 1.0], 2, True, True, [-1.0, 0.0, 1.0, 1.0]),
    ],
    ids=["exact", "zero stays", "range widened to 0", "the study's range", "symmetric 4", "symmetric 2"],
)
def test_integers_by_hand(x, bits, symmetric, zero, out):
    rounded = fake_integer(torch.tensor([x]), bits, 4, symmetric=symmetric, include_zero=zero)
    torch.testing.assert_close(rounded, torch.tensor([out]))


def test_the_study_floors_its_step():
    x = torch.tensor([[0.0, 1e-7, 2e-7, 3e-7]])
    assert fake_integer(x, 2, 4, symmetric=False, include_zero=False, floor=1e-5).eq(0).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    bits=st.sampled_from([2, 3, 4, 5, 6, 8]),
    group=st.sampled_from([16, 32, 64]),
    symmetric=st.booleans(),
)
def test_integer_rounding_is_idempotent_bounded_and_has_few_levels(seed, bits, group, symmetric):
    x = normal(4, 64, seed=seed)
    q = fake_integer(x, bits, group, symmetric=symmetric)
    torch.testing.assert_close(fake_integer(q, bits, group, symmetric=symmetric), q, rtol=1e-5, atol=1e-6)
    groups, rounded = x.reshape(-1, group), q.reshape(-1, group)
    low, high = groups.amin(-1).clamp_max(0), groups.amax(-1).clamp_min(0)
    step = groups.abs().amax(-1) / (2 ** (bits - 1) - 1) if symmetric else (high - low) / (2**bits - 1)
    assert ((groups - rounded).abs() <= step[:, None] * (0.5 + 1e-3) + 1e-6).all() or not symmetric
    assert ((groups - rounded).abs() <= step[:, None] * (1 + 1e-3) + 1e-6).all()  # the rounded offset may clip by half a step
    assert max(len(row.unique()) for row in rounded) <= 2**bits


@pytest.mark.parametrize(
    ("x", "out"),
    [
        (0.24, 0.0),
        (0.25, 0.0),
        (0.26, 0.5),
        (0.75, 1.0),
        (1.25, 1.0),
        (1.75, 2.0),
        (2.5, 2.0),
        (3.5, 4.0),
        (5.0, 4.0),
        (5.1, 6.0),
        (99.0, 6.0),
    ],
)
def test_e2m1_ties_go_to_the_even_mantissa(x, out):
    assert round_to_float(torch.tensor([x, -x]), *FP4).tolist() == [out, -out]


def test_e4m3_equals_the_cast_of_torch():
    x = torch.cat([normal(4000) * 100, normal(4000) * 0.01, torch.linspace(-448, 448, 4001), torch.zeros(1)]).clamp(-448, 448)
    torch.testing.assert_close(cast_float8(x), x.to(torch.float8_e4m3fn).float(), rtol=0, atol=0)
    assert cast_float8(torch.tensor([1e4, -1e4])).tolist() == [448.0, -448.0]


def test_mx_scales_are_powers_of_two_by_hand():
    x = torch.tensor([[6.5, 3.0, -0.4, 0.0]])
    assert fake_microscaling(x, "mxfp", 4, 4).tolist() == [[6.0, 3.0, -0.5, 0.0]]
    assert fake_microscaling(x * 16, "mxfp", 4, 4).tolist() == [[96.0, 48.0, -8.0, 0.0]]
    assert fake_microscaling(torch.tensor([[1.9, 0.3, -1.9, 0.0]]), "mxint", 4, 4).tolist() == [[1.75, 0.25, -1.75, 0.0]]
    assert fake_microscaling(torch.zeros(1, 4), "mxfp", 4, 4).tolist() == [[0.0] * 4]


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_asymmetric_integers_equal_compressed_tensors(bits, group):
    theirs = compressed_tensors_fake(
        normal(16, 256), num_bits=bits, type="int", symmetric=False, strategy="group", group_size=group
    )
    ours = fake_integer(normal(16, 256), bits, group, symmetric=False)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_float8_channels_equal_compressed_tensors():
    theirs = compressed_tensors_fake(normal(16, 256), num_bits=8, type="float", symmetric=True, strategy="channel")
    torch.testing.assert_close(fake_float8(normal(16, 256), 256), theirs, rtol=1e-5, atol=1e-6)


def compressed_tensors_fake(x, **arguments):
    quantization = pytest.importorskip("compressed_tensors.quantization")
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    args = quantization.QuantizationArgs(**arguments)
    group = arguments.get("group_size") or x.shape[-1]
    y = x.reshape(x.shape[0], -1, group)
    low, high = y.amin(-1), y.amax(-1)
    scale, zero = calculate_qparams(low, high, args)
    return fake_quantize(x, scale, zero, args)


def test_nvfp4_uses_the_grid_of_its_scales():
    x = normal(8, 64)
    q = fake_nvfp4(x, 16)
    overall = x.abs().max() / (6 * 448)
    codes = q.reshape(8, 4, 16)
    assert max(len(block.abs().unique()) for row in codes for block in row) <= 8
    assert float((q - x).norm() / x.norm()) < 0.12
    assert float(q.abs().max()) <= float(overall) * 6 * 448 * 1.0001


@pytest.mark.parametrize("name", ["w4a16-g32-asym", "fp8-channel", "mxfp4", "mxfp6", "mxfp8", "mxint8-g32", "nvfp4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shape_dtype_and_closeness(name, dtype):
    weights = parse_scheme(name).weights
    x = normal(3, 5, 64).to(dtype)
    q = rounding_for(weights, weights.group_size or 64, symmetric=False)(x)
    assert (q.shape, q.dtype) == (x.shape, x.dtype)
    assert float((q.float() - x.float()).norm() / x.float().norm()) < 0.2
    assert not torch.equal(q, x)


@pytest.mark.parametrize("name", ["codebook2", "fp4", "mxfp5"])
def test_formats_without_a_rule_are_refused(name):
    with pytest.raises(NotApplicableError, match="no"):
        rounding_for(parse_scheme(name).weights, 32, symmetric=True)


def test_blocks_of_rows_give_the_same(monkeypatch):
    monkeypatch.setattr("measure.quantizers.fake._BLOCK_ELEMENTS", {"cpu": 256})
    x = normal(17, 64)
    torch.testing.assert_close(
        in_blocks(lambda m: fake_integer(m, 4, 32, symmetric=False), x), fake_integer(x, 4, 32, symmetric=False), rtol=0, atol=0
    )
