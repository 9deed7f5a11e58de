"""Protocols (the conventions that a scheme name leaves open), named lists of recipes, and the fully stated recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from knowledge.errors import InvalidRequestError, UnknownNameError
from knowledge.recipes import QuantRecipe, parse_recipe
from knowledge.schemes import QuantArgs


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How rounding is done where a scheme name does not say."""

    name: str
    title: str
    source: str
    group_size: int = 128
    """Weights that share a scale, where the recipe states neither group nor channel."""
    integer_activations_per_channel: bool = True
    """W8A8 and the like quantize weights per output channel, as integer kernels need, unless the recipe says otherwise."""
    activation_symmetric: bool = True
    kv_group: int | None = None
    """Elements along the head dimension that share a scale; None = the whole head of one token."""
    kv_residual: int = 128
    """Newest tokens that per-channel keys leave unquantized, the block length (KIVI, arXiv 2402.02750, section 3.2)."""
    range_includes_zero: bool = True
    """Whether an asymmetric range is widened to contain 0, so that 0 stays exact (compressed-tensors does)."""
    scale_floor: float = 1e-10
    """Smallest step."""
    indivisible: Literal["divisor", "leave"] = "divisor"
    """Rows that the group does not divide: the largest dividing group below it, or left at 16 bits."""
    quantize_router: bool = False
    """Whether the gate of a mixture of experts is quantized too."""


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="default",
            title="what engines do: zero is exact, a dividing group is chosen, routers stay",
            source="compressed-tensors 0.19 (quantization/utils); symmetric steps amax / (2^(b-1) - 1)",
        ),
        Protocol(
            name="li2024",
            title="the study's fake quantizer, its quirks included",
            source="arXiv 2402.18158, code thu-nics/qllm-eval at 6d047af",
            integer_activations_per_channel=False,
            activation_symmetric=False,
            kv_group=128,
            range_includes_zero=False,
            scale_floor=1e-5,
            indivisible="leave",
            quantize_router=True,
        ),
    )
}

RECIPE_LISTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "li2024": (
        "li2024",
        (
            *(f"w{w}a{a}-g128-asym" for w, a in ((8, 16), (4, 16), (3, 16), (2, 16), (8, 8), (4, 8), (4, 4))),
            *(f"kv{bits}" for bits in (8, 4, 3, 2)),
        ),
    ),
    "broad": (
        "default",
        (
            *(f"w{bits}a16-g128" for bits in (8, 6, 5, 4, 3)),
            "w2a16-g64",
            "w4a16-g32",
            "w4a16-channel-sym",
            "w3a16-g64-sym",
            "nf4",
            "fp4",
            "fp8a16",
            "mxfp4a16",
            "nvfp4a16",
            "mxint8a16",
            "w4a16-g64:hqq",
            "w3a16-g64:hqq",
            "w8a16:quanto",
            "w4a16:quanto",
            "w4a16-g128:gptq",
            "w3a16-g128:gptq",
            "w4a16-g128:awq",
            "w3a16-g128:awq",
            "w3a16-g16:spqr",
            "w8a8",
            "w4a8-g128",
            "w4a4-g128",
            "fp8",
            "mxfp4",
            "nvfp4",
            "w8a8:smoothquant",
            "w8a8:llm.int8",
            "kv8",
            "kv4",
            "kv3",
            "kv2",
            "kvfp8",
            "kivi4",
            "kivi2",
            "w4a16-g128-kv4",
            "w8a8-kv8",
            "w4a16-g128-kv8:gptq",
        ),
    ),
    "quick": ("default", ("w8a16-g128", "w4a16-g128", "w3a16-g128", "w2a16-g128", "nf4", "w8a8", "kv8", "kv4", "kv2")),
}
"""Name -> (protocol, recipes); the baseline is always added."""

_MX_BLOCK = 32
"""Elements that share a scale (OCP Microscaling Formats v1.0, section 5.1)."""

