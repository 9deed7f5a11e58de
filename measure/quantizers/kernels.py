"""Layers that compute with packed weights, so that a recipe's speed and bytes can be measured: libraries' own kernels.

Quality is measured with simulated quantization, which has no speed. For the task `speed` every quantizable layer is replaced by
one that holds packed codes and multiplies with a library's kernel; a recipe without one is refused with the reason.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from knowledge.errors import MissingDependencyError
from knowledge.recipes import QuantRecipe
from knowledge.schemes import QuantArgs
from measure.errors import NotApplicableError
from measure.quantizers.targets import Target, weight_targets

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_HINT = "the speed of other recipes: serve the checkpoint of `qadvisor apply` in an engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A library's packed layer."""

    name: str
    """Package and layer, as the record names them."""
    recipes: str
    """Recipes that it computes, for messages."""
    computes: Callable[[QuantArgs, float, str], bool]
    """Whether it computes these weights, with activations of so many bits, made by this method."""
    pack: Callable[[nn.Linear, QuantArgs], nn.Module]
    only_cuda: str | None = None
    """Why it does not run on a CPU."""


def find_kernel(recipe: QuantRecipe, device: str) -> Kernel:
    """The kernel that computes with the weights and activations of `recipe` on a kind of device.

    Raises:
        NotApplicableError: none of the libraries has one, or it does not run on this kind of device.
    """
    weights = recipe.scheme.weights
    if recipe.scheme.kv_cache is not None:
        raise NotApplicableError("a quantized KV cache has no kernel here", given=recipe.name, hint=_HINT)
    found = [k for k in KERNELS if weights is not None and k.computes(weights, recipe.scheme.a_bits, recipe.method.name)]
    if not found:
        fast = [kernel.recipes for kernel in KERNELS]
        raise NotApplicableError(f"no kernel here computes {recipe.name}", given=recipe.name, allowed=fast, hint=_HINT)
    if device not in ("cpu", "cuda") or (device == "cpu" and found[0].only_cuda):
        reason = found[0].only_cuda or f"it has no kernel for {device}"
        raise NotApplicableError(f"{found[0].name} does not run on {device}: {reason}", given=recipe.name, hint=_HINT)
    return found[0]


@contextmanager
def packed(loaded: "LoadedModel", recipe: QuantRecipe) -> Iterator[Kernel]:
    """The model with packed layers in the place of its linear ones; afterwards the plain ones are back.

    Raises:
        NotApplicableError: no kernel, or weights that are no linear layers (fused experts).
        MissingDependencyError: the library is not installed.
    """
    kernel = find_kernel(recipe, loaded.device.type)
    targets = weight_targets(loaded.model)
    odd = next((target for target in targets if not isinstance(target.module, nn.Linear)), None)
    if odd is not None:
        raise NotApplicableError(
            f"{odd.name} is no linear layer but {type(odd.module).__name__}: {kernel.name} does not hold it", given=recipe.name
        )
    replaced: list[tuple[Any, str, nn.Module]] = []
    try:
        for target in targets:
            owner, leaf = _place(loaded.model, target)
            layer = _pack(kernel, target, recipe).to(loaded.device).eval().requires_grad_(requires_grad=False)
            replaced.append((owner, leaf, target.module))
            setattr(owner, leaf, layer)
        yield kernel
    finally:
        for owner, leaf, module in replaced:
            setattr(owner, leaf, module)


def _place(model: Any, target: Target) -> tuple[Any, str]:
    parent, _, leaf = target.name.removesuffix(f".{target.attribute}").rpartition(".")
    return model.get_submodule(parent), leaf


def _pack(kernel: Kernel, target: Target, recipe: QuantRecipe) -> nn.Module:
    """A packed layer with the weights as they stand; the library is given a plain linear layer, whatever the subclass."""
    module: Any = target.module
    plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
    plain.weight = nn.Parameter(module.weight.detach(), requires_grad=False)
    if module.bias is not None:
        plain.bias = nn.Parameter(module.bias.detach(), requires_grad=False)
    weights = recipe.scheme.weights
    if weights is None:
        raise ValueError(f"{recipe.name} leaves weights alone")
    try:
        return kernel.pack(plain, weights)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise MissingDependencyError.of(package, extra="measure", purpose=kernel.name) from error
    except (RuntimeError, ValueError, AssertionError, NotImplementedError, ImportError) as error:
        text = " ".join(str(error).split())[:200]
        raise NotApplicableError(f"{kernel.name} cannot pack {target.name}: {text}", given=recipe.name) from error


