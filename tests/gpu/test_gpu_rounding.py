"""The fused rounding kernel on a GPU: the values of plain operations, at a few times the cost of a copy."""

import statistics
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from knowledge.schemes import parse_scheme  # noqa: E402
from measure.quantizers.fused import Rule, find_kernel, round_groups  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from bench_rtn import time_recipe  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.measure, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; found none")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("scheme", "group"),
    [("w8a16-g128-asym", 128), ("w4a16-g32-asym", 32), ("w3a16-g64-sym", 64), ("w4a16-channel-asym", 4096),
     ("fp8-channel", 4096), ("mxfp4", 32), ("mxint8", 32)],
)  # fmt: skip
def test_values_are_those_of_plain_operations(scheme, group, dtype):
    args = parse_scheme(scheme).weights
    rule = Rule(args=args, group=group, symmetric=bool(args.symmetric), include_zero=True, floor=1e-10)
    kernel = find_kernel(rule, torch.device("cuda"), dtype, (1 << 22) // group)
    assert kernel is not None, "the kernel was not compiled, or its values differ on the sample; see the log"
    values = (torch.randn(1 << 22, generator=torch.Generator().manual_seed(1)) * 0.02).to("cuda", dtype).reshape(-1, group)
    assert torch.equal(round_groups(kernel, values)[0], rule.plain()(values))


@pytest.mark.parametrize("recipe", ["w4a16-g128", "w8a16-g128", "w4a16-channel-sym", "mxfp4"])
def test_rounding_seven_billion_weights_costs_at_most_three_copies(recipe):
    rounding, copying = time_recipe(recipe, "cuda", layers=32, repeats=5)
    ratio = statistics.median(rounding) / statistics.median(copying)
    print(f"{recipe}: {ratio:.2f} copies")
    assert ratio <= 3
