"""Every way to name a model: a path, a catalogue name, a name in the local caches, a hub id.

Order, first match wins:

1. an existing path: a folder, a `config.json`, a `.gguf` file (a folder without a model does not hide a name);
2. a name of the catalogue (`knowledge.catalogue`);
3. a name in the local Hugging Face cache, then a tag in the Ollama store;
4. with `online=True`, a hub id.

A file or folder that the catalogue knows by name, and whose shape agrees, gets the catalogue's identity (canonical name,
family, tuned, training tokens), so that the evidence about that model counts for it.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from knowledge.catalogue import find_model, match_model
from knowledge.errors import HubError, InvalidModelError, UnknownNameError
from knowledge.models import ModelSpec

_IDENTITY = ("name", "family", "hf_id", "base", "tuned", "reasoning", "training_tokens_b", "aliases")
_SHAPE = ("layers", "hidden", "heads", "kv_heads", "vocab")


def resolve_model(text: str, *, online: bool = False, home: Path | None = None) -> ModelSpec:
    """The facts about the model that `text` names, in any of the ways above.

    Args:
        text: what the user wrote.
        online: whether the hub may be asked (the only use of the network).
        home: folder in which hub answers are kept; None = the program's home folder.

    Raises:
        InvalidModelError: the path, file, folder or cached model is broken or no causal language model.
        UnknownNameError: nobody knows the name; lists the nearest.
        HubError: the hub was asked and did not answer.
    """
    name = text.strip()
    path = _path(name)
    if path is not None:
        from knowledge.model_folders import read_path  # here and below: a catalogue name needs none of the readers

        return _identified(read_path(path), path)
    try:
        return find_model(name)
    except UnknownNameError as unknown:
        from knowledge.model_folders import find_cached, find_ollama

        cached = find_cached(name) or find_ollama(name)
        if cached is not None:
            return _identified(cached, None, name)
        if not online:
            raise _with_hint(unknown, name) from None
        return _from_hub(name, unknown, home)


def _path(name: str) -> Path | None:
    """The existing path that `name` is; None where it is to be looked up as a name.

    Raises:
        InvalidModelError: it can only be a path, and there is nothing.
    """
    if not name or "\0" in name:
        raise InvalidModelError("the model's name is empty", given=name, hint="give a name, a folder or a file")
    path = Path(name).expanduser()
    try:
        if path.is_file() or (path.is_dir() and (_has_model(path) or _only_path(name))):
            return path
    except OSError as error:  # too long a name, no permission
        raise InvalidModelError(f"cannot look at {name[:200]!r}: {error.strerror or error}", given=name[:200]) from error
    if _only_path(name):
        raise InvalidModelError(f"there is no {name}", given=name, hint="give an existing folder, config.json or .gguf file")
    return None


def _has_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or any(folder.glob("*.gguf"))


def _only_path(name: str) -> bool:
    """Whether `name` cannot be the name of a model."""
    starts = (".", "~", "/", "\\") if os.sep == "/" else (".", "~", "/", "\\", os.path.splitdrive(name)[0] or "\\")
    return name.startswith(starts) or name.lower().endswith((".gguf", ".json", ".safetensors", ".bin")) or name.count("/") > 1


def _identified(spec: ModelSpec, path: Path | None, *names: str) -> ModelSpec:
    """`spec` with the identity of the catalogue's model of that name, if their shapes agree."""
    for name in _names(spec, path, names):
        known = match_model(name)
        if known is not None and _agrees(spec, known):
            changes: dict[str, Any] = {field: getattr(known, field) for field in _IDENTITY}
            if not spec.params_published:
                changes |= {"params_published": known.params_published, "params_exact": known.params_exact}
            note = f"taken for {known.name} of the catalogue: name and shape agree"
            return replace(spec, **changes, notes=(*spec.notes, note))
    return spec


def _names(spec: ModelSpec, path: Path | None, names: tuple[str, ...]) -> Iterator[str]:
    """What the model may be called: by its own header, its folder, its file."""
    yield from names
    yield spec.name
    if spec.hf_id:
        yield spec.hf_id
    if path is not None:
        real = path.resolve()
        yield from (real.stem, real.name) if real.is_file() and real.suffix.lower() == ".gguf" else ()
        for folder in real.parents if real.is_file() else (real, *real.parents):
            if folder.name.startswith("models--"):
                yield folder.name.rpartition("--")[2]


def _agrees(spec: ModelSpec, known: ModelSpec) -> bool:
    """Whether nothing that both know differs, and layers and width are known to both."""
    pairs = [(getattr(spec, field), getattr(known, field)) for field in _SHAPE]
    return None not in pairs[0] + pairs[1] and all(ours is None or theirs is None or ours == theirs for ours, theirs in pairs)


def _from_hub(name: str, unknown: UnknownNameError, home: Path | None) -> ModelSpec:
    from knowledge.hub import fetch_model, is_hub_id

    if not is_hub_id(name):
        near = ["organisation/name", *(unknown.allowed or ())][:6]
        raise HubError(f"{name!r} is in no catalogue and no hub id", given=name, allowed=near) from None
    return _identified(fetch_model(name, home=home), None)


def _with_hint(unknown: UnknownNameError, name: str) -> UnknownNameError:
    if "/" in name and unknown.hint is not None:
        unknown.hint = f"--online reads {name} from the hub; {unknown.hint}"
    return unknown
