import json
import struct

import pytest

from knowledge.errors import HubError, InvalidModelError
from measure.models import locate_model


def write_weights(path, *, data=b"\0" * 16, cut=0, header=None):
    """A safetensors file with one float32 tensor of four elements."""
    entry = header or {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    text = json.dumps(entry).encode()
    content = struct.pack("<Q", len(text)) + text + data
    path.write_bytes(content[: len(content) - cut])


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    write_weights(path / "model.safetensors")
    return path


def test_folder_is_located(folder):
    source = locate_model(str(folder))
    assert (source.name, source.family, source.weight_bytes, source.revision) == ("tiny", "llama", 16, None)


def test_fingerprint_follows_the_weights_and_not_the_place(folder, tmp_path):
    before = locate_model(str(folder)).fingerprint
    moved = folder.rename(tmp_path / "moved")
    assert locate_model(str(moved)).fingerprint == before
    write_weights(moved / "model.safetensors", data=b"\1" * 16)
    assert locate_model(str(moved)).fingerprint != before


def edit_config(**values):
    def edit(folder):
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | values))

    return edit


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def missing_shard(folder):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "names no model_type"),
        (edit_config(is_encoder_decoder=True), "not a causal language model"),
        (edit_config(architectures=["BertForMaskedLM"]), "BertForMaskedLM is not a causal"),
        (edit_config(quantization_config={"quant_method": "gptq"}), r"already quantized \(gptq\)"),
        (only_pickle, "pickle weights only"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights in"),
        (missing_shard, "1 of 2 weight files are missing, the first is model-2.safetensors"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "no safetensors index"),
        (lambda f: write_weights(f / "model.safetensors", cut=3), "cut short"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not a file of tensors"), "is not a safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "is not a safetensors file"),
    ],
    ids=["no config", "config no json", "config a list", "encoder", "masked", "quantized", "pickle", "no weights", "shard",
         "index", "cut", "garbage", "empty"],
)  # fmt: skip
def test_unusable_models_are_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InvalidModelError, match=message):
        locate_model(str(folder))


@pytest.mark.parametrize("text", ["/no/such/folder", "nothing", "./a/b"])
def test_missing_folder(text):
    with pytest.raises(InvalidModelError, match="no model folder"):
        locate_model(text)


def test_hub_id_that_is_not_cached_says_what_to_do():
    with pytest.raises(HubError, match="not in the local cache") as caught:
        locate_model("some-org/some-model")
    assert caught.value.hint is not None
    assert "--online" in caught.value.hint
