"""A random model of 7 billion parameters on a GPU: weights, cache, buffers and a cell's peak against what is computed.

`python -m pytest -m gpu tests/gpu -s` prints every figure beside its formula. Each case allocates what it needs and skips
where the device has less.
"""

import gc

import pytest

torch = pytest.importorskip("torch")

from shaped_models import SEVEN_BILLION, fill_cache, loaded_model, random_model  # noqa: E402

from knowledge.memory import estimate_memory  # noqa: E402
from knowledge.model_config import spec_from_config  # noqa: E402
from knowledge.schemes import parse_scheme  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402
from measure.quantizers.apply import apply_recipe  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.measure]

TOLERANCE = 0.03


@pytest.fixture(scope="module")
def weighed():
    """The model, and the bytes that it takes after loading."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; found none")
    before = torch.cuda.memory_allocated()
    model = random_model(SEVEN_BILLION, "cuda")
    return model, torch.cuda.memory_allocated() - before


def estimate(model, context, batch):
    spec = spec_from_config(model.config.to_dict(), name="7b", source="test")
    return estimate_memory(spec, parse_scheme("w16a16"), context=context, batch=batch)


def test_weights(weighed):
    model, weight_bytes = weighed
    computed = estimate(model, 2048, 1).weights_bytes
    print(f"weights {weight_bytes:,} computed {computed:,} ({weight_bytes / computed - 1:+.2%})")
    assert weight_bytes == pytest.approx(computed, rel=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("context", [2048, 8192, 32768])
def test_cache_and_buffers(weighed, context, batch):
    model, _ = weighed
    computed = estimate(model, context, batch)
    gc.collect()
    torch.cuda.empty_cache()
    room, needed = torch.cuda.mem_get_info()[0], 2 * computed.kv_cache_bytes + computed.buffers_bytes
    if needed > room:
        pytest.skip(f"needs {needed / 1e9:.0f} GB beside the weights; {room / 1e9:.0f} GB are free")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    cache = fill_cache(model, context=context, batch=batch)
    rise = torch.cuda.memory_allocated() - before
    buffers = torch.cuda.max_memory_allocated() - before - rise
    print(
        f"context {context} batch {batch}: cache {rise:,} computed {computed.kv_cache_bytes:,} "
        f"({rise / computed.kv_cache_bytes - 1:+.2%}); peak beside both {buffers:,}, "
        f"computed {computed.buffers_bytes:,} ({buffers / computed.buffers_bytes - 1:+.1%})"
    )
    del cache
    assert rise == pytest.approx(computed.kv_cache_bytes, rel=TOLERANCE)


@pytest.mark.parametrize("recipe", ["w4a16-g128", "w3a16-g128-sym", "mxfp4", "nvfp4", "nf4"])
def test_a_cell_stays_below_its_peak(weighed, recipe):
    """Weights x 1.25 and a few float32 copies of the largest matrix: the originals are in host memory."""
    model, weight_bytes = weighed
    loaded = loaded_model(model, "cuda")
    largest = max(parameter.numel() for parameter in model.model.layers.parameters())
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    applied = apply_recipe(loaded, *expand_recipes([recipe])[1])
    peak = torch.cuda.max_memory_allocated()
    applied.undo()
    allowed = 1.25 * weight_bytes + 12 * 4 * largest
    print(f"{recipe}: peak {peak:,}, allowed {allowed:,.0f}")
    assert peak <= allowed
