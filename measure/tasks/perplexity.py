"""Perplexity over text in windows of equal length."""

import math
from typing import TYPE_CHECKING

from torch import Tensor

from knowledge.measurements import Measurement
from measure.errors import QuantizationMismatchError
from measure.inference import forward_logits, in_batches, token_log_probabilities, window_length, windows
from measure.stats import standard_error, weighted_mean
from measure.tasks import TaskPlan, TaskResult

if TYPE_CHECKING:
    from measure.loading import LoadedModel

DEFAULT_CONTEXT = 512
DEFAULT_WINDOWS = 64


def text_windows(task: TaskPlan, loaded: "LoadedModel", *, default_windows: int = DEFAULT_WINDOWS) -> Tensor:
    """The task's text as windows of token ids."""
    if task.text is None:
        raise ValueError(f"{task.name} was planned without a text")
    length = window_length(loaded, task.options.context, DEFAULT_CONTEXT)
    return windows(loaded, task.text.content, length=length, count=task.options.limit or default_windows)


class PerplexityScorer:
    """Mean negative log-likelihood per token, and its exponential.

    Windows do not overlap and each is scored alone, the first token not at all, so windows are independent samples of equal
    weight. The loss of a recipe is the difference in `nll_per_token`: ln(ppl) - ln(ppl of the baseline).
    """

    def __init__(self, task: TaskPlan, *, seed: int) -> None:
        self.task, self.seed = task, seed
        self._rows: Tensor | None = None

    def prepare(self, loaded: "LoadedModel") -> None:
        """Cut the text into windows."""
        self._rows = text_windows(self.task, loaded)

    def score(self, loaded: "LoadedModel") -> TaskResult:
        """Score every window."""
        rows = text_windows(self.task, loaded) if self._rows is None else self._rows
        losses: list[float] = []
        for _, batch in in_batches(
            loaded, rows, lambda ids: -token_log_probabilities(forward_logits(loaded.model, ids), ids).double().mean(-1)
        ):
            losses += batch.cpu().tolist()
        return TaskResult(
            measurements=perplexity_measurements(losses),
            samples={"id": list(range(len(losses))), "nll_per_token": list(losses)},
            limit=self.task.options.limit,
            context=rows.shape[1],
            data_hash=self.task.data_hash,
            shots=0,
        )


def perplexity_measurements(losses: list[float]) -> list[Measurement]:
    """Negative log-likelihood and perplexity from the losses of equally long windows.

    The standard error of the perplexity is that of its logarithm times the perplexity (delta method).

    Raises:
        QuantizationMismatchError: a loss is not finite.
    """
    if not all(math.isfinite(loss) for loss in losses):
        raise QuantizationMismatchError(
            "the model gives no finite likelihood", hint="the weights overflow in this dtype, try float32"
        )
    nll, error = weighted_mean(losses), standard_error(losses)
    perplexity = math.exp(nll)
    return [
        Measurement(
            metric="nll_per_token",
            value=nll,
            stderr=error,
            stderr_method="windows as samples",
            n=len(losses),
            unit="nats per token",
            higher_is_better=False,
            per_sample="nll_per_token",
        ),
        Measurement(
            metric="perplexity",
            value=perplexity,
            stderr=None if error is None else perplexity * error,
            stderr_method="delta method",
            n=len(losses),
            unit="per token",
            higher_is_better=False,
        ),
    ]
