"""GPTQ, AWQ and SmoothQuant through llm-compressor's `oneshot`, on a copy of the model.

The copy carries compressed-tensors' own fake quantization, of weights and of activations, and is what gets scored.
"""

import copy
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

os.environ.setdefault("LLM_COMPRESSOR_LOG_LEVEL", "ERROR")  # read at import; its log lines go to stdout

import compressed_tensors.quantization.lifecycle.forward as lifecycle
from llmcompressor.core import reset_session
from llmcompressor.entrypoints.oneshot import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQMapping, AWQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from llmcompressor.pipelines.cache import IntermediatesCache

from knowledge.measurements import CalibrationFacts
from knowledge.recipes import QuantRecipe
from knowledge.schemes import QuantArgs, QuantScheme
from measure.bits import dividing_group, stored_bits
from measure.calibration import calibration_ids
from measure.errors import NotApplicableError
from measure.presets import Protocol
from measure.quantizers import Applied, TensorChange
from measure.quantizers.apply import compare
from measure.quantizers.mappings import mappings_for
from measure.quantizers.targets import weight_targets

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_SMOOTHING_STRENGTH = 0.5
"""Share of the range that moves from activations to weights (arXiv 2211.10438, equation 4)."""

_IGNORED = ("re:.*gate$", "re:.*router$", "re:.*dt_proj$")

_EXPERT = re.compile(r"^(?P<stem>.*experts)\.\d+\.(?P<leaf>gate_proj|up_proj|down_proj|w1|w2|w3)$")
_FUSED = {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "w1": "gate_up_proj", "w3": "gate_up_proj"}


def quantize(loaded: "LoadedModel", recipe: QuantRecipe, protocol: Protocol) -> Applied:
    """Calibrate and quantize a copy of the model.

    Raises:
        NotApplicableError: a format that the method does not make.
        TaskDataError: the calibration text is too short.
    """
    weights = recipe.scheme.weights
    if (
        weights is None
        or weights.dtype != "int"
        or weights.num_bits not in (2, 3, 4, 8)
        or weights.strategy not in ("group", "channel")
    ):
        raise NotApplicableError(
            f"{recipe.method.title} makes integers of 2, 3, 4 or 8 bits in groups or channels",
            given=recipe.name,
            allowed=["w4a16-g128:gptq", "w4a16-g128:awq", "w8a8:smoothquant"],
        )
    groups = _config_groups(loaded, recipe.scheme, weights)
    copied, calibration = run_oneshot(loaded, _modifiers(loaded, recipe.method.name, groups))
    applied = Applied(model=copied, library="llmcompressor", calibration=calibration)
    applied.changes, unquantized = _changes(loaded, copied, weights, smoothed=recipe.method.name != "gptq")
    applied.left_out |= dict.fromkeys(unquantized, "llm-compressor attached no scheme to it")
    applied.conventions["weights"] = (
        "compressed-tensors: symmetric step amax / ((2^b - 1) / 2)"
        if weights.symmetric
        else "compressed-tensors: range contains 0"
    )
    if recipe.method.name != "gptq":
        applied.conventions["weight_error"] = "against the smoothed weights"
    if recipe.scheme.activations is not None:
        applied.conventions["activations"] = "compressed-tensors: integer, symmetric, per token, dynamic"
    return applied


def _modifiers(loaded: "LoadedModel", method: str, groups: dict[str, Any]) -> list[Any]:
    ignore = [_head_name(loaded), *_IGNORED]
    if method == "gptq":
        return [GPTQModifier(config_groups=groups, ignore=ignore)]
    return [smoother(loaded, method), QuantizationModifier(config_groups=groups, ignore=ignore)]


def smoother(loaded: "LoadedModel", method: str) -> Any:
    """The modifier that rescales norms against the layers they feed, with our mappings where the library's are wrong."""
    mappings = mappings_for(str(loaded.model.config.model_type))
    options: dict[str, Any] = {}
    if method == "awq":
        if mappings:
            options["mappings"] = [AWQMapping(norm, list(layers)) for norm, layers in mappings]
        return AWQModifier(**options)
    if mappings:
        options["mappings"] = [[list(layers), norm] for norm, layers in mappings]
    return SmoothQuantModifier(smoothing_strength=_SMOOTHING_STRENGTH, **options)


def run_oneshot(
    loaded: "LoadedModel", modifiers: list[Any], *, calibrated: bool = True, in_place: bool = False
) -> tuple[Any, CalibrationFacts | None]:
    """The model after llm-compressor's one run, and the calibration's facts.

    Args:
        loaded: model, tokenizer, settings of the calibration.
        modifiers: llm-compressor's modifiers, in their order.
        calibrated: whether they see text; None stands for the facts where they do not.
        in_place: change the model itself, where there is no memory for a copy.
    """
    data, facts = _calibration_data(loaded) if calibrated else ({}, None)
    model = loaded.model if in_place else copy.deepcopy(loaded.model)
    if not torch.accelerator.is_available():  # AWQ pins host memory, which needs an accelerator
        setattr(IntermediatesCache, "pin_memory", lambda self, *args, **kwargs: None)  # noqa: B010 - a method, by intent
    with quiet(), tempfile.TemporaryDirectory() as folder:
        if not Path(model.config.name_or_path or "-").is_dir():  # it reads the configuration again from where it lies
            model.config.save_pretrained(folder)
            model.config.name_or_path = folder
        reset_session()
        trust = loaded.settings.trust_remote_code
        model = oneshot(model=model, recipe=modifiers, processor=loaded.tokenizer, trust_remote_code_model=trust, **data)
        reset_session()
    return model.eval().requires_grad_(requires_grad=False), facts


