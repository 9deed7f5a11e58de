"""Quantizers by method: a name table, loaded on first use, and what a quantizer tells about its work.

A quantizer is a function `(loaded, recipe, protocol, calibration) -> Applied` in a file of its own. It changes the model in
place, or hands back a changed copy; `Applied.undo` brings the unquantized model back bit for bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from knowledge.errors import MissingDependencyError
from knowledge.measurements import CalibrationFacts
from measure.errors import NotApplicableError

if TYPE_CHECKING:
    from knowledge.recipes import QuantRecipe
    from measure.loading import LoadedModel
    from measure.presets import Protocol as Conventions

QUANTIZERS: dict[str, str] = {
    "rtn": "measure.quantizers.rtn:quantize",
    "hqq": "measure.quantizers.hqq:quantize",
    "gptq": "measure.quantizers.compressor:quantize",
    "awq": "measure.quantizers.compressor:quantize",
    "smoothquant": "measure.quantizers.compressor:quantize",
    "llm.int8": "measure.quantizers.int8:quantize",
    "quanto": "measure.quantizers.quanto:quantize",
    "spqr": "measure.quantizers.spqr:quantize",
}
"""Method name -> "module:function" for the weights."""

_PACKAGES = {"optimum": "optimum-quanto", "compressed_tensors": "compressed-tensors"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorChange:
    """What happened to one weight matrix (or stack of expert matrices)."""

    name: str
    elements: int
    bits: float
    """Bits of the whole tensor in storage: codes, scales, zero points, outliers."""
    group: int
    """Elements that share a scale."""
    squared_error: float
    """Sum of (W - Wq)^2."""
    squared_norm: float
    """Sum of W^2."""
    constant: bool = False
    """All elements equal, so that rounding may leave it as it is."""
    exception: str | None = None
    """What was done where the group does not divide the rows."""

    @property
    def bits_per_weight(self) -> float:
        """Effective bits of one element."""
        return self.bits / self.elements


@dataclass(slots=True, kw_only=True)
class Applied:
    """A quantized model and the way back."""

    model: Any
    """The module that is to be scored: the same object changed in place, or a copy."""
    changes: list[TensorChange] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    library: str = "own"
    simulated: bool = True
    conventions: dict[str, str] = field(default_factory=dict)
    calibration: CalibrationFacts | None = None
    undo_steps: list[Callable[[], None]] = field(default_factory=list)
    chunk: int | None = None
    """Tokens that one forward may take at once, where the cache needs chunks (KIVI)."""

    def undo(self) -> None:
        """Bring the unquantized model back; harmless when called twice."""
        while self.undo_steps:
            self.undo_steps.pop()()


class Quantizer(Protocol):
    """Quantizes the weights of a model, and says what it did."""

    def __call__(self, loaded: "LoadedModel", recipe: "QuantRecipe", protocol: "Conventions") -> Applied:
        """Quantize the weights of `loaded` as `recipe` says."""
        ...


def known_methods() -> Sequence[str]:
    """Methods that can be run here."""
    return sorted(QUANTIZERS)


def load_quantizer(method: str) -> Quantizer:
    """The quantizer of `method`.

    Raises:
        NotApplicableError: no quantizer here implements the method.
        MissingDependencyError: the package that it needs is not installed.
    """
    if method not in QUANTIZERS:
        raise NotApplicableError(
            f"method {method!r} cannot be run here",
            given=method,
            allowed=known_methods(),
            hint="published figures of it are in `qadvisor evidence`",
        )
    module, _, name = QUANTIZERS[method].partition(":")
    try:
        quantizer: Quantizer = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        package = (error.name or "torch").partition(".")[0]
        raise MissingDependencyError.of(_PACKAGES.get(package, package), extra="measure", purpose=f"method {method}") from error
    return quantizer
