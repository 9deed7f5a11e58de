"""Every way to name a model ends in its facts, or in one error that says what to do."""

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from knowledge.errors import HubError, InvalidModelError, UnknownNameError
from knowledge.resolve import resolve_model
from knowledge.schemes import parse_scheme

MISTRAL = {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}


def make_folder(folder: Path, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or MISTRAL), encoding="utf-8")
    return folder


def make_gguf(path: Path, name: str = "Mistral 7B v0.1", layers: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_file_type(15)
    writer.add_block_count(layers)
    writer.add_context_length(32768)
    writer.add_embedding_length(4096)
    writer.add_feed_forward_length(14336)
    writer.add_head_count(32)
    writer.add_head_count_kv(8)
    writer.add_tensor("blk.0.attn_k.weight", np.zeros((4, 144), dtype=np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make_safetensors(path: Path, tensors: dict[str, tuple[str, list[int], int]]) -> Path:
    """A safetensors file with `tensors`: name to type, shape and bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    data = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + b"\0" * end)
    return path


def test_folder_and_its_config_are_one_model(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "my-finetune")
    by_folder, by_file = resolve_model(str(folder)), resolve_model(str(folder / "config.json"))
    assert by_folder == by_file
    assert (by_folder.name, by_folder.layers, by_folder.kv_heads, by_folder.family) == ("my-finetune", 32, 8, "mistral")


def test_path_may_be_relative_or_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("m").layers == resolve_model("./m").layers == resolve_model("~/m").layers == 32


def test_catalogue_name_needs_no_file() -> None:
    assert resolve_model("mistral-7b").name == "mistral-7b-v0.1"


def test_folder_without_a_model_does_not_hide_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bloom").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("bloom").name == "bloom-176b"


def test_known_model_in_a_folder_gets_the_catalogues_identity(tmp_path: Path) -> None:
    spec = resolve_model(str(make_folder(tmp_path / "Mistral-7B-v0.1")))
    assert (spec.name, spec.hf_id, spec.tuned) == ("mistral-7b-v0.1", "mistralai/Mistral-7B-v0.1", False)
    assert spec.params_published == 7_241_732_096
    assert "name and shape agree" in spec.notes[-1]


def test_name_alone_is_not_believed_where_the_shape_differs(tmp_path: Path) -> None:
    spec = resolve_model(str(make_folder(tmp_path / "Mistral-7B-v0.1", MISTRAL | {"num_hidden_layers": 24})))
    assert (spec.hf_id, spec.layers, spec.params_published) == (None, 24, None)


def test_quantized_folder_has_its_format_and_exact_tensors(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", MISTRAL | {"quantization_config": AWQ})
    make_safetensors(folder / "model-00001-of-00002.safetensors", {"a.qweight": ("I32", [4, 8], 128)})
    make_safetensors(folder / "model-00002-of-00002.safetensors", {"a.scales": ("F16", [2, 8], 32)})
    spec = resolve_model(str(folder))
    assert (spec.stored_scheme, spec.stored_method) == (parse_scheme("w4a16-g128-asym"), "awq")
    assert [(tensor.name, tensor.shape, tensor.bytes) for tensor in spec.stored_tensors] == [
        ("a.qweight", (4, 8), 128),
        ("a.scales", (2, 8), 32),
    ]


def test_weights_published_twice_count_once(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", MISTRAL | {"quantization_config": AWQ})
    for name in ("model", "consolidated"):
        make_safetensors(folder / f"{name}.safetensors", {"a": ("F16", [2, 8], 32)})
    assert len(resolve_model(str(folder)).stored_tensors) == 1


def test_gguf_file_and_folder_of_one(tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "mistral.Q4_K_M.gguf")
    make_gguf(tmp_path / "mmproj-model.gguf")
    spec = resolve_model(str(path))
    assert spec == resolve_model(str(tmp_path))
    assert (spec.name, spec.stored_scheme, spec.family) == ("mistral-7b-v0.1", parse_scheme("gguf:q4_k_m"), "mistral")


def test_folder_of_several_gguf_models_asks_which(tmp_path: Path) -> None:
    make_gguf(tmp_path / "m.Q4_K_M.gguf")
    make_gguf(tmp_path / "m.Q8_0.gguf")
    with pytest.raises(InvalidModelError, match="holds 2 GGUF models") as caught:
        resolve_model(str(tmp_path))
    assert caught.value.allowed == ["m.Q4_K_M.gguf", "m.Q8_0.gguf"]


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache of this test's own."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def make_cached(cache: Path, repo: str, config: dict[str, Any] | None = None) -> Path:
    folder = cache / f"models--{repo.replace('/', '--')}"
    make_folder(folder / "snapshots" / "abc123", config)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc123", encoding="utf-8")
    return folder


@pytest.mark.parametrize("text", ["acme/Rocket-7B", "Acme/rocket-7b", "rocket-7b"], ids=["id", "other case", "name alone"])
def test_model_in_the_hugging_face_cache(text: str, hub_cache: Path) -> None:
    make_cached(hub_cache, "acme/Rocket-7B")
    spec = resolve_model(text)
    assert (spec.name, spec.hf_id, spec.layers) == ("rocket-7b", "acme/Rocket-7B", 32)


def test_cache_is_found_under_hf_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    make_cached(tmp_path / "hub", "acme/rocket-7b")
    assert resolve_model("acme/rocket-7b").layers == 32


def test_newest_snapshot_where_main_is_not_there(hub_cache: Path) -> None:
    folder = make_cached(hub_cache, "acme/rocket-7b")
    (folder / "refs" / "main").write_text("../../..", encoding="utf-8")
    assert resolve_model("acme/rocket-7b").layers == 32


def test_two_organisations_with_one_name_are_not_guessed(hub_cache: Path) -> None:
    make_cached(hub_cache, "acme/rocket-7b")
    make_cached(hub_cache, "zenith/rocket-7b")
    with pytest.raises(UnknownNameError, match="unknown model 'rocket-7b'"):
        resolve_model("rocket-7b")


@pytest.fixture
def ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An Ollama store of this test's own, with `rocket:7b` in it."""
    root = tmp_path / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(root))
    digest = "0123456789abcdef" * 4
    make_gguf(root / "blobs" / f"sha256-{digest}", name="Rocket")
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "f" * 64},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"},
    ]
    manifest = root / "manifests" / "registry.ollama.ai" / "library" / "rocket" / "7b"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}), encoding="utf-8")
    return root


