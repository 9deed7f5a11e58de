"""What the folder of a quantized checkpoint says beyond its configuration: its method, and the model that it was made from.

Three files are read, where they are there: `qadvisor.json` of `qadvisor apply`; `recipe.yaml` of llm-compressor, whose
modifiers are the methods; and the head of the model card `README.md`, where the hub's `base_model` stands.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge.documents import load_document, text_of
from knowledge.errors import DataError

ORIGIN_FILE = "qadvisor.json"
"""File in which `qadvisor apply` says what it made, and of what."""
_MAX_BYTES = 1 << 20
_MODIFIERS = {
    frozenset({"GPTQModifier"}): "gptq",
    frozenset({"AWQModifier"}): "awq",
    frozenset({"QuantizationModifier"}): "rtn",
    frozenset({"SmoothQuantModifier"}): "smoothquant",
    frozenset({"SmoothQuantModifier", "GPTQModifier"}): "smoothquant+gptq",
    frozenset({"AWQModifier", "GPTQModifier"}): "awq+gptq",
    frozenset({"AutoRoundModifier"}): "autoround",
}
"""Modifiers of llm-compressor that decide the values -> method; `QuantizationModifier` beside another only applies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a checkpoint comes from; None where its folder does not say."""

    base: str | None = None
    """Name or hub id of the model that was quantized."""
    method: str | None = None


def read_origin(folder: Path) -> Origin:
    """What the files beside a checkpoint's weights say."""
    stated = _statement(folder / ORIGIN_FILE)
    return Origin(
        base=text_of(stated.get("base_model")) or _card_base(folder / "README.md"),
        method=text_of(stated.get("method")) or _modifier_method(folder / "recipe.yaml"),
    )


def _statement(path: Path) -> dict[str, Any]:
    try:
        return load_document(path, limit=_MAX_BYTES) if path.is_file() else {}
    except DataError:
        return {}


def _card_base(path: Path) -> str | None:
    """`base_model` in the head of a model card: a name, or a list with one."""
    text = _text(path)
    if not text.startswith("---"):
        return None
    head = _yaml(text[3:].partition("\n---")[0])
    base = head.get("base_model") if isinstance(head, dict) else None
    if isinstance(base, list) and len(base) == 1:
        base = base[0]
    return text_of(base)


def _modifier_method(path: Path) -> str | None:
    names = {name for name in _keys(_yaml(_text(path))) if name.endswith("Modifier")}
    return _MODIFIERS.get(frozenset(names)) or _MODIFIERS.get(frozenset(names - {"QuantizationModifier"}))


def _keys(value: Any, depth: int = 0) -> Iterator[str]:
    """Names in nested YAML, not deeper than a recipe goes."""
    if isinstance(value, dict) and depth < 8:
        for name, inner in value.items():
            yield str(name)
            yield from _keys(inner, depth + 1)
    elif isinstance(value, list) and depth < 8:
        for inner in value:
            yield from _keys(inner, depth + 1)


def _text(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size <= _MAX_BYTES:
            return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    return ""


def _yaml(text: str) -> Any:
    import yaml

    if "&" in text and "*" in text:  # anchors may multiply a small file into a huge value; neither file needs them
        return None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
