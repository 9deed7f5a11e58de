from dataclasses import replace

import numpy as np
import pytest

from advisor.candidates import generate_candidates
from advisor.costs import active_share, estimate_costs, params_b
from advisor.speed import bytes_per_token
from knowledge.catalogue import find_model
from knowledge.errors import InvalidModelError
from knowledge.memory import estimate_memory
from knowledge.models import ModelSpec
from knowledge.schemes import QuantScheme


@pytest.mark.parametrize("name", ["mistral-7b-v0.1", "mixtral-8x7b", "mamba-2.8b", "falcon-7b"])
def test_costs_are_those_of_the_memory_estimate(name: str) -> None:
    spec = find_model(name)
    found = generate_candidates(spec).candidates
    costs = estimate_costs(spec, found, context=2048, batch=2)
    assert len(costs.candidates) + len(costs.refused) == len(found)
    for index in range(0, len(costs.candidates), 97):
        candidate = costs.candidates[index]
        estimate = estimate_memory(
            spec, candidate.scheme, method=candidate.method.name, format=candidate.format, engine=candidate.engine,
            context=2048, batch=2,
        )  # fmt: skip
        parts = (costs.weights[index], costs.cache[index], costs.state[index], costs.buffers[index])
        assert parts == (estimate.weights_bytes, estimate.kv_cache_bytes, estimate.state_bytes, estimate.buffers_bytes)
        assert costs.total[index] == estimate.total_bytes


def test_a_token_of_a_mixture_moves_its_active_experts_only() -> None:
    spec = find_model("mixtral-8x7b")
    costs = estimate_costs(spec, generate_candidates(spec).candidates[:1], context=1, batch=1)
    assert active_share(spec) == pytest.approx(12.88 / 46.70, abs=0.001)
    assert costs.moved[0] == pytest.approx(costs.weights[0] * active_share(spec) + costs.cache[0])


def test_a_dense_model_moves_everything() -> None:
    assert active_share(find_model("mistral-7b-v0.1")) == 1.0


def test_a_slow_kernel_is_charged_for_its_weights_only() -> None:
    spec = find_model("mistral-7b-v0.1")
    costs = estimate_costs(spec, generate_candidates(spec).candidates, context=4096, batch=1)
    slow = [i for i, candidate in enumerate(costs.candidates) if candidate.penalty > 1]
    assert slow
    for i in slow[:5]:
        expected = bytes_per_token(float(costs.weights[i]) * costs.candidates[i].penalty, float(costs.cache[i]), 1)
        assert costs.penalized[i] == pytest.approx(expected)
    fast = [i for i, candidate in enumerate(costs.candidates) if candidate.penalty == 1]
    assert (costs.penalized[fast] == costs.moved[fast]).all()


def test_more_context_and_more_sequences_never_need_less() -> None:
    spec = find_model("llama-2-7b")
    found = generate_candidates(spec).candidates
    totals = [estimate_costs(spec, found, context=c, batch=b).total for c, b in ((512, 1), (4096, 1), (4096, 4))]
    assert (np.diff(np.array(totals), axis=0) >= 0).all()


def test_a_model_of_unknown_size_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="neither shape nor parameter count"):
        params_b(ModelSpec(name="x", family="y", source="test"))


def test_recipes_that_cannot_be_sized_are_set_aside_with_the_reason() -> None:
    spec = find_model("mistral-7b-v0.1")
    found = generate_candidates(spec, engine="llama.cpp").candidates
    odd = [replace(found[i], scheme=QuantScheme(file_type="gguf:q9_k"), weights_name="gguf:q9_k") for i in (0, 5)]
    mixed = (odd[0], *found[1:5], odd[1], *found[6:])
    costs = estimate_costs(spec, mixed, context=512, batch=1)
    assert [candidate for candidate, _ in costs.refused] == odd
    assert {reason for _, reason in costs.refused} == {"the GGUF type q9_k is not known"}
    alone = estimate_costs(spec, tuple(c for c in mixed if c not in odd), context=512, batch=1)
    assert costs.candidates == alone.candidates
    assert costs.total.tolist() == alone.total.tolist()
    assert estimate_costs(spec, mixed, context=64, batch=1).candidates is costs.candidates
