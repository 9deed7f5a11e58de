"""Where a model lies and which model it is, without loading it: folder, configuration, weight files, fingerprint."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge.errors import HubError, InvalidModelError

_SAMPLE_BYTES = 1 << 20
_NOT_CAUSAL = ("ForSequenceClassification", "ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering", "ForPreTraining")

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model on disk that passed the checks that need no weights in memory."""

    name: str
    """As the user gave it: a hub id, or the folder's name."""
    path: Path
    config: dict[str, Any]
    fingerprint: str
    weight_files: tuple[Path, ...]
    weight_bytes: int
    """Bytes of the tensors in the files."""
    revision: str | None = None

    @property
    def family(self) -> str:
        """`model_type` of the configuration."""
        return str(self.config["model_type"])


def locate_model(text: str, *, online: bool = False) -> ModelSource:
    """The model that `text` names: a folder, or a hub id that is in the local cache (or is fetched, when `online`).

    Raises:
        InvalidModelError: no such folder, no configuration, no causal language model, already quantized, weights that are
            missing, cut short or only there as pickle.
        HubError: a hub id that is not in the cache, or a download that failed.
    """
    path, revision = Path(text).expanduser(), None
    if not path.is_dir():
        if text.count("/") != 1 or path.exists() or text.startswith((".", "/", "~")):
            raise InvalidModelError(
                f"no model folder {text!r}", given=text, allowed="a folder with config.json and *.safetensors"
            )
        path = _snapshot(text, online=online)
        revision = path.name
    config = _read_config(path)
    files = _weight_files(path)
    headers = {file.name: tensor_ranges(file) for file in files}
    size = sum(end - start for header in headers.values() for start, end in header.values())
    name = text if revision else path.resolve().name
    return ModelSource(
        name=name,
        path=path,
        config=config,
        fingerprint=fingerprint(path, files),
        weight_files=files,
        weight_bytes=size,
        revision=revision,
    )


def fingerprint(path: Path, files: tuple[Path, ...]) -> str:
    """Sixteen hexadecimal digits over the configuration and, of each weight file, its size and its first and last MiB.

    Enough to tell any two trained models apart at the cost of milliseconds; a change in the middle of a file alone is not seen.
    """
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def tokenizer_hash(source: ModelSource) -> str | None:
    """Sixteen hexadecimal digits over the tokenizer's files; None where there are none."""
    files = [source.path / name for name in _TOKENIZER_FILES if (source.path / name).is_file()]
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _snapshot(repo_id: str, *, online: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(repo_id, local_files_only=not online, allow_patterns=patterns))
    except HFValidationError as error:
        raise InvalidModelError(f"{repo_id!r} is no hub id", given=repo_id, allowed="owner/name, or a folder") from error
    except LocalEntryNotFoundError as error:
        hint = "check the connection" if online else "add --online to fetch it, or give a folder"
        raise HubError(f"{repo_id} is not in the local cache", given=repo_id, hint=hint) from error
    except (HfHubHTTPError, OSError) as error:
        raise HubError(
            f"could not fetch {repo_id}: {type(error).__name__}", given=repo_id, hint="check the name and the connection"
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidModelError(f"no config.json in {path}", given=str(path), allowed="a transformers model folder") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidModelError(f"{file} is not JSON", given=str(file)) from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise InvalidModelError(
            f"{file} names no model_type", given=str(file), allowed="the configuration of a transformers model"
        )
    names = [str(name) for name in config.get("architectures") or ()]
    if config.get("is_encoder_decoder") or (names and all(name.endswith(_NOT_CAUSAL) for name in names)):
        raise InvalidModelError(
            f"{', '.join(names) or config['model_type']} is not a causal language model",
            given=str(path),
            allowed="…ForCausalLM",
        )
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "quantized")
        raise InvalidModelError(
            f"the checkpoint is already quantized ({method})",
            given=str(path),
            hint="measure from the 16-bit checkpoint it was made of",
        )
    return config


def _weight_files(path: Path) -> tuple[Path, ...]:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise InvalidModelError(f"{index} is no safetensors index", given=str(index)) from error
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise InvalidModelError(
                f"{len(missing)} of {len(names)} weight files are missing, the first is {missing[0]}",
                given=str(path),
                hint="complete the download",
            )
        return tuple(path / name for name in names)
    files = tuple(sorted(path.glob("*.safetensors")))
    if not files:
        pickles = [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")]
        if pickles:
            raise InvalidModelError(
                f"{path} has pickle weights only ({pickles[0].name}); loading a pickle can run any code",
                given=str(path),
                allowed="*.safetensors",
                hint="convert it with save_pretrained(safe_serialization=True) in a place you trust",
            )
        raise InvalidModelError(f"no weights in {path}", given=str(path), allowed="*.safetensors")
    return files


def tensor_ranges(file: Path) -> dict[str, tuple[int, int]]:
    """Byte range of each tensor of a safetensors file behind its header; see `tensor_entries`."""
    return {name: tuple(entry["data_offsets"]) for name, entry in tensor_entries(file)[0].items()}


def tensor_entries(file: Path) -> tuple[dict[str, Any], int]:
    """Header entries (dtype, shape, data_offsets) of a safetensors file that is whole, and where the data begin in it.

    Raises:
        InvalidModelError: no safetensors file, or one that is cut short.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= size - 8:
                raise ValueError("header length")
            content = json.loads(stream.read(length))
        entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InvalidModelError(f"{file} is not a safetensors file", given=str(file)) from error
    if size < 8 + length + end:
        raise InvalidModelError(
            f"{file.name} is cut short: {size} of {8 + length + end} bytes", given=str(file), hint="complete the download"
        )
    return entries, 8 + length
