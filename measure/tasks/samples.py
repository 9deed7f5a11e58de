"""The harness's sample log as columns, one row a document, and the metrics that follow from them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from knowledge.measurements import Measurement
from measure.stats import bootstrap_error, expected_calibration_error, standard_error, weighted_mean

ACCURACIES = ("acc", "exact_match", "em", "mc1", "mc2", "acc_norm")
"""Metrics that are 1 for right and 0 for wrong (or a share), the first of a task's counting for flips."""

_ROLLING = {"word_perplexity": ("nll_per_word", "nats per word"), "byte_perplexity": ("nll_per_byte", "nats per byte")}

Sample = tuple[str, Mapping[str, Any]]
"""Task of the harness, and what it logged of one document under one filter."""


class Columns:
    """Per-document columns of a task, and the metrics that are functions of them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples: dict[str, list[float | int | str | None]] = {
            "id": [f"{name}/{sample['doc_id']}" for name, sample in samples]
        }
        self.weights: dict[str, str] = {}
        self.measurements: list[Measurement] = []
        self.data_hash = hashlib.sha256(json.dumps([sample.get("doc_hash") for _, sample in samples]).encode()).hexdigest()[:16]

    @property
    def correct(self) -> str | None:
        """The column of right and wrong answers, if there is one."""
        found = [column for metric in ACCURACIES for column in self.samples if column.partition("[")[0] == metric]
        return found[0] if found else None

    def add(
        self, metric: str, values: list[float], *, unit: str, higher_is_better: bool, weights: list[float] | None = None
    ) -> None:
        """A column, and its mean as a measurement."""
        self.samples[metric] = list(values)
        if weights is not None:
            self.samples[f"{metric}.weight"] = list(weights)
            self.weights[metric] = f"{metric}.weight"
        self.measurements.append(
            Measurement(
                metric=metric,
                value=weighted_mean(values, weights),
                stderr=standard_error(values, weights),
                stderr_method="documents as samples",
                n=len(values),
                unit=unit,
                higher_is_better=higher_is_better,
                per_sample=metric,
            )
        )


def read_columns(samples: Sequence[Sample], directions: Mapping[str, Mapping[str, bool]]) -> Columns:
    """Columns from the sample log: each number that a metric gave a document, and the confidence of multiple choice.

    A task with several filters (GSM8K's strict and flexible match) logs a document once a filter; their columns are called
    `exact_match[strict-match]` and so on. Rolling perplexities give (log-likelihood, words or bytes) a document; they
    become nats per word or byte with weights.
    """
    by_filter: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda pair: (pair[0], pair[1]["doc_id"])):
        by_filter.setdefault(str(sample[1].get("filter", "none")), []).append(sample)
    direction = {metric: better for table in directions.values() for metric, better in table.items()}
    columns = Columns(next(iter(by_filter.values())))
    for name, rows in by_filter.items():
        if [sample["doc_id"] for _, sample in rows] != [sample["doc_id"] for _, sample in next(iter(by_filter.values()))]:
            continue  # a group whose tasks have different filters: no common rows
        _read_filter(columns, rows, direction, suffix=f"[{name}]" if len(by_filter) > 1 else "")
    _add_confidence(columns, [sample for _, sample in next(iter(by_filter.values()))])
    return columns


def _read_filter(columns: Columns, rows: Sequence[Sample], direction: Mapping[str, bool], *, suffix: str) -> None:
    for metric in sorted({metric for _, sample in rows for metric in sample.get("metrics", ())}):
        values = [sample.get(metric) for _, sample in rows]
        pairs = [(float(value[0]), float(value[1])) for value in values if isinstance(value, (tuple, list)) and len(value) == 2]
        numbers = [number for value in values if (number := _number(value)) is not None]
        if metric in _ROLLING and len(pairs) == len(values):
            name, unit = _ROLLING[metric]
            losses, weights = [-total / count for total, count in pairs], [count for _, count in pairs]
            columns.add(name + suffix, losses, unit=unit, higher_is_better=False, weights=weights)
        elif len(numbers) == len(values):
            unit = "share of items" if metric in ACCURACIES else "harness metric"
            columns.add(metric + suffix, numbers, unit=unit, higher_is_better=bool(direction.get(metric, True)))


def _number(value: object) -> float | None:
    """A finite number, numpy's included; None for anything else."""
    try:
        number = float(value) if not isinstance(value, (str, bytes)) else math.nan  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _add_confidence(columns: Columns, samples: Sequence[Mapping[str, Any]]) -> None:
    """Expected calibration error of multiple choice: confidence is the softmax of the options' log-likelihoods."""
    confidences: list[float] = []
    for sample in samples:
        options = sample.get("filtered_resps") or []
        if len(options) < 2 or not all(isinstance(option, (tuple, list)) and len(option) == 2 for option in options):
            return
        scores = [float(option[0]) for option in options]
        top = max(scores)
        confidences.append(1 / sum(math.exp(score - top) for score in scores))
    if "acc" not in columns.samples or not confidences:
        return
    correct = [float(value or 0) for value in columns.samples["acc"]]
    columns.samples["confidence"] = list(confidences)
    columns.measurements.append(
        Measurement(
            metric="ece",
            value=expected_calibration_error(confidences, correct),
            stderr=bootstrap_error(expected_calibration_error, confidences, correct),
            stderr_method="bootstrap over documents",
            n=len(confidences),
            unit="10 equal bins",
            higher_is_better=False,
        )
    )


def add_summaries(columns: Columns, results: Mapping[str, Any]) -> None:
    """Add metrics that are no mean over documents (F1, BLEU, perplexities): the harness's value, without a standard error."""
    have = {measurement.metric.partition("[")[0] for measurement in columns.measurements}
    for task, values in results["results"].items():
        for key, value in values.items():
            metric, comma, _ = key.partition(",")
            if not comma or metric in have or metric.endswith("_stderr"):
                continue
            number = _number(value)
            if number is None:
                continue
            columns.measurements.append(
                Measurement(
                    metric=metric if len(results["results"]) == 1 else f"{metric}[{task}]",
                    value=number,
                    n=len(columns.samples["id"]),
                    unit="harness metric",
                    higher_is_better=results["higher_is_better"].get(task, {}).get(metric),
                )
            )
