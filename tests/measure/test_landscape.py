"""The landscape against quadratics and tiny models worked out by other means."""

from statistics import fmean

import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from knowledge.errors import InvalidRequestError  # noqa: E402
from knowledge.probes import probe_features, probe_from_json  # noqa: E402
from measure.calibration import calibration_ids  # noqa: E402
from measure.cli import app  # noqa: E402
from measure.landscape import RADII, hessian_traces, losses_along_directions, measure_landscape  # noqa: E402
from measure.probe import probe_model  # noqa: E402
from measure.quantizers.targets import weight_targets  # noqa: E402

pytestmark = pytest.mark.measure


def quadratic(seed=0, size=12):
    """L(w) = w'Aw / 2 + b'w in float64, with its pieces."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    a, b = root @ root.T, torch.randn(size, generator=generator, dtype=torch.float64)
    w = torch.randn(size, generator=generator, dtype=torch.float64)
    return a, b, w, lambda: 0.5 * w @ a @ w + b @ w


def test_directions_of_a_quadratic():
    a, b, w, loss = quadratic()
    before = w.clone()
    found = losses_along_directions(lambda: float(loss()), [w], radii=(0.1, 0.2), directions=3, seed=5)
    assert torch.equal(w, before)
    base = float(loss())
    for draw in range(3):
        direction = torch.randn(w.shape, generator=torch.Generator().manual_seed(5 * 1_000_003 + draw)).double()
        direction *= before.norm() / direction.norm()
        slope, curvature = float((a @ before + b) @ direction), float(direction @ a @ direction)
        for radius in (0.1, 0.2):
            up, down = found[radius][draw]
            assert (up - down) / (2 * radius) == pytest.approx(slope, rel=1e-5)
            assert (up + down - 2 * base) / radius**2 == pytest.approx(curvature, rel=1e-5)


def test_the_weights_are_back_after_an_error():
    w = torch.randn(4, 4)
    before = w.clone()
    with pytest.raises(ZeroDivisionError):
        losses_along_directions(lambda: 1 / 0, [w], radii=(0.1,), directions=1, seed=0)
    assert torch.equal(w, before)


def test_the_trace_of_a_diagonal_hessian_is_exact():
    diagonal, w = torch.tensor([1.0, -2.0, 5.0]), torch.zeros(3)
    (traces,) = hessian_traces([lambda: 0.5 * (diagonal * w * w).sum()], [w], vectors=4, seed=1)
    assert traces == pytest.approx([4.0] * 4)
    assert not w.requires_grad


def test_the_trace_lies_within_its_error():
    a, _, w, loss = quadratic(seed=3)
    (traces,) = hessian_traces([loss], [w], vectors=400, seed=0)
    error = float(torch.tensor(traces).std()) / 20
    assert abs(fmean(traces) - float(a.trace())) < 4 * error
    variance = 2 * float(a.square().sum() - a.diagonal().square().sum())  # Hutchinson's, for random signs
    assert float(torch.tensor(traces).var()) == pytest.approx(variance, rel=0.25)


def test_blocks_have_traces_of_their_own_and_losses_are_averaged():
    first, second = torch.zeros(2), torch.zeros(3)
    losses = [lambda: (first**2).sum() + 5 * (second**2).sum() + first[0] * second[0], lambda: 3 * (first**2).sum()]
    one, two = hessian_traces(losses, [first, second], vectors=200, seed=0)
    assert fmean(one) == pytest.approx((2 * 2 + 6 * 2) / 2, abs=0.3)
    assert fmean(two) == pytest.approx(10 * 3 / 2, abs=0.3)


@pytest.fixture(scope="module")
def seen(backend_for):
    """The landscape of a tiny model, and the model."""
    loaded = backend_for("llama").loaded
    before = {name: parameter.clone() for name, parameter in loaded.model.named_parameters()}
    found = measure_landscape(loaded, *calibration_ids(loaded))
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert not parameter.requires_grad
    return loaded, found


def test_loss_and_rounding_of_a_tiny_model(seen):
    loaded, found = seen
    ids, _ = calibration_ids(loaded)
    logits = loaded.model(input_ids=ids).logits
    assert found.nll == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))
    )
    assert abs(found.rounded["w8a16-g128-asym"] - found.nll) < abs(found.rounded["w2a16-g128-asym"] - found.nll)
    rises = [found.expected_rise[f"w{bits}a16-g128-asym"] for bits in (8, 4, 3, 2)]
    assert [abs(rise) for rise in rises] == sorted(abs(rise) for rise in rises)
    assert list(found.profile) == [f"{radius:g}" for radius in RADII]


def test_the_trace_of_a_tiny_model_agrees_with_finite_differences(seen):
    """v'Hv over all matrices, from gradients at w + ev and w - ev."""
    loaded, found = seen
    ids, _ = calibration_ids(loaded)
    parameters = [target.parameter for target in weight_targets(loaded.model)]
    generator = torch.Generator().manual_seed(loaded.settings.seed * 1_000_003)
    signs = [torch.randint(0, 2, parameter.shape, generator=generator) * 2.0 - 1 for parameter in parameters]
    step, slopes = 1e-4, []
    originals = [parameter.detach().clone() for parameter in parameters]
    for direction in (step, -step):
        with torch.no_grad():
            for parameter, original, sign in zip(parameters, originals, signs, strict=True):
                parameter.copy_(original + direction * sign)
        for parameter in parameters:
            parameter.requires_grad_(requires_grad=True)
        logits = loaded.model(input_ids=ids).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        grads = torch.autograd.grad(loss, parameters)
        slopes.append(sum(float((grad.double() * sign).sum()) for grad, sign in zip(grads, signs, strict=True)))
        for parameter, original in zip(parameters, originals, strict=True):
            parameter.requires_grad_(requires_grad=False)
            parameter.copy_(original)
    expected = (slopes[0] - slopes[1]) / (2 * step)
    losses = [
        lambda row=row: torch.nn.functional.cross_entropy(loaded.model(input_ids=row[None]).logits[0, :-1], row[1:])
        for row in ids
    ]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        traces = hessian_traces(losses, parameters, vectors=1, seed=loaded.settings.seed)
    assert sum(trace[0] for trace in traces) == pytest.approx(expected, rel=0.02)
    assert found.hessian_trace.n == 8