def _bitsandbytes(module: nn.Linear, weights: QuantArgs) -> nn.Module:
    import bitsandbytes

    layers: Any = bitsandbytes.nn  # it does not declare what it exports
    kind = "nf4" if weights.dtype == "nf" else "fp4"
    layer = layers.Linear4bit(
        module.in_features, module.out_features, bias=module.bias is not None, quant_type=kind,
        compute_dtype=module.weight.dtype, compress_statistics=weights.type_name == "double_quant",
    )  # fmt: skip
    layer.weight = layers.Params4bit(
        module.weight.detach().clone(), requires_grad=False, quant_type=kind, blocksize=weights.group_size,
        compress_statistics=weights.type_name == "double_quant",
    )  # fmt: skip
    layer.bias = module.bias
    return layer.to(module.weight.device)  # type: ignore[no-any-return] # moving is what quantizes


def _torchao(config: str, **options: Any) -> Callable[[nn.Linear, QuantArgs], nn.Module]:
    def pack(module: nn.Linear, weights: QuantArgs) -> nn.Module:
        import torchao.quantization as library

        grouped = {"group_size": weights.group_size} if weights.strategy == "group" else {}
        holder = nn.Sequential(module)
        library.quantize_(holder, getattr(library, config)(**options, **grouped))
        return holder[0]

    return pack


def _quanto(module: nn.Linear, weights: QuantArgs) -> nn.Module:
    from optimum.quanto import freeze, qint8, quantize

    holder = nn.Sequential(module)
    quantize(holder, weights=qint8)
    freeze(holder)
    return holder[0]


KERNELS = (
    Kernel(
        name="bitsandbytes Linear4bit", recipes="nf4, fp4", pack=_bitsandbytes,
        computes=lambda w, a, method: (
            method == "rtn" and a >= 16 and (w.dtype == "nf" or (w.dtype == "fp" and w.num_bits == 4))
        ),
    ),
    Kernel(
        name="optimum-quanto QLinear", recipes="w8a16:quanto", pack=_quanto,
        computes=lambda w, a, method: method == "quanto" and w.dtype == "int" and w.num_bits == 8 and a >= 16,
    ),
    Kernel(
        name="torchao Int8WeightOnly", recipes="w8a16-channel-sym", pack=_torchao("Int8WeightOnlyConfig"),
        computes=lambda w, a, method: _int8(w) and a >= 16 and method in ("rtn", "gptq"),
    ),
    Kernel(
        name="torchao Int8DynamicActivationInt8Weight", recipes="w8a8, w8a8:smoothquant",
        pack=_torchao("Int8DynamicActivationInt8WeightConfig"),
        computes=lambda w, a, method: _int8(w) and a == 8 and method in ("rtn", "gptq", "smoothquant"),
    ),
    Kernel(
        name="torchao Int4WeightOnly", recipes="w4a16 in groups of 32, 64, 128 or 256", pack=_torchao("Int4WeightOnlyConfig"),
        computes=lambda w, a, method: (
            w.dtype == "int" and w.num_bits == 4 and w.strategy == "group" and w.group_size in (32, 64, 128, 256) and a >= 16
            and method in ("rtn", "gptq", "awq", "hqq")
        ),
        only_cuda="its int4 kernels are for CUDA",
    ),
    Kernel(
        name="torchao Float8DynamicActivationFloat8Weight", recipes="fp8",
        pack=_torchao("Float8DynamicActivationFloat8WeightConfig"),
        computes=lambda w, a, method: w.dtype == "fp" and w.num_bits == 8 and a == 8 and method == "rtn",
        only_cuda="FP8 products need a GPU of compute capability 8.9",
    ),
)  # fmt: skip
"""Packed layers in the order in which they are tried. bitsandbytes' Linear8bitLt is not among them: the recipe
`w8a8:llm.int8` is that layer itself, on a GPU. compressed-tensors' layers unpack before they multiply (its kernels are vLLM's),
and so do HQQ's and quanto's below 8 bits: their time is no kernel's."""


def _int8(weights: QuantArgs) -> bool:
    return weights.dtype == "int" and weights.num_bits == 8 and weights.strategy == "channel" and weights.symmetric is True
