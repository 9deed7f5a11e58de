"""The training script: what it leaves behind, that a seed repeats, and that every sequence is whole."""

import json
from functools import cache

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from measure.loading import load_model
from measure.models import locate_model
from measure.plan import Settings
from measure.pocket.train import Mixture, train

pytestmark = pytest.mark.measure

DOCUMENTS = ["the cat sat on the mat. " * 40, "a list is a sequence of objects.\n" * 40] * 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    @cache
    def run(architecture="llama", seed=0, again=False):
        folder = tmp_path_factory.mktemp("pocket")
        train(folder, DOCUMENTS, size="s", architecture=architecture, steps=3, minutes=0, seed=seed)
        return folder

    return run


def test_a_trained_folder_is_a_model_with_its_history(trained):
    folder = trained()
    loaded = load_model(locate_model(str(folder)), Settings())
    facts = json.loads((folder / "training.json").read_text())
    assert facts["parameters"] == sum(parameter.numel() for parameter in loaded.model.parameters())
    assert (facts["steps"], facts["constant_steps"], facts["tokens"]) == (3, 2, 3 * 2048)
    assert facts["stages"][0] == [0, 64]
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert loaded.max_context == 512


def test_a_seed_repeats(trained):
    folders = trained(), trained(again=True), trained(seed=1)
    one, two, other = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("architecture", ["opt", "falcon", "bloom", "gemma2"])
def test_other_families_train(trained, architecture):
    folder = trained(architecture)
    assert json.loads((folder / "config.json").read_text())["model_type"] == architecture
    assert json.loads((folder / "training.json").read_text())["steps"] == 3


@pytest.mark.parametrize("length", [64, 128, 256, 512])
def test_sequences_fill_their_length_and_only_answers_of_look_ups_count_as_looked_up(trained, length):
    from transformers import AutoTokenizer

    mixture = Mixture(AutoTokenizer.from_pretrained(trained()), DOCUMENTS, seed=0)
    ids, weights, looked_up = mixture.batch(40, length)
    assert ids.shape == weights.shape == looked_up.shape == (40, length)
    assert weights.unique().tolist() == pytest.approx([0.05, 1.0, 6.0])
    assert (weights[looked_up] == 6).all()
    assert looked_up.any(dim=1).sum() >= 10
