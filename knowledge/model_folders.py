"""Models on this machine: a folder, a file, the Hugging Face cache, the Ollama store. Reads only; never runs what is there."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from knowledge.errors import InvalidModelError
from knowledge.model_config import read_config
from knowledge.model_fields import Fields, load_json
from knowledge.model_gguf import read_gguf
from knowledge.models import ModelSpec
from knowledge.safetensors_header import read_safetensors

_SHARD = re.compile(r"-(\d{5})-of-\d{5}(?=\.gguf$)", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_PLAIN = re.compile(r"^[A-Za-z0-9][\w.-]*$")
"""Parts of a name that may stand in a path: no separators, nothing that leads upwards."""


def read_path(path: Path) -> ModelSpec:
    """The model in a folder, a `config.json`, or a `.gguf` file.

    Raises:
        InvalidModelError: there is no model, it is broken, or a folder holds several GGUF models.
    """
    if path.is_dir():
        return read_folder(path)
    if path.suffix.lower() == ".gguf":
        return read_gguf(path)
    if path.suffix.lower() == ".json":
        return _with_tensors(read_config(path), path.parent)
    raise InvalidModelError(
        f"{path} is no model description", given=str(path), allowed=["a folder", "config.json", "a .gguf file"],
        hint="weights alone (.safetensors, .bin) do not state the architecture: give their folder",
    )  # fmt: skip


def read_folder(folder: Path) -> ModelSpec:
    """The model in `folder`: its config.json where there is one, else its GGUF file.

    Raises:
        InvalidModelError: there is no model, it is broken, or there are several GGUF models.
    """
    config = folder / "config.json"
    if config.is_file():
        return _with_tensors(read_config(config), folder)
    models = _gguf_models(folder)
    if len(models) == 1:
        return read_gguf(models[0])
    if models:
        raise InvalidModelError(
            f"{folder} holds {len(models)} GGUF models", given=str(folder), allowed=[path.name for path in models[:12]],
            hint="give one of the files",
        )  # fmt: skip
    raise InvalidModelError(
        f"{folder} holds no model: neither config.json nor a .gguf file", given=str(folder),
        hint="give the folder that transformers or llama.cpp would load",
    )  # fmt: skip


def find_cached(name: str) -> ModelSpec | None:
    """The model that the local Hugging Face cache holds as `name` (`org/name`, or `name` if only one organisation has it).

    Raises:
        InvalidModelError: the cached files are broken.
    """
    wanted = name.strip().lower().replace("/", "--")
    folders = [folder for folder in _cached() if folder.name.lower().removeprefix("models--") == wanted]
    if not folders and "/" not in name:
        folders = [folder for folder in _cached() if folder.name.lower().endswith(f"--{wanted}")]
    if len(folders) != 1:
        return None
    snapshot = _snapshot(folders[0])
    if snapshot is None:
        return None
    spec = read_folder(snapshot)
    repo = folders[0].name.removeprefix("models--").replace("--", "/")
    return replace(spec, name=repo.rpartition("/")[2].lower(), hf_id=repo)


def find_ollama(name: str) -> ModelSpec | None:
    """The model that the Ollama store holds under the tag `name` (`llama3.1:8b`; without a tag, `latest`).

    Raises:
        InvalidModelError: the manifest or the file it points to is broken.
    """
    manifest = _ollama_manifest(name.strip())
    if manifest is None:
        return None
    fields = Fields(load_json(manifest), str(manifest))
    for layer in fields.items("layers") or []:
        if isinstance(layer, dict) and layer.get("mediaType") == "application/vnd.ollama.image.model":
            digest = str(layer.get("digest", ""))
            if not re.fullmatch(r"sha256[:-][0-9a-f]{64}", digest):
                raise InvalidModelError(f"{manifest} points to {digest[:80]!r}, which is no digest", given=name)
            blob = _ollama_root() / "blobs" / digest.replace(":", "-")
            return replace(read_gguf(blob), name=name.strip().lower(), source=f"{manifest} ({blob.name})")
    raise InvalidModelError(f"{manifest} names no model file", given=name, hint=f"ollama pull {name}")


def _with_tensors(spec: ModelSpec, folder: Path) -> ModelSpec:
    """`spec` with the exact tensors of a quantized checkpoint, whose bytes no rule gives as surely as its own header."""
    if spec.stored_scheme is None:
        return spec
    files = sorted(folder.glob("*.safetensors"))
    if (folder / "consolidated.safetensors") in files and len(files) > 1:  # Mistral publishes the weights twice
        files.remove(folder / "consolidated.safetensors")
    return replace(spec, stored_tensors=tuple(tensor for file in files for tensor in read_safetensors(file)))


def _gguf_models(folder: Path) -> list[Path]:
    """One path a GGUF model of `folder`: the first shard of sharded ones; projectors and importance matrices are none."""
    files = sorted(path for path in folder.glob("*.gguf") if not _NO_MODEL.search(path.name))
    shards = {path: _SHARD.search(path.name) for path in files}
    return [path for path, shard in shards.items() if shard is None or shard[1] == "00001"]


def _cached() -> Iterator[Path]:
    """Folders of the local Hugging Face cache, where huggingface_hub looks for them (`HF_HUB_CACHE`, `HF_HOME`)."""
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    root = Path(hub).expanduser() if hub else Path(home).expanduser() / "hub"
    if root.is_dir():
        yield from sorted(root.glob("models--*"))


def _snapshot(folder: Path) -> Path | None:
    """The revision that `main` points to, else the newest one; None where nothing was downloaded."""
    main = folder / "refs" / "main"
    if main.is_file():
        revision = main.read_text(encoding="utf-8", errors="replace").strip()
        if _PLAIN.match(revision) and (snapshot := folder / "snapshots" / revision).is_dir():
            return snapshot
    snapshots = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    return max(snapshots, key=lambda path: (path.stat().st_mtime, path.name), default=None)


def _ollama_root() -> Path:
    return Path(os.environ.get("OLLAMA_MODELS") or "~/.ollama/models").expanduser()


def _ollama_manifest(name: str) -> Path | None:
    """The manifest of tag `name`; names are `[HOST/][NAMESPACE/]MODEL[:TAG]`, by default of Ollama's own library."""
    head, _, tag = name.partition(":")
    parts = head.split("/")
    if not all(_PLAIN.match(part) for part in (*parts, tag or "latest")) or len(parts) > 3:
        return None
    parts = [*("registry.ollama.ai", "library")[: 3 - len(parts)], *parts]
    folder = (_ollama_root() / "manifests").joinpath(*parts)
    for given in (tag or "latest", (tag or "latest").lower()):
        if (manifest := folder / given).is_file():
            return manifest
    return None
