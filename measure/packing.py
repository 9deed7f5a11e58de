"""Which recipes can be written as a packed checkpoint here, and how llm-compressor is told to. Light: nothing is loaded.

Names of presets and the layouts that they mean: compressed-tensors 0.19 `quantization/quant_scheme.py`.
"""

from dataclasses import dataclass, replace
from typing import Any

from knowledge.engines import number_format
from knowledge.recipes import QuantRecipe
from knowledge.schemes import UNQUANTIZED_BITS, QuantScheme, Strategy
from knowledge.weight_formats import default_format
from measure.errors import NotApplicableError

FORMAT = "compressed-tensors"
"""Checkpoint format that is written."""

METHODS = ("rtn", "gptq", "awq", "smoothquant", "smoothquant+gptq")
"""Methods of llm-compressor that make such checkpoints."""

WRITABLE = (
    "w2a16 … w8a16 (-g32, -g128, -channel; -sym, -asym)", "w8a8", "fp8", "fp8-astatic", "fp8-block", "fp8a16", "nvfp4",
    "nvfp4a16", "mxfp4", "mxfp4a16", "mxfp8", "mxfp8a16",
)  # fmt: skip
"""Schemes that are written, for messages and help."""

_PRESETS: dict[str, tuple[str, Strategy]] = {
    "w8a8": ("W8A8", "channel"), "fp8": ("FP8_DYNAMIC", "channel"), "fp8-astatic": ("FP8", "tensor"),
    "fp8-block": ("FP8_BLOCK", "block"), "nvfp4": ("NVFP4", "group"), "nvfp4a16": ("NVFP4A16", "group"),
    "mxfp4": ("MXFP4", "group"), "mxfp4a16": ("MXFP4A16", "group"), "mxfp8": ("MXFP8", "group"),
    "mxfp8a16": ("MXFP8A16", "group"),
}  # fmt: skip
"""Number format -> preset, and over what its weights share a scale."""

_NEEDS_DATA = ("FP8", "NVFP4")
"""Presets with a static scale of the activations, which even plain rounding must see data for."""

_GROUP = 128
"""Group length of the integer presets, used where a name states none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """A recipe with nothing left open, and the arguments of llm-compressor's modifiers for it."""

    recipe: QuantRecipe
    """Scheme and method as they will be written."""
    arguments: dict[str, Any]
    """`targets` with `scheme`, or `config_groups`."""
    needs_data: bool
    """Whether calibration text is read."""

    @property
    def divisor(self) -> int | None:
        """What the rows of every matrix must be a multiple of; None = any length will do."""
        weights = self.recipe.scheme.weights
        return weights.group_size if weights and weights.strategy in ("group", "block") else None


def plan_packing(recipe: QuantRecipe, *, model: str) -> Packing:
    """How to write `recipe`.

    What the name leaves open is as the presets have it: integers symmetric (asymmetric for AWQ, whose paper defines it so)
    in groups of 128, W8A8 and FP8 per output channel, static FP8 per tensor.

    Args:
        recipe: what the user asked for; its KV part is an option of the engine and plays no role.
        model: the model as the user named it, for the command in the message.

    Raises:
        NotApplicableError: llm-compressor cannot write it; the message says what can.
    """
    scheme, method = recipe.scheme.with_kv(None), recipe.method.name
    if scheme.weights is None:
        raise NotApplicableError(
            f"{recipe.scheme.name} leaves the weights as published: there is no checkpoint to write",
            given=recipe.name, allowed=WRITABLE, hint=_recipe_hint(recipe, model),
        )  # fmt: skip
    usual = default_format(scheme, method)
    preset, arguments = None, None
    if scheme.file_type is None and method in METHODS:
        scheme, preset = _state(scheme, method)
        arguments = {"targets": ["Linear"], "scheme": preset} if preset else _config_groups(scheme)
    if arguments is None:
        elsewhere = usual != FORMAT or method not in METHODS
        hint = _recipe_hint(recipe, model) if elsewhere else "`qadvisor engines` lists what each engine runs"
        raise NotApplicableError(_reason(recipe, usual), given=recipe.name, allowed=WRITABLE, hint=hint)
    if method == "awq" and preset == "FP8":
        raise NotApplicableError(
            "AWQ needs a weight scale for each channel or group, static FP8 has one a tensor",
            given=recipe.name, allowed=["fp8:awq", "fp8-astatic:gptq"],
        )  # fmt: skip
    stated = replace(recipe, scheme=scheme.with_kv(recipe.scheme.kv_cache))
    return Packing(recipe=stated, arguments=arguments, needs_data=method != "rtn" or preset in _NEEDS_DATA)


def _state(scheme: QuantScheme, method: str) -> tuple[QuantScheme, str | None]:
    """The scheme with strategy and symmetry stated, and the preset that stores just that, if one does."""
    weights = scheme.weights
    if weights is None:
        return scheme, None
    preset, strategy = _PRESETS.get(number_format(scheme), (None, None))
    if preset and weights.strategy in (None, strategy) and weights.symmetric is not False:
        weights = replace(weights, strategy=strategy, symmetric=True if weights.dtype == "int" else weights.symmetric)
        return replace(scheme, weights=weights), preset
    if weights.dtype == "int":
        symmetric = weights.symmetric if weights.symmetric is not None else method != "awq"
        weights = replace(weights, symmetric=symmetric)
        if weights.strategy is None:
            weights = replace(weights, strategy="group", group_size=_GROUP)
    elif weights.dtype == "fp" and weights.strategy is None:
        weights = replace(weights, strategy="channel")
    return replace(scheme, weights=weights), None


def _config_groups(scheme: QuantScheme) -> dict[str, Any] | None:
    """Integer or FP8 weights alone, written out; None where no container stores them."""
    weights = scheme.weights
    if weights is None or scheme.activations is not None or weights.num_bits not in range(2, 9):
        return None
    if (weights.dtype, weights.strategy) not in (("int", "group"), ("int", "channel"), ("fp", "channel")):
        return None
    if weights.dtype == "fp" and weights.num_bits != 8:
        return None
    fields = {
        "num_bits": int(weights.num_bits), "type": "int" if weights.dtype == "int" else "float",
        "symmetric": weights.symmetric is not False, "strategy": weights.strategy, "group_size": weights.group_size,
    }  # fmt: skip
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": fields}}}


def _reason(recipe: QuantRecipe, usual: str) -> str:
    scheme, name = recipe.scheme, recipe.scheme.weights_name
    if usual == "gguf":
        return f"{name} is a file of llama.cpp, which its own converter makes"
    if usual == "bitsandbytes":
        return f"{name} has no checkpoint to make beforehand: bitsandbytes quantizes while it loads"
    if scheme.file_type:
        return f"{name} is a format of {usual}, whose own tool makes it"
    if recipe.method.name not in METHODS:
        return f"llm-compressor, which writes the checkpoint, does not have {recipe.method.title}"
    if scheme.weights and scheme.weights.dtype == "int" and scheme.w_bits < 8 and scheme.a_bits < UNQUANTIZED_BITS:
        return f"{name} cannot be stored in fewer than 8 bits a weight: compressed-tensors keeps a byte a code then"
    return f"compressed-tensors has no layout for {name}"


def _recipe_hint(recipe: QuantRecipe, model: str) -> str:
    kind = (recipe.scheme.file_type or "").split(":")[0]
    engine = {"gguf": " --engine llama.cpp", "exl2": " --engine exllamav2", "exl3": " --engine exllamav3"}.get(kind, "")
    return f"the commands of its own tools: qadvisor recipe --model {model} --scheme {recipe.name}{engine}"
