"""Every family with every kind of recipe: what should change changes, effective bits are right, the originals come back."""

import pytest

torch = pytest.importorskip("torch")

import tiny_models  # noqa: E402

from measure.errors import NotApplicableError  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402

pytestmark = pytest.mark.measure

RECIPES = (
    "w8a16-channel-sym", "w4a16-g32", "w3a16-g32-sym", "w2a16-g64", "nf4", "nf4-dq", "fp4", "mxfp4", "mxfp4a16",
    "nvfp4", "fp8", "mxint8", "w4a16-g32:hqq", "w8a8", "w4a8-g32", "w4a4-g32", "w4a16-g32-kv4", "w8a8-kv8", "kv2",
)  # fmt: skip
MATRICES = {
    "llama": 14, "mistral": 14, "mixtral": 12, "opt": 12, "falcon": 8, "bloom": 8, "glm": 12, "stablelm": 14, "gemma": 14,
    "gemma2": 14, "mamba": 6, "phi": 12, "qwen2": 14, "qwen3": 14,
}  # fmt: skip


def stated(text, protocol="default"):
    return expand_recipes([text], protocol=protocol)[1]


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_recipes_act_and_are_undone(backend_for, family):
    backend = backend_for(family)
    before = {name: parameter.clone() for name, parameter in backend.loaded.model.named_parameters()}
    for text in RECIPES:
        recipe, protocol = stated(text)
        if family == "mamba" and recipe.scheme.kv_cache is not None:
            continue
        with backend.quantized(recipe, protocol) as facts:
            changed = {
                name for name, parameter in backend.loaded.model.named_parameters() if not torch.equal(parameter, before[name])
            }
            if recipe.scheme.weights is not None:
                assert facts.tensors_changed == facts.tensors_expected == len(changed) == MATRICES[family], text
                assert facts.weight_error is not None
                assert facts.bits_per_weight is not None
                assert facts.bits_per_weight >= recipe.scheme.w_bits
            else:
                assert not changed
            assert facts.logit_change is not None
            assert 0 < facts.logit_change < 2, text
        for name, parameter in backend.loaded.model.named_parameters():
            assert torch.equal(parameter, before[name]), (text, name)


def test_more_bits_change_less(backend_for):
    backend = backend_for("llama")
    errors = []
    for bits in (8, 6, 5, 4, 3, 2):
        with backend.quantized(*stated(f"w{bits}a16-g32")) as facts:
            errors.append(facts.weight_error)
    assert errors == sorted(errors)


def test_rows_that_the_group_does_not_divide(backend_for):
    backend = backend_for("llama")
    with backend.quantized(*stated("w4a16-g48")) as facts:
        assert facts.left_out == {}
        assert facts.group_exceptions["model.layers.0.self_attn.q_proj.weight"] == "rows of 64: groups of 16 instead of 48"
    with backend.quantized(*stated("w4a16-g128", "li2024")) as facts:
        assert facts.tensors_changed == 2  # the down projections alone have rows of 128
        assert facts.left_out["model.layers.0.self_attn.q_proj.weight"] == "rows of 64 are not a multiple of 128"


def test_the_study_quantizes_the_router(backend_for):
    backend = backend_for("mixtral")
    with backend.quantized(*stated("w4a16-g64", "li2024")) as facts:
        assert facts.tensors_changed == MATRICES["mixtral"] + 2


def test_experts_see_rounded_inputs(backend_for):
    """Rounding what enters both expert products differs from rounding what enters the module alone."""
    backend = backend_for("mixtral")
    recipe, protocol = stated("w16a4")
    with backend.quantized(recipe, protocol) as facts:
        assert facts.conventions["activations"].startswith("int4")
        experts = backend.loaded.model.model.layers[0].mlp.experts
        assert "forward" in experts.__dict__
    assert "forward" not in experts.__dict__


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w8a8-astatic", "static scales cannot be run"),
        ("w4a16-g32-sym:hqq", "HQQ makes asymmetric"),
        ("w4a16:quip", "method 'quip' cannot be run here"),
        ("w7.5a16-g32", "cannot be rounded here"),
        ("nf4-g48", "no nf4 with groups of 48"),
        ("codebook2", "cannot be rounded here"),
        ("fp8-block", "cannot be rounded here"),
    ],
)
def test_what_cannot_be_run_says_so_and_leaves_no_trace(backend_for, text, message):
    backend = backend_for("llama")
    before = {name: parameter.clone() for name, parameter in backend.loaded.model.named_parameters()}
    with pytest.raises(NotApplicableError, match=message), backend.quantized(*stated(text)):
        pass
    assert all(torch.equal(parameter, before[name]) for name, parameter in backend.loaded.model.named_parameters())


def test_a_model_that_is_not_restored_is_loaded_again(backend_for):
    backend = backend_for("phi")
    weight = backend.loaded.model.model.layers[0].mlp.fc1.weight
    with backend.quantized(*stated("kv8")), torch.no_grad():
        weight.add_(1)
    assert not torch.equal(backend.loaded.model.model.layers[0].mlp.fc1.weight, weight)
