"""The training script: what it leaves behind, that a seed repeats, and that every sequence is whole."""

import json
import re
from functools import cache

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from measure.loading import load_model
from measure.models import locate_model
from measure.plan import Settings
from measure.pocket.curriculum import LENGTHS
from measure.pocket.mixture import KINDS, TEXT_ONLY, TOKENS_PER_STEP, Mixture
from measure.pocket.train import train

pytestmark = pytest.mark.measure

DOCUMENTS = ["the cat sat on the mat. " * 40, "a list is a sequence of objects.\n" * 40] * 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    @cache
    def run(architecture="llama", seed=0, again=False, text_only=False):
        folder = tmp_path_factory.mktemp("pocket")
        train(folder, DOCUMENTS, size="s", architecture=architecture, steps=3, minutes=0, seed=seed, text_only=text_only)
        return folder

    return run


def test_a_trained_folder_is_a_model_with_its_history(trained):
    folder = trained()
    loaded = load_model(locate_model(str(folder)), Settings())
    facts = json.loads((folder / "training.json").read_text())
    assert facts["parameters"] == sum(parameter.numel() for parameter in loaded.model.parameters())
    assert (facts["steps"], facts["constant_steps"], facts["tokens"]) == (3, 2, 3 * TOKENS_PER_STEP)
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


@pytest.fixture(scope="module")
def mixture(trained):
    from transformers import AutoTokenizer

    return Mixture(AutoTokenizer.from_pretrained(trained()), DOCUMENTS, seed=0)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_step_has_all_kinds_in_the_amounts_that_are_set(mixture, length):
    growing, short = mixture.step(length, large=0.5)
    assert growing.ids.shape[1] == length
    assert growing.ids.numel() + short.ids.numel() == TOKENS_PER_STEP
    for batch, names in ((growing, ("text", "look-up")), (short, ("sums", "facts", "instructions"))):
        assert batch.ids.shape == batch.weights.shape == batch.kinds.shape
        assert ((batch.weights > 0) == (batch.kinds >= 0)).all()
        assert not batch.weights[:, 0].any()
        for name in names:
            own = batch.kinds == list(KINDS).index(name)
            assert batch.weights[own].sum() == pytest.approx(KINDS[name].weight, rel=1e-4)


def test_without_skills_a_step_is_all_text(trained):
    from transformers import AutoTokenizer

    (batch,) = Mixture(AutoTokenizer.from_pretrained(trained()), DOCUMENTS, seed=0, kinds=TEXT_ONLY).step(128, large=0.5)
    assert batch.ids.numel() == TOKENS_PER_STEP
    assert set(batch.kinds[:, 1:].unique().tolist()) == {list(KINDS).index("text")}


def test_a_model_without_skills_says_so(trained):
    said = [
        json.loads((trained(**options) / "training.json").read_text())["text_only"] for options in ({}, {"text_only": True})
    ]
    assert said == [False, True]


@pytest.mark.parametrize(("large", "longest"), [(0.0, 2), (1.0, 3)])
def test_answers_are_what_counts(mixture, trained, large, longest):
    from transformers import AutoTokenizer

    short = mixture.step(64, large=large)[1]
    tokenizer = AutoTokenizer.from_pretrained(trained())
    rows = short.ids[(short.kinds == list(KINDS).index("sums")).any(dim=1)]
    text = "\n".join(tokenizer.decode(row) for row in rows)
    numbers = {len(digits) for pair in re.findall(r"(\d+) \+ (\d+) =", text) for digits in pair}
    assert max(numbers) == longest
    counted = short.ids[short.kinds == list(KINDS).index("sums")]
    assert set(tokenizer.decode(counted)) == set(" \n0123456789")