_METHOD_DEFAULTS: dict[str, tuple[str, int | None, bool]] = {
    "smoothquant": ("channel", None, True),
    "llm.int8": ("channel", None, True),
}
"""Method -> weight strategy, group, symmetry that its library implements, where the recipe does not state them."""


def find_protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError.of("protocol", name, list(PROTOCOLS))
    return PROTOCOLS[name]


def state_recipe(recipe: QuantRecipe, protocol: Protocol) -> QuantRecipe:
    """The recipe with group, symmetry and granularity stated as they will be run, so that the record leaves nothing open."""
    weights, activations = recipe.scheme.weights, recipe.scheme.activations
    if recipe.scheme.file_type:
        raise InvalidRequestError(
            f"{recipe.scheme.file_type} files are made by their own tools and cannot be measured here",
            given=recipe.name,
            allowed="w4a16-g128, nf4, fp8, mxfp4, w8a8, kv4, …",
            hint="measure the nearest integer scheme, or bring results of the engine in with `qadvisor refresh`",
        )
    if weights is not None and weights.dtype == "int":
        weights = _state_integers(weights, recipe, protocol)
    elif weights is not None and weights.dtype == "fp" and weights.strategy is None:
        weights = replace(weights, strategy="channel")
    elif weights is not None and weights.dtype == "mxint" and weights.strategy is None:
        weights = replace(weights, strategy="group", group_size=_MX_BLOCK)
    return replace(recipe, scheme=replace(recipe.scheme, weights=weights, activations=activations))


def _state_integers(weights: QuantArgs, recipe: QuantRecipe, protocol: Protocol) -> QuantArgs:
    default = _METHOD_DEFAULTS.get(recipe.method.name)
    per_channel = recipe.scheme.activations is not None and weights.num_bits == 8 and protocol.integer_activations_per_channel
    if default is None and per_channel:
        default = ("channel", None, True)
    if default is None and recipe.method.name == "quanto":
        default = ("channel", None, True) if weights.num_bits == 8 else ("group", protocol.group_size, False)
    strategy, group, symmetric = default or ("group", protocol.group_size, False)
    if weights.strategy is None:
        weights = replace(weights, strategy=strategy, group_size=group)  # type: ignore[arg-type]
    return weights if weights.symmetric is not None else replace(weights, symmetric=symmetric)


def expand_recipes(texts: Sequence[str], *, protocol: str = "default") -> list[tuple[QuantRecipe, Protocol]]:
    """The recipes that `texts` name, the baseline first, each once.

    Args:
        texts: recipe names, names of `RECIPE_LISTS`, or `@FILE` with one recipe a line (`#` starts a comment).
        protocol: conventions of the recipes that come from no list of their own.

    Raises:
        InvalidRequestError: a file that cannot be read, or a recipe that cannot be run here.
        InvalidSchemeError: a scheme that does not parse.
        UnknownNameError: an unknown method or protocol.
    """
    found: dict[tuple[str, str], tuple[QuantRecipe, Protocol]] = {}
    baseline = parse_recipe("none")
    found["none", "default"] = (baseline, PROTOCOLS["default"])
    for text, chosen in _recipe_names(texts, find_protocol(protocol)):
        recipe = parse_recipe(text)
        if recipe.method.name == "none":
            continue
        recipe = state_recipe(recipe, chosen)
        found.setdefault((recipe.name, chosen.name), (recipe, chosen))
    return list(found.values())


def _recipe_names(texts: Sequence[str], protocol: Protocol) -> list[tuple[str, Protocol]]:
    names: list[tuple[str, Protocol]] = []
    for text in texts:
        if text in RECIPE_LISTS:
            list_protocol, members = RECIPE_LISTS[text]
            names += [(member, find_protocol(list_protocol)) for member in members]
        elif text.startswith("@"):
            names += [(line, protocol) for line in _lines(Path(text[1:]))]
        else:
            names.append((text, protocol))
    return names


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"cannot read the recipe file {path}", given=f"@{path}", hint="one recipe a line") from error
    return [line for line in lines if line]
