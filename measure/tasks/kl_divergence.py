"""How far the next-token distribution moved from the unquantized model's: KL divergence and flips of the likeliest token."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge.measurements import Measurement
from measure.inference import forward_logits, in_batches
from measure.stats import standard_error, weighted_mean
from measure.tasks import TaskPlan, TaskResult
from measure.tasks.perplexity import text_windows

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_DEFAULT_WINDOWS = 8
"""The baseline's distributions are kept in host memory: windows x tokens x vocabulary x 4 bytes."""


class DivergenceScorer:
    """KL(unquantized || quantized) per token, and the share of tokens whose likeliest successor changed.

    The unquantized distributions are computed once a sweep. The baseline itself scores 0 in both, by the same code.
    """

    def __init__(self, task: TaskPlan, *, seed: int) -> None:
        self.task, self.seed = task, seed
        self._rows: Tensor | None = None
        self._reference: list[Tensor] = []

    def prepare(self, loaded: "LoadedModel") -> None:
        """Cut the text into windows and keep what the unquantized model says about them."""
        self._rows = text_windows(self.task, loaded, default_windows=_DEFAULT_WINDOWS)
        self._reference = []
        for _, batch in in_batches(
            loaded, self._rows, lambda ids: torch.log_softmax(forward_logits(loaded.model, ids)[:, :-1], -1)
        ):
            self._reference += list(batch.cpu())

    def score(self, loaded: "LoadedModel") -> TaskResult:
        """Compare every position with the reference."""
        if self._rows is None:
            raise RuntimeError("prepare() comes before score()")
        divergence: list[float] = []
        flips: list[float] = []
        for start, batch in in_batches(
            loaded, self._rows, lambda ids: torch.log_softmax(forward_logits(loaded.model, ids)[:, :-1], -1)
        ):
            for offset, row in enumerate(batch):
                reference = self._reference[start + offset].to(row.device)
                divergence.append(float((reference.exp() * (reference - row)).sum(-1).double().mean().clamp_min(0)))
                flips.append(float((reference.argmax(-1) != row.argmax(-1)).double().mean()))
        return TaskResult(
            measurements=[
                _measurement("kl_divergence", divergence, "nats per token"),
                _measurement("top1_flips", flips, "share of tokens"),
            ],
            samples={"id": list(range(len(divergence))), "kl_divergence": list(divergence), "top1_flips": list(flips)},
            limit=self.task.options.limit,
            context=self._rows.shape[1],
            data_hash=self.task.data_hash,
            shots=0,
        )


def _measurement(metric: str, values: list[float], unit: str) -> Measurement:
    return Measurement(
        metric=metric, value=weighted_mean(values), stderr=standard_error(values), stderr_method="windows as samples",
        n=len(values), unit=unit, higher_is_better=False, per_sample=metric,
    )  # fmt: skip
