"""llm-compressor recipes: one `oneshot` script for every scheme that compressed-tensors stores.

The calls are those of llm-compressor 0.14.0.1: its `examples/`, and for integer groups the form of `QuantizationArgs`.
"""

from advisor.recipe_step import Step, Steps, folder_for
from knowledge.engines import number_format
from knowledge.recipes import QuantRecipe
from knowledge.schemes import QuantArgs, QuantScheme

_SOURCE = "vllm-project/llm-compressor@009e5b9:examples/quantization_w4a16/llama3_example.py"
_SAMPLES, _LENGTH = 512, 2048

_PRESETS = {
    "w8a8": "W8A8", "fp8": "FP8_DYNAMIC", "fp8-astatic": "FP8", "fp8-block": "FP8_BLOCK", "nvfp4": "NVFP4",
    "nvfp4a16": "NVFP4A16", "mxfp4": "MXFP4", "mxfp4a16": "MXFP4A16", "mxfp8": "MXFP8",
}  # fmt: skip
_PRESET_GROUP = 128
"""Weights that share a scale in the presets W4A16 and W4A8."""
_NEEDS_DATA = {"FP8", "NVFP4"}
"""Presets with a static activation scale, which even plain rounding must see data for."""

_IGNORED = '["lm_head", "re:.*gate$"]'
"""What stays at 16 bits: the head, and the router of a mixture of experts."""

_IMPORTS = {
    "QuantizationModifier": "llmcompressor.modifiers.quantization",
    "GPTQModifier": "llmcompressor.modifiers.gptq",
    "AWQModifier": "llmcompressor.modifiers.transform.awq",
    "SmoothQuantModifier": "llmcompressor.modifiers.transform.smoothquant",
}
_MODIFIERS: dict[str, tuple[str, ...]] = {
    "rtn": ("QuantizationModifier({how})",),
    "gptq": ("GPTQModifier({how})",),
    "awq": ("AWQModifier()", "QuantizationModifier({how})"),
    "smoothquant": ("SmoothQuantModifier(smoothing_strength=0.5)", "QuantizationModifier({how})"),
    "smoothquant+gptq": ("SmoothQuantModifier(smoothing_strength=0.8)", "GPTQModifier({how})"),
}


def compressor_steps(recipe: QuantRecipe, model: str, format: str) -> Steps:
    """The script that quantizes `model` with llm-compressor; empty where the combination has no known call."""
    templates, how = _MODIFIERS.get(recipe.method.name), _scheme_argument(recipe.scheme)
    if templates is None or how is None:
        return ()
    how = f"{how}, ignore={_IGNORED}"
    modifiers = [template.format(how=how) for template in templates]
    target = folder_for(model, recipe)
    preset = _preset(recipe.scheme)
    calibrated = recipe.method.calibration != "none" or preset in _NEEDS_DATA
    data = f', dataset="perfectblend", max_seq_length={_LENGTH}, num_calibration_samples={_SAMPLES}' if calibrated else ""
    names = sorted({modifier.split("(")[0] for modifier in modifiers})
    lines = [
        "from llmcompressor import oneshot",
        *(f"from {_IMPORTS[name]} import {name}" for name in names),
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("{model}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{model}")',
        f"recipe = [{', '.join(modifiers)}]",
        f"oneshot(model=model, recipe=recipe, processor=tokenizer{data})",
        f'model.save_pretrained("{target}", save_compressed=True)',
        f'tokenizer.save_pretrained("{target}")',
    ]
    return (Step(title="quantize and save", command="\n".join(lines), language="python", source=_SOURCE, output=target),)


def _preset(scheme: QuantScheme) -> str | None:
    """The preset that stores just this: by channel, by tensor, or by the block that the format fixes."""
    grouped = scheme.weights is not None and scheme.weights.dtype in ("int", "fp") and scheme.weights.strategy == "group"
    return None if grouped else _PRESETS.get(number_format(scheme))


def _scheme_argument(scheme: QuantScheme) -> str | None:
    """The modifier's argument: a preset's name, or the group written out where integers need more than a preset."""
    if preset := _preset(scheme):
        return f'targets=["Linear"], scheme="{preset}"'
    weights, activations = scheme.weights, scheme.activations
    if weights is None or weights.dtype != "int" or weights.strategy not in ("group", "channel", None):
        return None
    group: dict[str, object] = {"targets": ["Linear"], "weights": _weights(weights)}
    if activations is not None:
        if activations.dtype != "int" or activations.strategy != "token":
            return None
        group["input_activations"] = {
            "num_bits": int(activations.num_bits), "type": "int", "symmetric": True, "strategy": "token", "dynamic": True,
        }  # fmt: skip
    return f"config_groups={ {'group_0': group} }"


def _weights(weights: QuantArgs) -> dict[str, object]:
    """Weights as llm-compressor states them; what a name leaves open is as in its presets W8A16 and W4A16."""
    strategy = weights.strategy or ("channel" if weights.num_bits >= 8 else "group")
    fields: dict[str, object] = {
        "num_bits": int(weights.num_bits), "type": "int", "symmetric": weights.symmetric is not False, "strategy": strategy,
    }  # fmt: skip
    return fields | ({"group_size": weights.group_size or _PRESET_GROUP} if strategy == "group" else {})
