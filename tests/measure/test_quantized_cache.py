"""Quantized caches: one forward equals decoding token by token, and chunks equal decoding where keys share a scale."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import tiny_models  # noqa: E402

from knowledge.recipes import parse_recipe  # noqa: E402
from knowledge.schemes import parse_kv  # noqa: E402
from measure.errors import NotApplicableError  # noqa: E402
from measure.kv_cache import cache_rounding  # noqa: E402
from measure.presets import PROTOCOLS  # noqa: E402
from measure.quantizers.apply import apply_recipe  # noqa: E402

pytestmark = pytest.mark.measure

ATTENTION = [family for family in tiny_models.FAMILIES if family != "mamba"]
SHORT = replace(PROTOCOLS["default"], kv_residual=32)


def token_ids(length=70, rows=2):
    return torch.randint(4, tiny_models.VOCAB, (rows, length), generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def decode(model, ids):
    """Logits of one token at a time with the cache that the model makes itself."""
    past, parts = None, []
    for position in range(ids.shape[1]):
        out = model(input_ids=ids[:, position : position + 1], past_key_values=past, use_cache=True)
        past = out.past_key_values
        parts.append(out.logits)
    return torch.cat(parts, dim=1)


def change(one, other):
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("family", ATTENTION)
def test_one_forward_equals_decoding(double_for, family):
    loaded = double_for(family)
    ids = token_ids()
    with torch.no_grad():
        plain = loaded.model(input_ids=ids).logits
    for name in ("kv3", "kvfp8", "kvmxfp4"):
        applied = apply_recipe(loaded, parse_recipe(name), PROTOCOLS["default"])
        with torch.no_grad():
            whole = loaded.model(input_ids=ids).logits
        stepwise = decode(loaded.model, ids)
        applied.undo()
        assert change(whole, stepwise) < 1e-6, name
        assert change(whole, plain) > 1e-5, name
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, plain)


@pytest.mark.parametrize("family", ATTENTION)
def test_blocks_equal_decoding_with_per_channel_keys(double_for, family):
    loaded = double_for(family)
    ids = token_ids()
    with torch.no_grad():
        plain = loaded.model(input_ids=ids).logits
    applied = apply_recipe(loaded, parse_recipe("kivi2"), SHORT)
    try:
        with torch.no_grad():
            whole = loaded.model(input_ids=ids).logits
        stepwise = decode(loaded.model, ids)
    finally:
        applied.undo()
    assert applied.chunk == 32
    assert change(whole, stepwise) < 1e-6
    assert torch.equal(whole[:, :32], plain[:, :32]) or change(whole[:, :32], plain[:, :32]) < 1e-5
    assert change(whole[:, 32:], plain[:, 32:]) > 1e-3
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, plain)


@pytest.mark.parametrize("name", ["kv2", "kivi2"])
@pytest.mark.parametrize("family", ["llama", "mistral", "falcon", "bloom", "gemma2"])
def test_generation_uses_the_quantized_cache(double_for, family, name):
    loaded = double_for(family)
    ids = token_ids(length=50, rows=1)
    applied = apply_recipe(loaded, parse_recipe(name), SHORT)
    try:
        made = loaded.model.generate(
            ids, max_new_tokens=20, do_sample=False, attention_mask=torch.ones_like(ids), eos_token_id=[]
        )
        with torch.no_grad():
            teacher = loaded.model(input_ids=made[:, :-1]).logits.argmax(-1)
    finally:
        applied.undo()
    assert made[0, 50:].tolist() == teacher[0, 49:].tolist()


def test_keys_share_a_scale_over_tokens_and_values_over_channels(backend_for):
    from measure.kv_cache import BlockQuantCache

    cache = BlockQuantCache(backend_for("llama").loaded.model.config, bits=2, group=32, residual=32)
    keys, values = torch.randn(1, 2, 32, 16), torch.randn(1, 2, 32, 16)
    cache.update(keys, values, 0)
    assert torch.equal(cache.layers[0].keys, keys)
    cache.update(keys[:, :, :1], values[:, :, :1], 0)
    rounded_keys, rounded_values = cache.layers[0].keys[:, :, :32], cache.layers[0].values[:, :, :32]
    assert max(len(channel.unique()) for channel in rounded_keys[0, 0].T) <= 4
    assert max(len(token.unique()) for token in rounded_values[0, 0]) <= 4
    assert torch.equal(cache.layers[0].keys[:, :, 32:], keys[:, :, :1])
    with pytest.raises(ValueError, match="cross a block"):
        cache.update(keys, values, 0)


def test_the_study_divides_long_heads(backend_for):
    x = torch.randn(1, 1, 3, 256)
    x[..., :128] *= 100
    whole, _ = cache_rounding(parse_kv("kv4"), PROTOCOLS["default"])
    halves, words = cache_rounding(parse_kv("kv4"), PROTOCOLS["li2024"])
    assert change(halves(x)[..., 128:], x[..., 128:]) < 0.2 < change(whole(x)[..., 128:], x[..., 128:])
    assert "groups of 128" in words


@pytest.mark.parametrize("name", ["kvq8_0", "kvnvfp4", "kvfp4", "kv8tensor", "kv4row"])
def test_formats_without_a_rule_are_refused(name):
    with pytest.raises(NotApplicableError):
        cache_rounding(parse_kv(name), PROTOCOLS["default"])


def test_a_window_shorter_than_the_residual_is_refused(backend_for):
    loaded = backend_for("mistral").loaded
    with pytest.raises(NotApplicableError, match="window of 256 tokens is no longer than the residual of 512"):
        apply_recipe(loaded, parse_recipe("kivi2"), replace(PROTOCOLS["default"], kv_residual=512))


def test_mamba_has_no_cache(backend_for):
    with pytest.raises(NotApplicableError, match="mamba has no KV cache"):
        apply_recipe(backend_for("mamba").loaded, parse_recipe("kv8"), PROTOCOLS["default"])
