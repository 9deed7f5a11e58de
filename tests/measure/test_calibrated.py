"""Methods that see data, and those of other libraries: what they change, and that smoothing alone changes nothing."""

import pytest

torch = pytest.importorskip("torch")

import tiny_models  # noqa: E402

from measure.calibration import calibration_ids  # noqa: E402
from measure.errors import NotApplicableError, TaskDataError  # noqa: E402
from measure.plan import CalibrationRequest, Settings  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402
from measure.quantizers.spqr import compress  # noqa: E402

pytestmark = pytest.mark.measure


def stated(text):
    return expand_recipes([text])[1]


def parameters(backend):
    return {name: parameter.clone() for name, parameter in backend.loaded.model.named_parameters()}


def check(backend, text):
    """Quantize as `text` says and check that verify passed and the originals are back; returns the facts."""
    before = parameters(backend)
    with backend.quantized(*stated(text)) as facts:
        assert facts.tensors_changed + len(facts.left_out) == facts.tensors_expected
        assert facts.logit_change is not None
        assert 0 < facts.logit_change < 2
    assert all(torch.equal(parameter, before[name]) for name, parameter in backend.loaded.model.named_parameters())
    assert set(before) == {name for name, _ in backend.loaded.model.named_parameters()}
    return facts


@pytest.mark.parametrize("text", ["w4a16-g32:gptq", "w4a16-g32:awq", "w8a8:smoothquant"])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_llm_compressor(backend_for, family, text):
    facts = check(backend_for(family), text)
    assert (facts.library, facts.left_out) == ("llmcompressor", {})
    assert facts.calibration is not None
    assert (facts.calibration.samples, facts.calibration.tokens_per_sample) == (8, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["w8a16-g64:gptq", "w3a16-g32-sym:gptq", "w2a16-g32:gptq", "w4a16-channel:gptq", "w3a16-g64:awq", "w4a8-g32:smoothquant",
     "w4a16-g32-kv4:gptq", "w4a8-g32-kv8:gptq"],
)  # fmt: skip
def test_more_schemes_through_llm_compressor(backend_for, text):
    check(backend_for("llama"), text)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_smoothing_alone_leaves_logits_unchanged(backend_for, family):
    """Llm-compressor's own mappings break Gemma 2 and Phi; norms and biases here are random, so that it would show."""
    from measure.quantizers.compressor import run_oneshot, smoother

    loaded = backend_for(family).loaded
    smoothed, _ = run_oneshot(loaded, [smoother(loaded, "smoothquant")])
    ids = torch.randint(4, tiny_models.VOCAB, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, after = loaded.model(input_ids=ids).logits, smoothed(input_ids=ids).logits
    assert float((after - before).norm() / before.norm()) < 1e-4
    original = dict(loaded.model.named_parameters())
    moved = [
        name
        for name, parameter in smoothed.named_parameters()
        if name in original and not torch.equal(parameter, original[name])
    ]
    assert len(moved) >= 2 * tiny_models.LAYERS


def test_rows_that_the_group_does_not_divide(backend_for):
    facts = check(backend_for("llama"), "w4a16-g128:gptq")
    assert facts.group_exceptions["model.layers.0.self_attn.q_proj.weight"] == "rows of 64: groups of 64 instead of 128"
    assert "model.layers.0.mlp.down_proj.weight" not in facts.group_exceptions


@pytest.mark.parametrize(
    "text", ["w8a8:llm.int8", "w3a16-g16:spqr", "w8a16:quanto", "fp8a16:quanto", "w4a16-g32:quanto", "w2a16-g32:quanto"]
)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_other_methods(backend_for, family, text):
    facts = check(backend_for(family), text)
    experts = family == "mixtral" and text.endswith(("int8", "spqr"))
    assert len(facts.left_out) == (4 if experts else 0)


def test_quanto_needs_no_compiler(backend_for, monkeypatch):
    """Quanto's packed 2- and 4-bit tensors compile an extension at first use, and fail without a compiler; these do not."""
    monkeypatch.setenv("PATH", "")
    check(backend_for("llama"), "w2a16-g32:quanto")


def test_outliers_of_spqr_cost_bits_and_lower_the_error():
    generator = torch.Generator().manual_seed(0)
    weight, inputs = (
        torch.randn(48, 64, generator=generator),
        torch.randn(500, 64, generator=generator) * torch.linspace(0.2, 3, 64),
    )
    weight[5, 7], weight[20, 40] = 30.0, -25.0
    hessian = inputs.T @ inputs * (2 / 500)
    without = compress(weight, hessian, bits=3, group=16, threshold=float("inf"))
    sparse = compress(weight, hessian, bits=3, group=16)
    assert bool(sparse.outliers[5, 7])
    assert bool(sparse.outliers[20, 40])
    assert sparse.matrix[5, 7] != without.matrix[5, 7]
    assert sparse.bits > without.bits

    def output_error(matrix):
        return float(((matrix - weight) @ inputs.T).norm())

    from measure.quantizers.fake import fake_integer

    assert output_error(sparse.matrix) < output_error(without.matrix)
    assert output_error(sparse.matrix) < output_error(fake_integer(weight, 3, 16, symmetric=False))
    assert 0 < float(sparse.outliers.float().mean()) < 0.1
    assert sparse.bits / weight.numel() == pytest.approx(3 + (6 + 4) / 16 + 32 * float(sparse.outliers.float().mean()))


def test_lazy_updates_change_nothing(monkeypatch):
    weight, inputs = torch.randn(8, 64).double().float(), torch.randn(300, 64)
    hessian = inputs.T @ inputs
    whole = compress(weight, hessian, bits=4, group=16)
    monkeypatch.setattr("measure.quantizers.spqr._LAZY", 16)
    torch.testing.assert_close(compress(weight, hessian, bits=4, group=16).matrix, whole.matrix, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w5a16-g32:gptq", "makes integers of 2, 3, 4 or 8 bits"),
        ("nf4:awq", "makes integers"),
        ("fp8:smoothquant", "makes integers"),
        ("w4a16-g32:llm.int8", "LLM.int8\\(\\) has one scheme"),
        ("w3a16-g32:quanto", "quanto has no type"),
        ("w4a16-g16-sym:spqr", "SpQR makes asymmetric"),
    ],
)
def test_schemes_that_a_method_does_not_have(backend_for, text, message):
    with pytest.raises(NotApplicableError, match=message), backend_for("llama").quantized(*stated(text)):
        pass


def test_calibration_is_seeded_and_hashed(model_folder):
    from measure.loading import load_model
    from measure.models import locate_model

    source = locate_model(str(model_folder("llama")))

    def facts(**values):
        request = CalibrationRequest(samples=4, tokens_per_sample=32)
        return calibration_ids(load_model(source, Settings(calibration=request, **values)))[1]

    assert facts() == facts()
    assert facts().sha256 != facts(seed=1).sha256
    assert facts().source == "pydoc_data.topics/calibrate"


def test_too_little_calibration_text(model_folder, tmp_path):
    from measure.loading import load_model
    from measure.models import locate_model

    text = tmp_path / "text.txt"
    text.write_text("few words " * 20)
    settings = Settings(calibration=CalibrationRequest(text=text, samples=64, tokens_per_sample=32))
    with pytest.raises(TaskDataError, match="windows of 32 tokens, 64 are needed"):
        calibration_ids(load_model(locate_model(str(model_folder("llama"))), settings))
