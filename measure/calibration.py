"""Calibration text as token ids: the same windows for every recipe of a sweep, hashed for the record."""

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge.measurements import CalibrationFacts
from measure.errors import TaskDataError
from measure.inference import window_length, windows
from measure.text import load_text

if TYPE_CHECKING:
    from measure.loading import LoadedModel


def calibration_ids(loaded: "LoadedModel") -> tuple[Tensor, CalibrationFacts]:
    """Windows of calibration text in seeded order, and what a record says about them.

    Raises:
        TaskDataError: the text gives fewer windows than were asked for.
        InvalidRequestError: windows longer than the model can look back on.
    """
    if "calibration" not in loaded.cache:
        loaded.cache["calibration"] = _read(loaded)
    ids, facts = loaded.cache["calibration"]
    return ids, facts


def _read(loaded: "LoadedModel") -> tuple[Tensor, CalibrationFacts]:
    request, seed = loaded.settings.calibration, loaded.settings.seed
    text = load_text(request.text, part="calibrate")
    length = request.tokens_per_sample
    if loaded.max_context is not None:
        length = min(length, loaded.max_context)
    length = window_length(loaded, length, length)
    rows = windows(loaded, text.content, length=length, count=None)
    if len(rows) < request.samples:
        raise TaskDataError(
            f"the calibration text gives {len(rows)} windows of {length} tokens, {request.samples} are needed",
            given=text.source,
            hint="a longer --calibration-text or a smaller --calibration-samples",
        )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[: request.samples]
    chosen = rows[order]
    facts = CalibrationFacts(
        source=text.source,
        samples=len(chosen),
        tokens_per_sample=length,
        seed=seed,
        sha256=hashlib.sha256(chosen.numpy().tobytes()).hexdigest()[:16],
    )
    return chosen, facts