@pytest.mark.parametrize("family", ["mixtral", "mamba", "falcon", "bloom"])
def test_other_families_have_a_landscape_and_it_repeats(backend_for, family):
    loaded = backend_for(family).loaded
    ids, text = calibration_ids(loaded)
    found = measure_landscape(loaded, ids[:1, :24], text)
    assert measure_landscape(loaded, ids[:1, :24], text) == found
    assert found.hessian_trace.stderr is not None
    assert found.curvature.value != 0


def test_small_types_are_refused(backend_for, monkeypatch):
    from dataclasses import replace

    loaded = backend_for("llama").loaded
    ids, text = calibration_ids(loaded)
    monkeypatch.setattr(loaded, "settings", replace(loaded.settings, dtype="bfloat16"))
    with pytest.raises(InvalidRequestError, match="taken in float32"):
        measure_landscape(loaded, ids, text)
    with pytest.raises(InvalidRequestError, match="taken in float32"):  # before anything is read
        probe_model(
            loaded.source, loaded.settings, landscape=True, on_matrix=lambda done, total: pytest.fail("weights were read")
        )


def test_landscape_from_the_command_line(model_folder, tmp_path):
    file = tmp_path / "probe.json"
    arguments = [
        "probe",
        str(model_folder("llama")),
        "-o",
        str(file),
        "--landscape",
        "--activations",
        "--calibration-samples",
        "2",
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "trace of the Hessian" in result.stdout
    probe = probe_from_json(file.read_bytes())
    features = probe_features(probe)
    assert {"nll", "curvature", "nll_rise:w4a16-g128-asym", "weight_sqnr_db:w3a16-g128-asym", "key_sqnr_db:kv4"} <= set(
        features
    )
