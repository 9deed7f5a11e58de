"""Bytes of real models and filled caches against `knowledge.memory`, on a CPU; `tests/gpu` weighs 7 billion parameters."""

import pytest

torch = pytest.importorskip("torch")

from shaped_models import SEVEN_BILLION, cache_tensors, fill_cache, random_model, tensor_bytes  # noqa: E402

from knowledge.memory import estimate_memory  # noqa: E402
from knowledge.model_config import spec_from_config  # noqa: E402
from knowledge.schemes import parse_scheme  # noqa: E402

pytestmark = pytest.mark.measure

SMALL = SEVEN_BILLION | {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
                         "num_attention_heads": 8, "num_key_value_heads": 2}  # fmt: skip


def estimate(model, context=64, batch=1):
    spec = spec_from_config(model.config.to_dict(), name="m", source="test")
    return estimate_memory(spec, parse_scheme("w16a16"), context=context, batch=batch)


@pytest.mark.parametrize("shape", [SMALL, SEVEN_BILLION], ids=["small", "7B, without data"])
def test_weights_weigh_what_is_computed(shape):
    model = random_model(shape, "meta")
    assert sum(p.numel() * p.element_size() for p in model.parameters()) == pytest.approx(
        estimate(model).weights_bytes, rel=1e-3
    )


@pytest.mark.parametrize(("context", "batch"), [(48, 1), (100, 3)])
def test_a_full_cache_weighs_what_is_computed(context, batch):
    model = random_model(SMALL, "cpu")
    cache = fill_cache(model, context=context, batch=batch, chunk=32)
    assert tensor_bytes(cache_tensors(cache)) == estimate(model, context, batch).kv_cache_bytes
