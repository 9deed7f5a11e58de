"""Which measurement of a run record is evidence about which task."""

import re
from dataclasses import dataclass

from knowledge.intake.metrics import Placed, place_metric
from knowledge.measurements import Measurement, RunRecord

OWN_TASKS = {"perplexity": "own_text", "kl-divergence": "own_text", "retrieval": "key_retrieval"}
"""Tasks of `qadvisor measure` -> name in the catalogue, where it is another; the other tasks are the harness's."""

_OWN_METRICS = {
    ("perplexity", "perplexity"): (Placed(metric="ppl", scale="perplexity"), "nll_per_token"),
    ("kl-divergence", "kl_divergence"): (Placed(metric="kl", scale="perplexity"), None),
    ("retrieval", "exact_match"): (Placed(metric="acc", scale="share"), "exact_match"),
}
"""(Task, metric) -> what it is here, and the column whose mean it is (of perplexities: whose exponential)."""

_BRACKETS = re.compile(r"(?P<metric>[^\[]+)\[(?P<which>.*)\]")
_AT_LENGTH = re.compile(r"(?P<metric>.+)@(?P<context>\d{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a measurement belongs."""

    task: str
    placed: Placed
    column: str | None
    """Column of the samples with one value an item, in the unit of the difference."""
    context: int | None = None
    note: str | None = None


def place_measurement(record: RunRecord, measurement: Measurement) -> Place | str:
    """Where a measurement belongs, or why it is no evidence."""
    task = record.spec.task
    if task in OWN_TASKS:
        return _own(record, measurement)
    bracket = _BRACKETS.fullmatch(measurement.metric)
    metric, which = (bracket["metric"], bracket["which"]) if bracket else (measurement.metric, None)
    placed = place_metric(metric)
    if placed is None:
        return f"{task} {metric}: no evidence of a loss"
    if placed.scale == "perplexity" and f"nll_per_{metric.partition('_')[0]}" in record.samples:
        return f"{task} {metric}: taken as the mean of its documents"
    if metric == "perplexity" and measurement.per_sample:  # the harness logs the log-likelihood of each document's answer
        placed = Placed(metric="ppl", scale="log-likelihood")
    return Place(task=task, placed=placed, column=measurement.per_sample, note=which)


def _own(record: RunRecord, measurement: Measurement) -> Place | str:
    task, metric = record.spec.task, measurement.metric
    at_length = _AT_LENGTH.fullmatch(metric)
    name, context = (at_length["metric"], int(at_length["context"])) if at_length else (metric, None)
    if (task, name) not in _OWN_METRICS:
        return f"{task} {name}: no evidence of a loss"
    placed, column = _OWN_METRICS[task, name]
    if context is None and any(other.metric.startswith(f"{name}@") for other in record.measurements):
        return f"{task} {name} over all lengths: taken length by length"
    return Place(task=OWN_TASKS[task], placed=placed, column=column, context=context)
