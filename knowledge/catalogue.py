"""The packaged model catalogue: reading it, and finding a model by whatever name a user gives it.

`catalog/models.jsonl` holds one model a line, sorted by family and name; a fact that was not seen is left out. A row
with a `base` is a finetune or sibling that inherits the base's shape, so it states only what differs.

How a name is understood, first match wins:

1. letter case, the organisation before the last `/`, and the separators `-`, `_`, `:` and blanks do not matter, and a
   `_` between digits is a point (`qwen2_5`): names, hub ids and aliases are compared by what is left;
2. a name with a colon is an Ollama tag, and Ollama's tags name the tuned model: `llama3.1:8b` is first looked up as
   `llama-3.1-8b-instruct` (`-chat`, `-it`), then as it stands;
3. words that name the file rather than the model are dropped from the end: `-hf`, `-gguf`, `-awq`, `-gptq-int4`,
   `-fp8`, `-q4_k_m`, `-latest`, …; the spec then carries a note that it describes the unquantized model;
4. if exactly one name begins with the text and goes on with a further word, that one.

Anything else is an `UnknownNameError` with the nearest names. A size or a version is never guessed: what `mistral-7b`
or `vicuna-7b` mean is an alias in the data.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from knowledge.errors import DataError, UnknownNameError
from knowledge.models import AttentionSpec, ExpertSpec, ModelSpec, StateSpec

CATALOGUE = Path(__file__).with_name("catalog") / "models.jsonl"
"""The packaged file."""

_PARTS = {"attention": AttentionSpec, "experts": ExpertSpec, "state": StateSpec}
_FIELDS = frozenset(field.name for field in fields(ModelSpec)) - {"stored_scheme", "stored_method", "stored_tensors"}
_OWN = frozenset({"name", "hf_id", "base", "source", "aliases", "tuned", "reasoning", "notes"})
"""Facts of a row itself; the others are inherited from its base."""
_COUNTED = frozenset({
    "architecture", "layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "embed_dim", "experts",
    "state", "tied_embeddings", "attention_bias", "qk_norm",
})  # fmt: skip
"""Facts that decide the parameter count: a row that changes one does not inherit the base's published count."""
_COUNTS = ("params_published", "params_exact", "params_outside", "params_active_published")

_DECIMAL = re.compile(r"(?<=\d)_(?=\d)")
_SEPARATORS = str.maketrans("", "", "-_: \t")

_TUNED_SUFFIXES = ("instruct", "chat", "it")
_PACKAGING = re.compile(
    r"[-_. :](hf|gguf|ggml|awq|gptq|exl2|exl3|mlx|bnb|hqq|aqlm|quantized|fp16|bf16|fp8|nvfp4|mxfp4|nf4|int8|int4|latest|dynamic"
    r"|w\da\d+|[2-8]-?bits?|i1|imatrix|(?:ud-)?i?q[1-8](?:_\w+)?|g(?:32|64|128)|marlin)$"
)


def all_models() -> tuple[ModelSpec, ...]:
    """Every model of the catalogue, sorted by family and name."""
    return tuple(_spec(name) for name in _rows())


def model_names() -> tuple[str, ...]:
    """The canonical name of every model of the catalogue, sorted by family and name."""
    return tuple(_rows())


def find_model(text: str) -> ModelSpec:
    """The catalogue's facts about the model that `text` names; the module says how names are understood.

    Raises:
        UnknownNameError: nothing, or more than one model, goes by that name; `allowed` lists the nearest.
    """
    if (found := match_model(text)) is not None:
        return found
    stem = _key(_bare_names(text)[-1])
    begins = [name for name in _rows() if stem and any(_key(name[:end]) == stem for end in _word_ends(name))]
    if len(begins) == 1:
        return _spec(begins[0])
    if begins:
        raise UnknownNameError(
            f"model name {text!r} is not complete: {len(begins)} models begin so", given=text, allowed=begins[:12],
            hint="give size and version as well",
        )  # fmt: skip
    hint = "`qadvisor models` lists all; a folder, config.json or .gguf file works for any other model"
    raise UnknownNameError.of("model", text, model_names(), hint=hint)


