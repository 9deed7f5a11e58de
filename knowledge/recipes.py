"""Quantization methods (the algorithms) and recipes (scheme + method).

A method finds the values; the number format belongs to the scheme. `bnb-nf4` in a table is method `rtn` with scheme
`nf4`; `knowledge.columns` holds that map for every combination found in evidence.
"""

from typing import Literal

from knowledge.errors import UnknownNameError
from knowledge.schemes import QuantScheme, parse_scheme
from knowledge.values import value

Calibration = Literal["none", "data", "training"]
"""What a method needs besides the weights: nothing, sample text, or gradient steps on text."""


@value
class QuantMethod:
    """One algorithm that turns weights (and activations, KV cache) into codes."""

    name: str
    title: str
    calibration: Calibration
    citation: str
    """Paper or documentation that defines it; empty where the name is a description."""
    rank: int = 0
    """How far beyond rounding it goes: 0 rounding, 1 scaling or compensation, 2 both or learned, 3 retraining."""


def _method(name: str, title: str, calibration: Calibration, citation: str, rank: int) -> QuantMethod:
    return QuantMethod(name=name, title=title, calibration=calibration, citation=citation, rank=rank)


_ALL = (
    _method("none", "not quantized", "none", "", 0),
    _method("rtn", "round to nearest", "none", "arXiv 2402.18158, section 2", 0),
    _method("gptq", "GPTQ", "data", "arXiv 2210.17323", 1),
    _method("awq", "AWQ", "data", "arXiv 2306.00978", 1),
    _method("smoothquant", "SmoothQuant", "data", "arXiv 2211.10438", 1),
    _method("llm.int8", "LLM.int8()", "none", "arXiv 2208.07339", 1),
    _method("hqq", "HQQ", "none", "mobiusml/hqq", 1),
    _method("quanto", "optimum-quanto", "none", "huggingface/optimum-quanto", 0),
    _method("imatrix", "llama.cpp importance matrix", "data", "ggml-org/llama.cpp tools/imatrix", 1),
    _method("exl2", "ExLlamaV2 measured mix", "data", "turboderp-org/exllamav2", 2),
    _method("exl3", "ExLlamaV3 trellis", "data", "turboderp-org/exllamav3", 2),
    _method("autoround", "AutoRound", "data", "arXiv 2309.05516", 2),
    _method("autoround-rtn", "AutoRound's optimized rounding", "none", "intel/auto-round", 1),
    _method("autoround-autoscheme", "AutoRound AutoScheme", "data", "intel/auto-round", 2),
    _method("omniquant", "OmniQuant", "data", "arXiv 2308.13137", 2),
    _method("affinequant", "AffineQuant", "data", "arXiv 2403.12544", 2),
    _method("spqr", "SpQR", "data", "arXiv 2306.03078", 2),
    _method("quip", "QuIP", "data", "arXiv 2307.13304", 2),
    _method("quip#", "QuIP#", "data", "arXiv 2402.04396", 2),
    _method("aqlm", "AQLM", "data", "arXiv 2401.06118", 2),
    _method("codebook", "learned codebook", "data", "pytorch/ao", 2),
    _method("pb-llm", "PB-LLM", "data", "arXiv 2310.00034", 2),
    _method("billm", "BiLLM", "data", "arXiv 2402.04291", 2),
    _method("db-llm", "DB-LLM", "training", "arXiv 2402.11960", 3),
    _method("awq+gptq", "AWQ, then GPTQ", "data", "arXiv 2405.07135", 2),
    _method("smoothquant+gptq", "SmoothQuant, then GPTQ", "data", "arXiv 2405.07135", 2),
    _method("gptaq", "GPTAQ", "data", "arXiv 2504.02692", 2),
    _method("gptq+eora", "GPTQ with EoRA", "data", "arXiv 2410.21271", 2),
    _method("mr-gptq", "MR-GPTQ", "data", "arXiv 2509.23202", 2),
    _method("quarot", "QuaRot", "data", "arXiv 2404.00456", 2),
    _method("spinquant", "SpinQuant", "training", "arXiv 2405.16406", 2),
    _method("flatquant", "FlatQuant", "training", "arXiv 2410.09426", 2),
    _method("rptq", "RPTQ", "data", "arXiv 2304.01089", 1),
    _method("atom", "Atom", "data", "arXiv 2310.19102", 2),
    _method("quik", "QUIK", "data", "arXiv 2310.09259", 2),
    _method("qoq", "QoQ (QServe)", "data", "arXiv 2405.04532", 2),
    _method("kivi", "KIVI", "none", "arXiv 2402.02750", 1),
    _method("kvquant", "KVQuant", "data", "arXiv 2401.18079", 2),
    _method("4over6", "Four Over Six", "none", "Tencent/AngelSlim", 1),
    _method("razer", "RaZeR", "none", "Tencent/AngelSlim", 1),
    _method("focus", "Focus-FP4", "data", "Tencent/AngelSlim", 2),
    _method("mixed-precision", "mixed precision by layer", "data", "pytorch/ao", 1),
    _method("qat", "quantization-aware training", "training", "", 3),
    _method("qat-lora", "quantization-aware training with LoRA", "training", "", 3),
    _method("qad", "quantization-aware distillation", "training", "Tencent/AngelSlim", 3),
    _method("llm-qat", "LLM-QAT", "training", "arXiv 2305.17888", 3),
    _method("efficientqat", "EfficientQAT", "training", "arXiv 2407.11062", 3),
    _method("greenbit", "GreenBit", "training", "GreenBitAI/green-bit-llm", 3),
    _method("qlora", "QLoRA", "training", "arXiv 2305.14314", 3),
    _method("ir-qlora", "IR-QLoRA", "training", "arXiv 2402.05445", 3),
)

METHODS: dict[str, QuantMethod] = {method.name: method for method in _ALL}
"""Every method that evidence or advice names."""


def find_method(name: str) -> QuantMethod:
    """The method called `name`, without regard to case.

    Raises:
        UnknownNameError: nobody knows it; lists the nearest names.
    """
    found = METHODS.get(name.strip().lower())
    if found is None:
        raise UnknownNameError.of("method", name, list(METHODS))
    return found


@value
class QuantRecipe:
    """What to do to a model: a scheme, and the method that finds its values."""

    scheme: QuantScheme
    method: QuantMethod

    @property
    def name(self) -> str:
        """`SCHEME:METHOD`, the method left out where it is plain rounding; `none` for the unquantized model."""
        if self.method.name == "none":
            return "none"
        return self.scheme.name if self.method.name == "rtn" else f"{self.scheme.name}:{self.method.name}"


def parse_recipe(text: str) -> QuantRecipe:
    """The recipe that `SCHEME[:METHOD]` names; `none` is the baseline.

    Raises:
        InvalidSchemeError: the scheme does not parse.
        UnknownNameError: nobody knows the method.
    """
    scheme_text, _, method_text = text.strip().rpartition(":")
    if not scheme_text or scheme_text.lower() in ("gguf", "exl2", "exl3", "mlx"):
        scheme_text, method_text = text, ""
    scheme = parse_scheme(scheme_text)
    if method_text:
        return QuantRecipe(scheme=scheme, method=find_method(method_text))
    plain = scheme.weights is None and scheme.activations is None and scheme.kv_cache is None
    default = (scheme.file_type or "").split(":")[0]
    method = "none" if plain else default if default in ("exl2", "exl3") else "rtn"
    return QuantRecipe(scheme=scheme, method=METHODS[method])
