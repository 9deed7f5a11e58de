"""A model quantized in place by llm-compressor, saved packed, and read back by transformers as a stranger would read it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from knowledge.errors import QAdvisorError, StoreError
from knowledge.measurements import CalibrationFacts
from measure.errors import NotApplicableError, QuantizationMismatchError
from measure.inference import forward_logits, out_of_memory, release_memory
from measure.loading import probe_ids
from measure.packing import Packing
from measure.quantizers.compressor import quiet, run_oneshot, smoother
from measure.quantizers.targets import weight_targets

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_USUAL_GROUPS = (256, 128, 64, 32, 16)

_LIBRARY_ERRORS = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError, ImportError, SafetensorError)
"""What the libraries raise when they meet a model or a file that they cannot handle."""

_SAMPLE = "The quick brown fox jumps over 13 lazy dogs.\n\tdef f(x): return x ** 2  # ünïcödé 漢字"


def logits_of(loaded: "LoadedModel") -> Tensor:
    """Logits on the probe tokens, in host memory."""
    return forward_logits(loaded.model, probe_ids(loaded)).cpu()


def layers_to_pack(loaded: "LoadedModel", packing: Packing) -> list[str]:
    """Names of the linear layers that the checkpoint holds quantized.

    Raises:
        NotApplicableError: weights that are no plain linear layers (fused experts, GPT-2's Conv1D, Falcon's own class), or
            rows that the group does not divide.
    """
    targets = weight_targets(loaded.model)
    odd = next((target for target in targets if type(target.module) is not nn.Linear), None)
    if odd is not None:
        experts = type(odd.module).__name__.endswith("Experts")
        what = "transformers does not read packed experts back" if experts else "llm-compressor does not pack it"
        raise NotApplicableError(
            f"{odd.name} is no plain linear layer but {type(odd.module).__name__}: {what}", given=loaded.source.name,
            allowed="models of plain linear layers (Llama, Mistral, Qwen, Gemma, Phi, …)",
            hint="a GGUF file can hold it: `qadvisor recipe` with a gguf: scheme shows the commands",
        )  # fmt: skip
    divisor = packing.divisor
    columns = {target.matrix().shape[-1] for target in targets}
    if divisor is not None and any(width % divisor for width in columns):
        narrow = next(target for target in targets if target.matrix().shape[-1] % divisor)
        integers = packing.recipe.scheme.weights is not None and packing.recipe.scheme.weights.dtype == "int"
        sizes = [f"-g{size}" for size in _USUAL_GROUPS if integers and not any(width % size for width in columns)]
        raise NotApplicableError(
            f"groups of {divisor} do not divide the rows of {narrow.name}, which have {narrow.matrix().shape[-1]} elements",
            given=packing.recipe.name, allowed=[*sizes, "-channel"] if integers else ["fp8", "w8a8", "w4a16-channel"],
        )  # fmt: skip
    return [target.name.removesuffix(".weight") for target in targets]


def quantize_in_place(loaded: "LoadedModel", packing: Packing, layers: list[str]) -> CalibrationFacts | None:
    """Quantize the model itself, and say on which text, if on any.

    Raises:
        TaskDataError: the calibration text is too short.
        QAdvisorError: the library cannot do it, or memory ran out.
    """
    with _translated("llm-compressor cannot quantize this model", loaded, QAdvisorError):
        loaded.model, facts = run_oneshot(
            loaded, _modifiers(loaded, packing, layers), calibrated=packing.needs_data, in_place=True
        )
    return facts


def _modifiers(loaded: "LoadedModel", packing: Packing, layers: list[str]) -> list[Any]:
    first, _, second = packing.recipe.method.name.partition("+")
    kept = set(layers)
    others = [name for name, module in loaded.model.named_modules() if type(module) is nn.Linear and name not in kept]
    last = GPTQModifier if "gptq" in (first, second) else QuantizationModifier
    quantizer = last(**packing.arguments, ignore=[f"re:^{re.escape(name)}$" for name in others])
    return [smoother(loaded, first), quantizer] if first in ("awq", "smoothquant") else [quantizer]


def save_packed(loaded: "LoadedModel", folder: Path) -> None:
    """Write configuration and packed weights into `folder`, which afterwards is all that is left of the model.

    Raises:
        StoreError: the folder cannot be written, the disk is full.
    """
    try:
        with quiet():
            loaded.model.save_pretrained(folder, save_compressed=True)
        (folder / "recipe.yaml").unlink(missing_ok=True)  # the library's; empty, since its session is over
        usual = (folder / "config.json").stat().st_mode
        for file in folder.glob("*.safetensors"):  # written for their owner alone; an engine may run as another user
            file.chmod(usual)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"cannot write the checkpoint: {' '.join(str(error).split())[:200]}", given=str(folder.parent),
            hint="free space or choose another --output, then run again",
        ) from error  # fmt: skip
    loaded.model = None
    release_memory()


def read_back(folder: Path, loaded: "LoadedModel") -> Tensor:
    """Logits of the checkpoint in `folder` on the probe tokens of `loaded`, whose model is put in place of the one saved.

    Raises:
        QuantizationMismatchError: transformers cannot read it, weights are missing or left over, or the tokenizer differs.
    """
    common = {"trust_remote_code": loaded.settings.trust_remote_code, "local_files_only": True}
    options = {"dtype": getattr(torch, loaded.settings.dtype), "use_safetensors": True, "output_loading_info": True}
    with _translated("transformers cannot read the checkpoint back", loaded, QuantizationMismatchError), quiet():
        model, report = AutoModelForCausalLM.from_pretrained(folder, **options, **common)
        tokenizer = AutoTokenizer.from_pretrained(folder, **common)
        wrong = [f"{name} is missing" for name in sorted(report.get("missing_keys") or ())]
        wrong += [f"{name} is left over" for name in sorted(report.get("unexpected_keys") or ())]
        if not wrong and tokenizer(_SAMPLE)["input_ids"] != loaded.tokenizer(_SAMPLE)["input_ids"]:
            wrong = ["the tokenizer gives other tokens"]
        if wrong:
            raise QuantizationMismatchError(f"the checkpoint does not read back: {wrong[0]}", given=loaded.source.name)
        loaded.model = model.to(loaded.device).eval()
        return logits_of(loaded)


@contextmanager
def _translated(what: str, loaded: "LoadedModel", kind: type[QAdvisorError]) -> Iterator[None]:
    """Errors of the libraries as ours."""
    try:
        yield
    except QAdvisorError:
        raise
    except (*_LIBRARY_ERRORS, OSError, MemoryError) as error:
        if out_of_memory(error):
            raise QAdvisorError(
                f"memory of {loaded.device} ran out", given=loaded.source.name,
                hint="--device cpu, fewer --calibration-samples, or a machine with more memory",
            ) from error  # fmt: skip
        text = " ".join(str(error).split())[:300]
        raise kind(f"{what}: {type(error).__name__}: {text}", given=loaded.source.name) from error
