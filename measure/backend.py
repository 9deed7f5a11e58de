"""The heavy part as the runner sees it: one loaded model, quantized and restored recipe by recipe."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from knowledge.errors import MissingDependencyError, QAdvisorError
from knowledge.measurements import Environment, ModelFacts, QuantizationFacts
from knowledge.recipes import QuantRecipe
from measure.environment import capture_environment
from measure.models import ModelSource
from measure.plan import Settings
from measure.presets import Protocol
from measure.tasks import Scorer, TaskPlan, TaskResult, load_scorer

if TYPE_CHECKING:
    from measure.loading import LoadedModel
    from measure.quantizers import Applied

_log = logging.getLogger(__name__)

_QUIET = {
    "TQDM_DISABLE": "1",
    "LLM_COMPRESSOR_LOG_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Read by the libraries when they are imported: no bars and no log lines between ours."""

_RESTORED = {"cpu": 0.0}
"""Largest relative change of the logits after the originals are back; elsewhere products may be summed in another order."""


class TorchBackend:
    """Loads with transformers, quantizes with `measure.quantizers`, scores with `measure.tasks`."""

    def __init__(self, source: ModelSource, settings: Settings) -> None:
        self.source, self.settings = source, settings
        self._loaded: LoadedModel | None = None
        self._scorers: dict[str, Scorer] = {}
        self._probe: Any = None
        self._reference: Any = None

    @property
    def loaded(self) -> "LoadedModel":
        """The loaded model; `open` comes first."""
        if self._loaded is None:
            raise QAdvisorError("the model is not loaded", hint="call open() first")
        return self._loaded

    def open(self) -> ModelFacts:
        """Load the model and remember what it says on the probe tokens."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            from measure.inference import forward_logits
            from measure.loading import load_model, probe_ids
        except ModuleNotFoundError as error:
            raise MissingDependencyError.of(str(error.name).partition(".")[0], extra="measure", purpose="measuring") from error
        self._loaded = load_model(self.source, self.settings)
        self._probe = probe_ids(self._loaded)
        self._reference = forward_logits(self._loaded.model, self._probe)
        return self._loaded.facts()

    def environment(self) -> Environment:
        """On what the sweep runs."""
        return capture_environment(self.settings.device)

    def prepare(self, task: TaskPlan) -> None:
        """Build the samples of `task` and what it needs of the unquantized model."""
        scorer = load_scorer(task, seed=self.settings.seed)
        scorer.prepare(self.loaded)
        self._scorers[task.name] = scorer

    def score(self, task: TaskPlan) -> TaskResult:
        """Score the model as it stands."""
        return self._scorers[task.name].score(self.loaded)

    @contextmanager
    def quantized(self, recipe: QuantRecipe, protocol: Protocol) -> Iterator[QuantizationFacts]:
        """Quantize and verify; afterwards the originals are back, which is checked, and the model is loaded anew if not."""
        from measure.quantizers import Applied
        from measure.quantizers.apply import apply_recipe

        loaded = self.loaded
        original = loaded.model
        applied = Applied(model=original) if recipe.method.name == "none" else apply_recipe(loaded, recipe, protocol)
        try:
            loaded.model = applied.model
            loaded.recipe = None if recipe.method.name == "none" else recipe
            loaded.simulated = recipe.method.name != "none" and applied.simulated
            yield self._verified(applied, recipe, protocol, original)
        finally:
            applied.undo()
            loaded.model, loaded.recipe, loaded.simulated = original, None, False
            self._check_restored()

    def _verified(self, applied: "Applied", recipe: QuantRecipe, protocol: Protocol, original: Any) -> QuantizationFacts:
        from measure.inference import forward_logits, relative_change
        from measure.quantizers.targets import weight_targets
        from measure.verify import describe, verify

        expected = [target.name for target in weight_targets(original, routers=protocol.quantize_router)]
        expected = expected if recipe.scheme.weights is not None else []
        change = relative_change(forward_logits(applied.model, self._probe), self._reference)
        if recipe.method.name != "none":
            verify(applied, recipe, expected=expected, logit_change=change)
        parameters = sum(parameter.numel() for parameter in original.parameters())
        return describe(applied, recipe, protocol, expected=expected, parameters=parameters, logit_change=change)

    def _check_restored(self) -> None:
        from measure.inference import forward_logits, relative_change

        change = relative_change(forward_logits(self.loaded.model, self._probe), self._reference)
        if not change <= _RESTORED.get(self.loaded.device.type, 1e-3):
            _log.warning("the originals are not back (logits changed by %g): loading the model again", change)
            scorers = self._scorers
            self.open()
            self._scorers = scorers
