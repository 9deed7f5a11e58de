"""What the user asks for, parsed once at the border: sizes with units, tokens, limits; contradictions are refused here."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from knowledge.errors import InvalidRequestError

Objective = Literal["balanced", "quality", "speed", "memory"]

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


class AdviceRequest(BaseModel):
    """A request for advice, in bytes and tokens; `make_request` reads them from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)

    model: str = Field(min_length=1, description="catalogue name, hub id, model folder, config.json or .gguf file")
    task: str = Field(min_length=1, description="task, task type, ability, or several with weights: gsm8k:2,mmlu:1")
    memory: int | None = Field(default=None, description="bytes that the model may use; the hardware's where None")
    context: int | None = Field(default=None, description="tokens; the task type's usual length where None")
    batch: int = Field(default=1, ge=1, le=4096)
    hardware: str | None = None
    engine: str | None = None
    max_loss: float | None = Field(default=None, gt=0, le=100, description="percent of above-chance performance")
    objective: Objective = "balanced"
    top: int = Field(default=3, ge=1, le=50)
    probe: str | None = Field(default=None, description="statistics of the model's own weights, from `measure probe`")
    online: bool = False
    exclude_licences: tuple[str, ...] = ()


_OPTIONS = {"memory": "--mem", "max_loss": "--max-loss", "exclude_licences": "--exclude-licence"}


def make_request(values: Mapping[str, Any]) -> AdviceRequest:
    """The request that `values` describe.

    Raises:
        InvalidRequestError: a field is missing, unknown or out of range, or two contradict each other.
    """
    known = set(AdviceRequest.model_fields)
    if unknown := sorted(set(values) - known - {"mem"}):
        raise InvalidRequestError(f"unknown field {unknown[0]!r} in the request", given=unknown[0], allowed=sorted(known))
    fields = {("memory" if key == "mem" else key): value for key, value in values.items() if value is not None}
    # Read here rather than in validators: their errors are these, and pydantic would wrap them.
    for name, read in (("memory", parse_size), ("context", parse_tokens)):
        if name in fields:
            fields[name] = read(str(fields[name]))
    request = _validated(fields)
    if request.memory is None and request.hardware is None:
        raise InvalidRequestError(
            "the memory is not given", allowed=["--mem 16GB", "--mem 16GiB", "--hardware NAME"],
            hint="say how much memory the model may use, or on which device it runs",
        )  # fmt: skip
    return request


def _validated(fields: Mapping[str, Any]) -> AdviceRequest:
    try:
        return AdviceRequest(**fields)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
    # Raised outside of the handler: pydantic's error, which the garbage collector cannot see into, would be kept as context.
    name = str(problem["loc"][0]) if problem["loc"] else "request"
    option = _OPTIONS.get(name, f"--{name}")
    given = "nothing" if problem["type"] == "missing" else str(problem.get("input"))
    raise InvalidRequestError(f"{option}: {problem['msg'].lower()}", given=given, allowed=_allowed(name))


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


def _allowed(name: str) -> list[str] | None:
    if name == "objective":
        return ["balanced", "quality", "speed", "memory"]
    return {"batch": ["1 … 4096"], "max_loss": ["more than 0, at most 100 (percent)"], "top": ["1 … 50"]}.get(name)
