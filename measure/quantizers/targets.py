"""Which weight matrices a recipe quantizes, how to write them, and how to bring the originals back."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

LEFT_ALONE = ("dt_proj",)
"""Mamba's dt_proj: its weight is used as a raw tensor, and no published scheme quantizes it."""

ROUTERS = ("gate", "router", "shared_expert_gate")
"""Modules that choose the experts of a token; quantized only where a protocol says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One weight matrix, or one stack of expert matrices."""

    name: str
    module: nn.Module
    attribute: str
    transposed: bool = False
    """Whether the parameter is stored as (in, out)."""

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter as the model holds it."""
        parameter = getattr(self.module, self.attribute)
        if not isinstance(parameter, nn.Parameter):
            raise TypeError(f"{self.name} is no parameter")
        return parameter

    def matrix(self) -> Tensor:
        """The weights as (output rows, input columns); experts are stacked along the rows."""
        weight = self.parameter.detach()
        weight = weight.transpose(-1, -2) if self.transposed else weight
        return weight.reshape(-1, weight.shape[-1])

    def write(self, matrix: Tensor) -> None:
        """Put (rows, columns) back into the parameter, in place."""
        parameter = self.parameter
        shape = parameter.shape if not self.transposed else (*parameter.shape[:-2], parameter.shape[-1], parameter.shape[-2])
        value = matrix.reshape(shape)
        with torch.no_grad():
            parameter.copy_(value.transpose(-1, -2) if self.transposed else value)


def weight_targets(model: nn.Module, *, routers: bool = False) -> list[Target]:
    """Every matrix that a weight recipe quantizes: linear layers and their subclasses, GPT-2's Conv1D, fused experts.

    The output head, Mamba's dt_proj and (unless `routers`) the gates of a mixture of experts stay.
    """
    find_head: Any = getattr(model, "get_output_embeddings", lambda: None)
    head = find_head()
    return [target for target in _candidates(model, routers=routers) if target.module is not head]


def _candidates(model: nn.Module, *, routers: bool) -> Iterator[Target]:
    for name, module in model.named_modules():
        leaf = name.rpartition(".")[2]
        kind = type(module).__name__
        if leaf in LEFT_ALONE:
            continue
        if leaf in ROUTERS or kind.endswith("Router"):
            if routers and isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.ndim == 2:
                yield Target(name=f"{name}.weight", module=module, attribute="weight")
        elif isinstance(module, nn.Linear):
            yield Target(name=f"{name}.weight", module=module, attribute="weight")
        elif kind == "Conv1D":
            yield Target(name=f"{name}.weight", module=module, attribute="weight", transposed=True)
        elif kind.endswith("Experts"):
            for attribute, parameter in module.named_parameters(recurse=False):
                if parameter.ndim == 3:
                    transposed = bool(getattr(module, "is_transposed", False))
                    yield Target(name=f"{name}.{attribute}", module=module, attribute=attribute, transposed=transposed)


class Originals:
    """Unquantized values of the parameters that some recipe changed, kept in host memory for the whole sweep."""

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}
        self._changed: dict[str, nn.Parameter] = {}

    def keep(self, name: str, parameter: nn.Parameter) -> None:
        """Remember `parameter` before it is changed; the first value is the original."""
        if name not in self._values:
            self._values[name] = parameter.detach().to("cpu", copy=True)
        self._changed[name] = parameter

    def restore(self) -> None:
        """Write every changed parameter back, bit for bit."""
        with torch.no_grad():
            for name, parameter in self._changed.items():
                parameter.copy_(self._values[name])
        self._changed.clear()
