"""Whether the predictor would gain from a source that it does not learn from: `python -m advisor.source_trial SOURCE`.

The law is fitted with models and with families left out, once as it is and once with the source's rows among the evidence. Its
errors on the figures that it learns from today are compared row by row; nothing of the source is judged.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.features import Floats
from advisor.fit import left_out, novelty_folds
from advisor.law_fit import make_design
from advisor.scores import Interval, weighted_mean
from advisor.training import TrainingSet, judged_rows, load_training_set

_TRIED = ("models", "families")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Errors without and with the source, on one kind of figures with one thing left out."""

    split: str
    kind: str
    without: float
    """Mean absolute error: share lost, or nats."""
    with_source: float
    difference: Interval
    """What the source adds to the error, row by row; below zero it helps."""


def try_source(data: TrainingSet, larger: TrainingSet, source: str) -> Iterator[Trial]:
    """Compare fits with and without a source.

    Args:
        data: the evidence that is learned from.
        larger: the same with the rows of `source`, in the same order but for these.
        source: its name.
    """
    known = larger.names("source") != source
    for split in _TRIED:
        folds, novelty = novelty_folds(data)[split]
        spread = np.full(len(larger), -1)
        spread[known] = folds
        forecasts = _forecast(data, folds, novelty), _forecast(larger, spread, novelty)[known]
        errors = [np.abs(forecast - data.loss) for forecast in forecasts]
        for kind, rows in judged_rows(data).items():
            without, with_source = (float(np.average(error[rows], weights=data.score_weights[rows])) for error in errors)
            difference = weighted_mean((errors[1] - errors[0])[rows], data.score_weights[rows], data.names("model")[rows])
            yield Trial(split=split, kind=kind, without=without, with_source=with_source, difference=difference)


def _forecast(data: TrainingSet, folds: NDArray[np.intp], novelty: int | None) -> Floats:
    """The law's point for every row that has a fold."""
    return left_out(data, make_design(data.features, data.names("source")), folds, novelty).point


def main(source: str) -> None:
    """Print the comparison as Markdown."""
    trials = try_source(load_training_set(), load_training_set(also=source), source)
    sys.stdout.write("| left out | figures | error without | with | difference |\n| --- | --- | --- | --- | --- |\n")
    for trial in trials:
        low, high = trial.difference.low, trial.difference.high
        sys.stdout.write(
            f"| {trial.split} | {trial.kind} | {trial.without:.4f} | {trial.with_source:.4f} "
            f"| {trial.difference.value:+.4f} ({low:+.4f} to {high:+.4f}) |\n"
        )


if __name__ == "__main__":
    main(sys.argv[1])
