"""LLM.int8() (arXiv 2208.07339) through bitsandbytes: int8 products of rows and tokens, outlier columns in 16 bits."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import bitsandbytes
import torch
from torch import Tensor, nn

from knowledge.recipes import QuantRecipe
from measure.bits import stored_bits
from measure.errors import NotApplicableError
from measure.presets import Protocol
from measure.quantizers import Applied
from measure.quantizers.apply import compare
from measure.quantizers.targets import weight_targets

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_THRESHOLD = 6.0
"""Magnitude from which an input column counts as an outlier (the paper's alpha, section 3.2)."""


def quantize(loaded: "LoadedModel", recipe: QuantRecipe, protocol: Protocol) -> Applied:
    """Put bitsandbytes' layer in the place of every linear target; fused experts stay, and are recorded as left out.

    Raises:
        NotApplicableError: any scheme but 8-bit weights per channel with 8-bit activations.
    """
    scheme = recipe.scheme
    weights = scheme.weights
    if weights is None or weights.num_bits != 8 or weights.strategy != "channel" or not weights.symmetric or scheme.a_bits != 8:
        raise NotApplicableError("LLM.int8() has one scheme", given=recipe.name, allowed="w8a8:llm.int8")
    applied = Applied(model=loaded.model, library="bitsandbytes", simulated=loaded.device.type != "cuda")
    applied.conventions["weights"] = "absmax / 127 per output row, input columns beyond 6 in 16 bits"
    applied.conventions["activations"] = "int8 absmax per token; values enter in float16"
    for target in weight_targets(loaded.model, routers=False):
        name = target.name.removesuffix(".weight")
        if not isinstance(target.module, nn.Linear):
            applied.left_out[target.name] = f"{type(target.module).__name__} is no linear layer"
            continue
        before = target.matrix()
        layer = _int8_layer(target.module, loaded.device)
        applied.undo_steps.append(_swap(loaded.model, name, layer))
        bits = stored_bits(weights, before.shape[0], before.shape[1], before.shape[1])
        applied.changes.append(compare(target.name, before, _dequantized(layer).to(before), bits=bits, group=before.shape[1]))
    return applied


def _int8_layer(module: nn.Linear, device: torch.device) -> Any:
    layers: Any = bitsandbytes.nn  # it does not declare what it exports
    layer = layers.Linear8bitLt(
        module.in_features, module.out_features, module.bias is not None, has_fp16_weights=False, threshold=_THRESHOLD
    )
    layer.weight = layers.Int8Params(module.weight.detach().clone(), requires_grad=False, has_fp16_weights=False)
    if module.bias is not None:
        layer.bias = nn.Parameter(module.bias.detach().clone(), requires_grad=False)
    return layer.to(device).eval()  # in training mode it takes a path without int8 activations on a CPU


def _dequantized(layer: Any) -> Tensor:
    codes, scale = layer.weight.data, layer.weight.SCB
    values: Tensor = codes.float() * scale[:, None] / 127
    return values


def _swap(model: Any, name: str, layer: Any) -> Callable[[], None]:
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    original = getattr(owner, leaf)
    setattr(owner, leaf, layer)

    def undo() -> None:
        setattr(owner, leaf, original)

    return undo
