"""What the user asks for, parsed once at the border: sizes with units, tokens, limits; contradictions are refused here."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from advisor.request_fields import OneOf, Reader, Share, Whole, filled_text, switch, text, texts
from knowledge.errors import InvalidRequestError
from knowledge.values import field_names, value

Objective = Literal["balanced", "quality", "speed", "memory"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)

DEFAULT_CONTEXT: dict[str, int] = {
    "language-modeling": 2048,
    "basic-nlp": 2048,
    "emergent": 4096,
    "trustworthiness": 2048,
    "dialogue": 4096,
    "code": 8192,
    "long-context": 32768,
}
"""Tokens of context assumed for a task type when the user names none; the answer prints what was assumed."""

DEFAULT_MAX_LOSS_PERCENT = 5.0
"""Tolerated loss of objectives `memory` and `speed`, which have no floor of their own, when the user names none."""

_SIZE_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"^\s*(?P<number>[+-]?(?:\d+(?:[._]\d+)*|\.\d+))\s*(?P<unit>[KMGT]I?B?|B)?\s*$", re.IGNORECASE)
_TOKENS = re.compile(r"^\s*(?P<number>[+-]?\d+(?:\.\d+)?)\s*(?P<unit>[KM]?)\s*$", re.IGNORECASE)
_LARGEST_MEMORY = 10**16
_LARGEST_CONTEXT = 2**30


def parse_size(text: str) -> int:
    """Bytes of a size with its unit: `16GB` is 16e9, `16GiB` is 16·2^30.

    Raises:
        InvalidRequestError: no unit, no number, or nothing that a memory could have.
    """
    found = _SIZE.match(text)
    if not found:
        raise InvalidRequestError(f"cannot read the size {text!r}", given=text, allowed=["16GB", "16GiB", "24576MiB"])
    number, unit = float(found["number"].replace("_", "")), (found["unit"] or "").upper()
    if len(unit) < 2:
        bare = found["number"]
        raise InvalidRequestError(
            f"the size {text!r} has no unit", given=text, allowed=[f"{bare}GB", f"{bare}GiB"],
            hint=f"{bare}GB is {bare}e9 bytes, {bare}GiB is {bare} x 2^30 bytes",
        )  # fmt: skip
    size = int(number * _SIZE_UNITS[unit])
    if not 0 < size <= _LARGEST_MEMORY:
        raise InvalidRequestError(f"{text} is no memory budget", given=text, allowed="more than 0, at most 10000TB")
    return size


def parse_tokens(text: str) -> int:
    """Tokens: `32768`, or `32k` for 32 x 1024.

    Raises:
        InvalidRequestError: not a positive number of tokens.
    """
    found = _TOKENS.match(text)
    scale = {"": 1, "K": 1024, "M": 1024**2}
    count = float(found["number"]) * scale[found["unit"].upper()] if found else 0.0
    if not found or count != int(count) or not 1 <= count <= _LARGEST_CONTEXT:
        raise InvalidRequestError(f"{text!r} is no context length", given=text, allowed=["32768", "32k"])
    return int(count)


@value
class AdviceRequest:
    """A request for advice, in bytes and tokens; `make_request` reads it from text and checks it."""

    model: str
    """Catalogue name, hub id, model folder, config.json or .gguf file."""
    task: str
    """Task, task type, ability, or several with weights: `gsm8k:2,mmlu:1`."""
    memory: int | None = None
    """Bytes that the model may use; the hardware's where None."""
    context: int | None = None
    """Tokens; the task type's usual length where None."""
    batch: int = 1
    """Sequences at once."""
    hardware: str | None = None
    engine: str | None = None
    max_loss: float | None = None
    """Percent of above-chance performance that the upper bound of the loss may reach."""
    objective: Objective = "balanced"
    top: int = 3
    """How many recipes to show."""
    probe: str | None = None
    """Statistics of the model's own weights, from `measure probe`."""
    online: bool = False
    exclude_licences: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The fields as the JSON contract has them."""
        return {name: getattr(self, name) for name in field_names(self)} | {"exclude_licences": list(self.exclude_licences)}


_READERS: dict[str, Reader] = {
    "model": filled_text,
    "task": filled_text,
    "memory": lambda value: parse_size(str(value)),
    "context": lambda value: parse_tokens(str(value)),
    "batch": Whole(1, 4096),
    "hardware": text,
    "engine": text,
    "max_loss": Share(100),
    "objective": OneOf(OBJECTIVES),
    "top": Whole(1, 50),
    "probe": text,
    "online": switch,
    "exclude_licences": texts,
}
_SIZES = ("memory", "context")
_REQUIRED = ("model", "task")
_OPTIONS = {"memory": "--mem", "max_loss": "--max-loss", "exclude_licences": "--exclude-licence"}
_ALLOWED = {
    "objective": list(OBJECTIVES),
    "batch": ["1 … 4096"],
    "max_loss": ["more than 0, at most 100 (percent)"],
    "top": ["1 … 50"],
}


def make_request(values: Mapping[str, Any]) -> AdviceRequest:
    """The request that `values` describe.

    Raises:
        InvalidRequestError: a field is missing, unknown or out of range, or two contradict each other.
    """
    if unknown := sorted(values.keys() - _READERS.keys() - {"mem"}):
        raise InvalidRequestError(f"unknown field {unknown[0]!r} in the request", given=unknown[0], allowed=sorted(_READERS))
    given = {("memory" if key == "mem" else key): value for key, value in values.items() if value is not None}
    # Of several mistakes always the same one is told: sizes first, then the fields in their order.
    order = sorted(_READERS, key=lambda name: name not in _SIZES)
    request = AdviceRequest(**{name: _read(name, given.get(name)) for name in order if name in given or name in _REQUIRED})
    if request.memory is None and request.hardware is None:
        raise InvalidRequestError(
            "the memory is not given", allowed=["--mem 16GB", "--mem 16GiB", "--hardware NAME"],
            hint="say how much memory the model may use, or on which device it runs",
        )  # fmt: skip
    return request


def _read(name: str, value: Any) -> Any:
    option = _OPTIONS.get(name, f"--{name}")
    if value is None:
        raise InvalidRequestError(f"{option}: field required", given="nothing", allowed=_ALLOWED.get(name))
    try:
        return _READERS[name](value)
    except InvalidRequestError:
        raise
    except ValueError as error:
        raise InvalidRequestError(f"{option}: {error}", given=str(value), allowed=_ALLOWED.get(name)) from None


def load_requests(path: Path) -> list[AdviceRequest]:
    """The requests declared in a YAML file: one mapping, or a list of them.

    Raises:
        InvalidRequestError: the file cannot be read, is not YAML, or holds something else.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidRequestError(
            f"cannot read the request file {path}: {error}", given=str(path), allowed="a YAML file"
        ) from error
    entries = content if isinstance(content, list) else [content]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidRequestError(
            f"{path} holds no request", given=str(path), allowed="a mapping with model, task, mem …, or a list of such mappings"
        )
    return [make_request(entry) for entry in entries]
