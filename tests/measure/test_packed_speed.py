"""Speed on packed layers: which recipes have a kernel, that it computes the recipe, and that the plain layers come back."""

import pytest

torch = pytest.importorskip("torch")

from measure.errors import NotApplicableError  # noqa: E402
from measure.inference import forward_logits, relative_change  # noqa: E402
from measure.latency import weight_bytes  # noqa: E402
from measure.loading import probe_ids  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402
from measure.quantizers.kernels import KERNELS, find_kernel, packed  # noqa: E402
from measure.quantizers.targets import weight_targets  # noqa: E402
from measure.tasks import TaskOptions, load_scorer, plan_tasks  # noqa: E402

pytestmark = pytest.mark.measure

ON_CPU = {
    "nf4": ("bitsandbytes Linear4bit", 4.5),
    "fp4": ("bitsandbytes Linear4bit", 4.5),
    "w8a16-channel-sym": ("torchao Int8WeightOnly", 8.75),
    "w8a8": ("torchao Int8DynamicActivationInt8Weight", 8.75),
    "w8a16:quanto": ("optimum-quanto QLinear", 8.5),
}
"""Recipe -> kernel and the most bits a weight that it may take on layers of 64 columns."""


def stated(text):
    return expand_recipes([text])[1][0]


def scorer_of(loaded):
    scorer = load_scorer(plan_tasks(["speed"], TaskOptions(limit=1, context=16, batch=1))[0], seed=0)
    scorer.prepare(loaded)
    return scorer


@pytest.mark.parametrize("text", ON_CPU)
def test_packed_layers_compute_the_recipe(backend_for, text):
    loaded, recipe = backend_for("opt").loaded, stated(text)  # OPT: layers with biases
    ids = probe_ids(loaded, tokens=32)
    before, plain_bytes = forward_logits(loaded.model, ids), weight_bytes(loaded)
    name, bits = ON_CPU[text]
    elements = sum(target.parameter.numel() for target in weight_targets(loaded.model))
    with packed(loaded, recipe) as kernel:
        change = relative_change(forward_logits(loaded.model, ids), before)
        saved = plain_bytes - weight_bytes(loaded)
    assert kernel.name == name
    assert 1e-4 < change < 0.5
    assert saved >= elements * (32 - bits) / 8
    assert torch.equal(forward_logits(loaded.model, ids), before)


@pytest.mark.parametrize("text", ["nf4", "w8a8"])
def test_the_packed_recipe_loses_what_the_simulated_one_loses(backend_for, text):
    """Steps differ a little between libraries, which moves codes: the size of the change is compared, not its direction."""
    backend = backend_for("llama")
    loaded, ids = backend.loaded, probe_ids(backend.loaded, tokens=64)
    plain = forward_logits(loaded.model, ids)
    with packed(loaded, stated(text)):
        real = relative_change(forward_logits(loaded.model, ids), plain)
    with backend.quantized(*expand_recipes([text])[1]):
        simulated = relative_change(forward_logits(loaded.model, ids), plain)
    assert 0.7 < real / simulated < 1.4


def test_the_record_says_which_kernel_ran(backend_for):
    backend = backend_for("llama")
    scorer = scorer_of(backend.loaded)
    baseline = scorer.score(backend.loaded)
    assert baseline.details["kernel"] == "torch"
    with backend.quantized(*expand_recipes(["nf4"])[1]):
        result = scorer.score(backend.loaded)
    assert result.details["kernel"] == "bitsandbytes Linear4bit"
    weights = [next(m.value for m in r.measurements if m.metric == "weight_bytes") for r in (result, baseline)]
    assert weights[0] < weights[1]


@pytest.mark.parametrize(
    ("text", "device", "message"),
    [
        ("mxfp4", "cpu", "no kernel here computes mxfp4"),
        ("w3a16-g128", "cuda", "no kernel here computes"),
        ("w4a16-g128-kv4", "cuda", "a quantized KV cache has no kernel"),
        ("w4a16-g128", "cpu", "does not run on cpu: its int4 kernels are for CUDA"),
        ("fp8", "cpu", "compute capability 8.9"),
        ("nf4", "mps", "no kernel for mps"),
        ("w8a8:llm.int8", "cpu", "no kernel here computes"),
    ],
)
def test_recipes_without_a_kernel(text, device, message):
    with pytest.raises(NotApplicableError, match=message):
        find_kernel(stated(text), device)


def test_every_kernel_is_reached_on_a_gpu():
    recipes = ("nf4", "w8a16:quanto", "w8a16-channel-sym", "w8a8:smoothquant", "w4a16-g64:hqq", "fp8")
    assert [find_kernel(stated(text), "cuda") for text in recipes] == list(KERNELS)


def test_experts_are_not_left_out_in_silence(backend_for):
    with (
        pytest.raises(NotApplicableError, match="is no linear layer but MixtralExperts"),
        packed(backend_for("mixtral").loaded, stated("nf4")),
    ):
        pass