def _calibration_data(loaded: "LoadedModel") -> tuple[dict[str, Any], CalibrationFacts]:
    """The calibration windows as arguments of `oneshot`."""
    from datasets import Dataset

    ids, facts = calibration_ids(loaded)
    rows = ids.tolist()
    data = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
    return {"dataset": data, "num_calibration_samples": facts.samples, "max_seq_length": facts.tokens_per_sample}, facts


def _config_groups(loaded: "LoadedModel", scheme: QuantScheme, weights: QuantArgs) -> dict[str, Any]:
    """One config group for each group size, since a size that does not divide a row is refused by the library."""
    by_size: dict[int | None, list[str]] = {}
    for target in weight_targets(loaded.model):
        columns = target.matrix().shape[-1]
        size = dividing_group(columns, weights.group_size or columns) if weights.strategy == "group" else None
        by_size.setdefault(size, []).append(target.name.removesuffix(".weight"))
    return {
        f"group_{number}": {
            "targets": ["Linear"] if len(by_size) == 1 else [_pattern(name) for name in names],
            "weights": {
                "num_bits": int(weights.num_bits), "type": "int", "symmetric": bool(weights.symmetric),
                "strategy": weights.strategy, "group_size": size,
            },
            "input_activations": _activation_args(scheme.activations),
        }
        for number, (size, names) in enumerate(sorted(by_size.items(), key=lambda item: item[0] or 0))
    }  # fmt: skip


def _pattern(name: str) -> str:
    """A regular expression over module names; a stack of experts becomes one linear layer an expert and projection."""
    stem, _, leaf = name.rpartition(".")
    if stem.endswith("experts"):
        leaves = "|".join(source for source, fused in _FUSED.items() if fused == leaf) or "down_proj|w2"
        return rf"re:^{re.escape(stem)}\.\d+\.({leaves})$"
    return f"re:^{re.escape(name)}$"


def _activation_args(activations: QuantArgs | None) -> dict[str, Any] | None:
    if activations is None:
        return None
    if activations.dtype != "int" or activations.strategy != "token":
        raise NotApplicableError(
            "llm-compressor is run here with integer activations per token", given=activations.dtype, allowed=["w8a8", "w4a8"]
        )
    return {"num_bits": int(activations.num_bits), "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}


def _changes(loaded: "LoadedModel", copied: Any, weights: QuantArgs, *, smoothed: bool) -> tuple[list[TensorChange], list[str]]:
    """One change for each target of the original model; experts that were split are put together again."""
    parts: dict[str, list[TensorChange]] = {}
    for name, module in copied.named_modules():
        scheme: Any = getattr(module, "quantization_scheme", None)
        if scheme is None or scheme.weights is None:
            continue
        target, before = _origin(loaded, name, module, smoothed=smoothed)
        size = scheme.weights.group_size or module.weight.shape[-1]
        bits = stored_bits(weights, module.weight.shape[0], module.weight.shape[-1], size)
        wanted = weights.group_size if weights.strategy == "group" else size
        exception = None if size == wanted else f"rows of {module.weight.shape[-1]}: groups of {size} instead of {wanted}"
        part = compare(target, before, effective_weight(module), bits=bits, group=size, exception=exception)
        parts.setdefault(target, []).append(part)
    changes = [_sum(found) for found in parts.values()]
    return changes, [target.name for target in weight_targets(loaded.model) if target.name not in parts]


def _origin(loaded: "LoadedModel", name: str, module: nn.Module, *, smoothed: bool) -> tuple[str, Tensor]:
    """Name of the target that a module of the copy came from, and the weights that its quantized ones are compared with."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    expert = _EXPERT.match(name)
    if expert is None:
        return f"{name}.weight", weight if smoothed else loaded.model.get_submodule(name).weight
    # the library splits experts without keeping which rows came from where; its own weights stand for the originals
    return f"{expert['stem']}.{_FUSED.get(expert['leaf'], 'down_proj')}", _expert_rows(loaded, name, weight, smoothed=smoothed)


def _expert_rows(loaded: "LoadedModel", name: str, weight: Tensor, *, smoothed: bool) -> Tensor:
    if smoothed:
        return weight
    stem, number, leaf = name.rsplit(".", 2)
    fused: Tensor = getattr(loaded.model.get_submodule(stem), _FUSED.get(leaf, "down_proj"))[int(number)]
    if leaf in ("gate_proj", "w1"):
        return fused[: weight.shape[0]]
    return fused[-weight.shape[0] :]


def effective_weight(module: nn.Module) -> Tensor:
    """The weights as the module's forward uses them: rounded with its scales and zero points."""
    arguments: Any = module
    return lifecycle.fake_quantize(
        arguments.weight,
        arguments.weight_scale,
        getattr(arguments, "weight_zero_point", None),
        arguments.quantization_scheme.weights,
    )


def _sum(parts: list[TensorChange]) -> TensorChange:
    first = parts[0]
    return TensorChange(
        name=first.name,
        elements=sum(part.elements for part in parts),
        bits=sum(part.bits for part in parts),
        group=first.group,
        squared_error=sum(part.squared_error for part in parts),
        squared_norm=sum(part.squared_norm for part in parts),
        constant=all(part.constant for part in parts),
        exception=first.exception,
    )


def _head_name(loaded: "LoadedModel") -> str:
    head = loaded.model.get_output_embeddings()
    return next((name for name, module in loaded.model.named_modules() if module is head), "lm_head")


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of the library's talk and bars between our lines; errors are raised as ever."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
