"""A model and its tokenizer in memory, checked: every weight present, every weight a number."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from knowledge.errors import InvalidModelError, MissingDependencyError, QAdvisorError
from knowledge.measurements import ModelFacts
from knowledge.recipes import QuantRecipe
from measure import chatglm
from measure.devices import find_device
from measure.models import ModelSource, tokenizer_hash
from measure.plan import Settings
from measure.quantizers.targets import Originals

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class LoadedModel:
    """A model that can be quantized and scored."""

    model: Any
    """The module to score; a quantizer may put a changed copy here for a while."""
    tokenizer: Any
    source: ModelSource
    settings: Settings
    device: torch.device
    originals: Originals = field(default_factory=Originals)
    batch_size: int = 8
    """Sequences a forward; halved for good when memory runs out."""
    recipe: QuantRecipe | None = None
    """The recipe at hand; None while the model is unquantized."""
    simulated: bool = False
    """Whether the recipe at hand rounds in floating point: then there is no speed to measure."""
    cache: dict[str, Any] = field(default_factory=dict)
    """What recipes of a sweep share: calibration tokens, activation statistics."""

    @property
    def max_context(self) -> int | None:
        """Tokens that the model can look back on, where its configuration says so."""
        for name in ("max_position_embeddings", "seq_length", "n_positions"):
            value = getattr(self.model.config, name, None)
            if isinstance(value, int) and value > 0:
                return value
        return None

    def facts(self) -> ModelFacts:
        """The model as a record names it."""
        return ModelFacts(
            family=str(self.model.config.model_type),
            architecture=type(self.model).__name__,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            fingerprint=self.source.fingerprint,
            revision=self.source.revision,
            tokenizer_hash=tokenizer_hash(self.source),
        )


def load_model(source: ModelSource, settings: Settings) -> LoadedModel:
    """The model of `source` on the device of `settings`.

    Raises:
        InvalidModelError: transformers cannot read it as a causal language model, weights are missing or not finite, or
            there is no tokenizer.
        InvalidRequestError: the device is not there.
    """
    device = find_device(settings.device)
    model, missing, tokenizer = _chatglm(source, settings) if source.family == "chatglm" else _native(source, settings)
    if missing:
        raise InvalidModelError(
            f"{len(missing)} weights are missing from the files, the first is {missing[0]}",
            given=str(source.path),
            hint="complete the download, or use the checkpoint that belongs to config.json",
        )
    _refuse_non_finite(model, source)
    return LoadedModel(
        model=model.to(device).eval().requires_grad_(requires_grad=False),
        tokenizer=tokenizer, source=source, settings=settings, device=device, batch_size=settings.batch_size,
    )  # fmt: skip


def _native(source: ModelSource, settings: Settings) -> tuple[Any, list[str], Any]:
    """Model, names of missing weights, tokenizer, as transformers reads them."""
    common = {"trust_remote_code": settings.trust_remote_code, "local_files_only": True}
    config = _reading(source, lambda: AutoConfig.from_pretrained(source.path, **common))
    config._experts_implementation = "eager"  # experts run one by one, so that their inputs can be rounded
    options = {"config": config, "dtype": getattr(torch, settings.dtype), "use_safetensors": True, "output_loading_info": True}
    model, report = _reading(source, lambda: AutoModelForCausalLM.from_pretrained(source.path, **options, **common))
    tokenizer = _reading(source, lambda: AutoTokenizer.from_pretrained(source.path, **common))
    return model, sorted(report.get("missing_keys") or ()), tokenizer


def _chatglm(source: ModelSource, settings: Settings) -> tuple[Any, list[str], Any]:
    """The same for ChatGLM, whose architecture transformers calls GLM."""
    model, missing = _reading(source, lambda: chatglm.load_glm(source, getattr(torch, settings.dtype)))
    return model, missing, _reading(source, lambda: chatglm.load_tokenizer(source))


def _reading(source: ModelSource, read: Callable[[], Any]) -> Any:
    """`read()` with the errors of transformers as ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except QAdvisorError:
        raise
    except ImportError as error:
        package = str(getattr(error, "name", None) or "sentencepiece")
        raise MissingDependencyError.of(package, extra="measure", purpose=f"{source.name}") from error
    except (ValueError, KeyError, OSError, RuntimeError, TypeError, AttributeError) as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        text = " ".join(str(error).split())[:300]
        hint = "give --trust-remote-code if you trust the code beside the weights" if "trust_remote_code" in text else None
        raise InvalidModelError(f"cannot load {source.name}: {text}", given=str(source.path), hint=hint) from error


def _refuse_non_finite(model: nn.Module, source: ModelSource) -> None:
    for name, parameter in model.named_parameters():
        if not all(bool(torch.isfinite(block).all()) for block in parameter.detach().reshape(-1).split(1 << 26)):
            raise InvalidModelError(
                f"{name} holds values that are not numbers", given=str(source.path), hint="the checkpoint is damaged"
            )


def probe_ids(loaded: LoadedModel, *, tokens: int = 192) -> Tensor:
    """Token ids, the same for every recipe of a model, on which a recipe's effect on the logits is looked at."""
    generator = torch.Generator().manual_seed(loaded.settings.seed)
    vocabulary = int(loaded.model.get_input_embeddings().weight.shape[0])
    length = min(tokens, loaded.max_context or tokens)
    return torch.randint(0, vocabulary, (1, length), generator=generator).to(loaded.device)