def test_model_in_the_ollama_store(ollama: Path) -> None:
    spec = resolve_model("rocket:7b")
    assert (spec.name, spec.layers, spec.stored_scheme) == ("rocket:7b", 32, parse_scheme("gguf:q4_k_m"))


@pytest.mark.parametrize("text", ["rocket", "rocket:8b", "rocket:../../secret", "a/b/c/d:7b"], ids=str)
def test_tag_that_the_store_lacks_is_unknown(text: str, ollama: Path) -> None:
    with pytest.raises((UnknownNameError, InvalidModelError), match=r"unknown model|there is no"):
        resolve_model(text)


MANIFESTS = [
    ("no model", {"layers": []}, "names no model file"),
    (
        "no digest",
        {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "../../etc/passwd"}]},
        "is no digest",
    ),
    ("no object", [], "holds a JSON list"),
]


@pytest.mark.parametrize(("manifest", "reason"), [row[1:] for row in MANIFESTS], ids=[row[0] for row in MANIFESTS])
def test_broken_manifest_is_refused(manifest: object, reason: str, ollama: Path) -> None:
    path = ollama / "manifests" / "registry.ollama.ai" / "library" / "rocket" / "7b"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InvalidModelError, match=reason):
        resolve_model("rocket:7b")


PATHS = [
    ("missing file", "./nowhere/config.json", "there is no ./nowhere/config.json"),
    ("missing GGUF", "model.gguf", r"there is no model\.gguf"),
    ("missing folder", "/nowhere/at/all", "there is no /nowhere/at/all"),
    ("empty", "  ", "name is empty"),
    ("zero byte", "a\0b", "name is empty"),
    ("endless", "x" * 5000, "cannot look at"),
]


@pytest.mark.parametrize(("text", "reason"), [row[1:] for row in PATHS], ids=[row[0] for row in PATHS])
def test_what_can_only_be_a_path_says_that_it_is_not_there(text: str, reason: str) -> None:
    with pytest.raises(InvalidModelError, match=reason):
        resolve_model(text)


def test_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"holds no model: neither config\.json nor a \.gguf file"):
        resolve_model(str(tmp_path))


def test_weights_alone_are_not_enough(tmp_path: Path) -> None:
    path = make_safetensors(tmp_path / "model.safetensors", {"a": ("F16", [1], 2)})
    with pytest.raises(InvalidModelError, match="is no model description") as caught:
        resolve_model(str(path))
    assert "give their folder" in (caught.value.hint or "")


HEADERS = [
    ("empty", b"", "its header is incomplete"),
    ("endless header", struct.pack("<Q", 2**60), "its header is incomplete"),
    ("cut off", struct.pack("<Q", 100) + b"{}", "its header is incomplete"),
    ("no JSON", struct.pack("<Q", 2) + b"xx", "no valid JSON"),
    ("no offsets", struct.pack("<Q", 14) + b'{"a":{"b": 1}}', "no valid shape or offsets"),
    (
        "beyond the end",
        struct.pack("<Q", 55) + b'{"a":{"dtype":"F16","shape":[9],"data_offsets":[0,18]}}',
        "beyond its end: the file is truncated",
    ),
]


@pytest.mark.parametrize(("data", "reason"), [row[1:] for row in HEADERS], ids=[row[0] for row in HEADERS])
def test_broken_safetensors_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", MISTRAL | {"quantization_config": AWQ})
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(InvalidModelError, match=reason):
        resolve_model(str(folder))


def test_unknown_name_says_how_to_ask_the_hub() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'acme/unheard-of-7b'") as caught:
        resolve_model("acme/unheard-of-7b")
    assert "--online reads acme/unheard-of-7b from the hub" in (caught.value.hint or "")


def test_online_needs_an_id() -> None:
    with pytest.raises(HubError, match="no hub id"):
        resolve_model("unheard-of-7b", online=True)
