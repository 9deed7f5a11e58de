"""The fused kernel against the plain operations, compiled for the CPU; on a GPU the tests in tests/gpu do the same."""

import shutil

import pytest

torch = pytest.importorskip("torch")

from knowledge.schemes import parse_scheme  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402
from measure.quantizers import fused  # noqa: E402
from measure.quantizers.fused import Rule, find_kernel, round_groups  # noqa: E402

pytestmark = [
    pytest.mark.measure,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++; found none"),
    pytest.mark.filterwarnings("ignore"),  # the compiler's own
]


CPU = torch.device("cpu")


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(fused, "DEVICES", frozenset({"cpu"}))


def rule_of(scheme, group):
    args = parse_scheme(scheme).weights
    return Rule(args=args, group=group, symmetric=bool(args.symmetric), include_zero=True, floor=1e-10)


def check(scheme, group, dtype):
    rule = rule_of(scheme, group)
    before = (torch.randn(384, group, generator=torch.Generator().manual_seed(1)) * 0.02).to(dtype)
    kernel = find_kernel(rule, CPU, dtype, len(before))
    assert kernel is not None
    found, sums = round_groups(kernel, before)
    expected = rule.plain()(before)
    assert torch.equal(found, expected)
    error, norm, low, high = sums.tolist()
    assert error == pytest.approx(float((expected.double() - before.double()).square().sum()), rel=1e-4)
    assert norm == pytest.approx(float(before.double().square().sum()), rel=1e-5)
    assert (low, high) == (float(before.min()), float(before.max()))


@pytest.mark.slow
def test_one_pass_gives_the_values_of_the_plain_operations(on_cpu):
    check("w8a16-g128-asym", 128, torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("scheme", "group"),
    [("w3a16-g64-sym", 64), ("w4a16-channel-asym", 4096), ("fp8-channel", 512), ("mxfp4", 32), ("mxint8", 32)],
)
def test_every_format_gives_the_values_of_the_plain_operations(on_cpu, scheme, group, dtype):
    check(scheme, group, dtype)


def test_a_recipe_is_the_same_with_and_without_it(backend_for, on_cpu, monkeypatch):
    backend = backend_for("mixtral")
    recipe, protocol = expand_recipes(["w3a16-g32"])[1]
    with backend.quantized(recipe, protocol) as one_pass:
        weights = {name: parameter.clone() for name, parameter in backend.loaded.model.named_parameters()}
    monkeypatch.setattr(fused, "DEVICES", frozenset())
    with backend.quantized(recipe, protocol) as plain:
        for name, parameter in backend.loaded.model.named_parameters():
            assert torch.equal(parameter, weights[name]), name
    assert one_pass.tensors_changed == plain.tensors_changed
    assert one_pass.weight_error == pytest.approx(plain.weight_error, rel=1e-5)
    assert one_pass.bits_per_weight == plain.bits_per_weight


@pytest.mark.parametrize(("scheme", "group"), [("nvfp4", 16), ("w4a16-tensor", 64)])
def test_a_scale_over_the_tensor_is_not_fused(on_cpu, scheme, group):
    assert find_kernel(rule_of(scheme, group), CPU, torch.float32, 64) is None


def test_no_compiler_no_fusion(on_cpu, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert find_kernel(rule_of("w4a16-g128", 128), CPU, torch.float32, 64) is None


def wrong_values(groups):
    return groups * 2, *[groups.sum(-1)] * 4


def broken(groups):
    raise RuntimeError("no such instruction\nand more")


@pytest.mark.parametrize(("kernel", "words"), [(wrong_values, "gives other values"), (broken, "no such instruction")])
def test_a_kernel_that_is_wrong_is_not_used(on_cpu, monkeypatch, caplog, kernel, words):
    monkeypatch.setattr(fused, "_compiled", lambda rule, device: kernel)
    rule = rule_of("w5a16-g48", 48)  # of no other test: kernels are kept
    assert find_kernel(rule, CPU, torch.float32 if kernel is broken else torch.float64, 64) is None
    assert words in caplog.text
