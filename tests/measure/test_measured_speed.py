"""Speed where there is one."""

import pytest

torch = pytest.importorskip("torch")

from measure.errors import NotApplicableError  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402
from measure.tasks import TaskOptions, load_scorer, plan_tasks  # noqa: E402

pytestmark = pytest.mark.measure


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


def test_a_recipe_without_a_kernel_has_no_speed(backend_for):
    backend = backend_for("llama")
    scorer = load_scorer(plan_tasks(["speed"], TaskOptions(limit=1, context=32))[0], seed=0)
    scorer.prepare(backend.loaded)
    with backend.quantized(*expand_recipes(["mxfp4"])[1]), pytest.raises(NotApplicableError, match="no kernel here computes"):
        scorer.score(backend.loaded)


def test_batch_decides_the_key_of_a_speed_run_alone():
    def hashes(name):
        return [plan_tasks([name], TaskOptions(batch=batch))[0].hash for batch in (1, 8)]

    assert len(set(hashes("speed"))) == 2
    assert len(set(hashes("retrieval"))) == 1