def match_model(text: str) -> ModelSpec | None:
    """The model that `text` names in full (rules 1 to 3); None if nobody goes by that name."""
    whole, *shorter = _bare_names(text)
    if (found := _lookup(whole)) is not None:
        return _spec(found)
    for bare in shorter:
        if (found := _lookup(bare)) is not None:
            spec = _spec(found)
            note = f"{text.strip()!r} was taken for the unquantized {spec.name}: give the folder or file for what it stores"
            return spec if f"{bare}-hf" == whole.lower() else replace(spec, notes=(*spec.notes, note))
    return None


def is_full_name(text: str) -> bool:
    """Whether `text` names a model without words of packaging (`-gptq`, `-q4_k_m`), which say that a file is quantized."""
    whole, *shorter = _bare_names(text)
    return _lookup(whole) is not None or any(_lookup(bare) and f"{bare}-hf" == whole.lower() for bare in shorter)


def _bare_names(text: str) -> list[str]:
    """`text`, and what is left of it as words of packaging are dropped from its end one by one."""
    names = [text.strip()]
    bare = names[0].lower()
    while (shorter := _PACKAGING.sub("", bare)) != bare:
        names.append(shorter)
        bare = shorter
    return names


def _word_ends(name: str) -> list[int]:
    """Where the words of `name` end, the last one left out."""
    return [place for place, sign in enumerate(name) if sign == "-"]


def _lookup(text: str) -> str | None:
    """Canonical name behind `text` by rules 1 and 2."""
    index = _index()
    if ":" in text and (tag := text.rpartition(":")[0]):
        for suffix in _TUNED_SUFFIXES:
            if (found := index.get(_key(f"{text}-{suffix}"))) is not None and tag:
                return found
    return index.get(_key(text))


def _key(text: str) -> str:
    """What is compared of a name: lower case, without the organisation and separators."""
    bare = text.strip().lower().rstrip("/").rpartition("/")[2]
    if "_" in bare:
        bare = _DECIMAL.sub(".", bare)
    return bare.translate(_SEPARATORS)


@cache
def _rows() -> Mapping[str, Mapping[str, Any]]:
    """Raw rows of the catalogue by canonical name."""
    text = CATALOGUE.read_text(encoding="utf-8")
    return {row["name"]: row for row in json.loads(f"[{','.join(text.splitlines())}]")}  # one call: half the time


@cache
def _index() -> Mapping[str, str]:
    """Canonical name by the key of every name, hub id and alias."""
    index: dict[str, str] = {}
    for key, name in _keys():
        index.setdefault(key, name)
    return index


def _keys() -> Iterator[tuple[str, str]]:
    """Every key with the name it leads to; canonical names come first, so that no alias hides one."""
    rows = _rows()
    yield from ((_key(name), name) for name in rows)
    for name, row in rows.items():
        yield from ((_key(alias), name) for alias in (*row.get("aliases", ()), row.get("hf_id")) if alias)


@cache
def _spec(name: str) -> ModelSpec:
    """The row of canonical name `name` with what it inherits."""
    values = dict(_facts(name, ()))
    for part, kind in _PARTS.items():
        if part in values:
            values[part] = kind(**values[part])
    for part in ("aliases", "notes"):
        values[part] = tuple(values.get(part, ()))
    return ModelSpec(**values)


def _facts(name: str, above: tuple[str, ...]) -> Mapping[str, Any]:
    """The facts of a row and, below them, of its base."""
    row = _rows().get(name)
    if row is None or name in above or not row.keys() <= _FIELDS:
        raise DataError(f"catalogue row {name!r} is wrong: unknown base, a circle of bases, or an unknown fact", given=name)
    if not (base := row.get("base")):
        return row
    below = _facts(base, (*above, name))
    changed = _COUNTED & row.keys()
    inherited = {key: value for key, value in below.items() if key not in _OWN and not (changed and key in _COUNTS)}
    return {**inherited, **row, "source": f"{row['source']}; shape of {base}: {below['source']}"}
