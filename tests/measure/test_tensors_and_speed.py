"""Statistics of tensors against values by hand and against torch; speed where there is one."""

import json
import math

import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from knowledge.errors import DataError  # noqa: E402
from knowledge.measurements import probe_from_json  # noqa: E402
from measure.cli import app  # noqa: E402
from measure.errors import NotApplicableError  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402
from measure.quantizers.fake import fake_integer  # noqa: E402
from measure.tasks import TaskOptions, load_scorer, plan_tasks  # noqa: E402
from measure.tensorstats import _Sums, measure_tensors  # noqa: E402

pytestmark = pytest.mark.measure


def test_moments_by_hand():
    sums = _Sums("layers.3.q_proj.weight", "weight", {"zero": torch.zeros_like, "same": lambda x: x})
    parts = torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.tensor([[3.0, -3.0, 1.0, -1.0]])
    for part in parts:
        sums.add(part)
    for part in parts:
        sums.look(part)
    stats = sums.stats()
    assert (stats.layer, stats.part, stats.elements, stats.abs_max) == (3, "q_proj", 8, 3.0)
    assert stats.std == pytest.approx(math.sqrt(3))
    assert stats.kurtosis == pytest.approx(21 / 9)
    assert stats.sqnr_db == {"zero": 0.0, "same": 200.0}
    assert stats.outlier_share == 0.0


def test_outliers_lie_beyond_six_deviations():
    sums = _Sums("w", "weight", {})
    x = torch.randn(10000, generator=torch.Generator().manual_seed(0))
    x[:5] = 50.0
    sums.add(x)
    sums.look(x)
    assert sums.stats().outlier_share == pytest.approx(5 / 10000)
    assert sums.stats().layer is None


def test_statistics_of_a_model(backend_for):
    loaded = backend_for("llama").loaded
    probe = measure_tensors(loaded)
    kinds = {
        kind: [stats for stats in probe.tensors if stats.kind == kind] for kind in ("weight", "activation", "key", "value")
    }
    assert {kind: len(found) for kind, found in kinds.items()} == {"weight": 14, "activation": 14, "key": 2, "value": 2}
    weight = loaded.model.model.layers[1].mlp.down_proj.weight
    stats = next(stats for stats in kinds["weight"] if stats.name == "model.layers.1.mlp.down_proj.weight")
    assert stats.std == pytest.approx(float(weight.double().std(unbiased=False)), rel=1e-6)
    rounded = fake_integer(weight, 4, 128, symmetric=False)
    expected = 10 * math.log10(float(weight.square().sum() / (weight - rounded).square().sum()))
    assert stats.sqnr_db["w4a16-g128-asym"] == pytest.approx(expected, rel=1e-4)
    for found in probe.tensors:
        values = [
            found.sqnr_db[name] for name in sorted(found.sqnr_db) if name.startswith(("kv", "w16")) and not name.endswith("fp8")
        ]
        assert values == sorted(values)
    assert kinds["activation"][0].elements == 8 * 64 * 64
    assert probe_from_json(probe.to_json()) == probe


@pytest.mark.parametrize(("family", "caches"), [("mamba", 0), ("mixtral", 2), ("falcon", 2)])
def test_families_without_cache_or_with_experts(backend_for, family, caches):
    probe = measure_tensors(backend_for(family).loaded)
    assert sum(stats.kind == "key" for stats in probe.tensors) == caches
    assert any(stats.kind == "weight" for stats in probe.tensors)


def test_probe_from_the_command_line(model_folder, tmp_path):
    file = tmp_path / "probe.json"
    arguments = ["probe", str(model_folder("llama")), "-o", str(file), "--calibration-samples", "4"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "down_proj" in result.stdout
    assert probe_from_json(file.read_bytes()).model == "llama"
    document = json.loads(file.read_text())
    document["tensors"][0]["surprise"] = 1
    with pytest.raises(DataError, match=r"tensors\.0\.surprise"):
        probe_from_json(json.dumps(document))


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_speed_of_the_unquantized_model(backend_for, family):
    loaded = backend_for(family).loaded
    scorer = load_scorer(plan_tasks(["speed"], TaskOptions(limit=2, context=32, batch=2))[0], seed=0)
    scorer.prepare(loaded)
    result = scorer.score(loaded)
    found = {measurement.metric: measurement.value for measurement in result.measurements}
    rates = [2 * 32 / seconds for seconds in result.samples["prefill_seconds"]]
    assert found["prefill_rate"] == pytest.approx(sum(rates) / 2)
    assert found["decode_rate"] > 0
    assert found["weight_bytes"] >= 4 * sum(parameter.numel() for parameter in loaded.model.parameters())
    assert (result.details["batch"], result.details["prompt_tokens"], result.details["timer"]) == (2, 32, "perf_counter")


def test_simulated_quantization_has_no_speed(backend_for):
    backend = backend_for("llama")
    scorer = load_scorer(plan_tasks(["speed"], TaskOptions(limit=1, context=32))[0], seed=0)
    scorer.prepare(backend.loaded)
    with backend.quantized(*expand_recipes(["nf4"])[1]), pytest.raises(NotApplicableError, match="has no speed of its own"):
        scorer.score(backend.loaded)


def test_batch_decides_the_key_of_a_speed_run_alone():
    def hashes(name):
        return [plan_tasks([name], TaskOptions(batch=batch))[0].hash for batch in (1, 8)]

    assert len(set(hashes("speed"))) == 2
    assert len(set(hashes("retrieval"))) == 1
