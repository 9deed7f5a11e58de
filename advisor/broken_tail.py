"""How bad healthy checkpoints look: `python -m advisor.broken_tail` estimates the constants of `advisor.broken`.

Every source's figures of one recipe and model count as a checkpoint, and are judged by a forecast that left the model out.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import training
from advisor.backtest import left_out_forecast
from advisor.broken import Checkpoint, judge
from advisor.training import TrainingSet

_SPLIT = "models"


def published_checkpoints(data: TrainingSet) -> list[Checkpoint]:
    """The published figures as checkpoints, judged by forecasts that left their models out."""
    point, upper = left_out_forecast(data, _SPLIT)
    rows = np.flatnonzero(~data.features.is_nll & (data.score_weights > 0) & (data.names("method") != "none"))
    names = ("model", "scheme", "method", "source", "task")
    columns: dict[str, NDArray[Any]] = {name: data.names(name)[rows] for name in names}
    columns |= {"checkpoint": np.full(len(rows), None), "loss": data.loss[rows]}
    return judge(columns, point[rows], upper[rows])


def estimate_tail(scores: list[float]) -> tuple[float, float]:
    """Share of scores above 1, and the power with which the share falls beyond (maximum likelihood: Hill 1975)."""
    above = np.array([score for score in scores if score > 1])
    return len(above) / len(scores), float(1 / np.log(above).mean())


def main() -> None:
    """Print the constants."""
    scores = [one.score for one in published_checkpoints(training.load_training_set())]
    share, power = estimate_tail(scores)
    sys.stdout.write(f"{len(scores)} checkpoints; share above 1: {share:.4f}, falls with the power -{power:.2f}\n")


if __name__ == "__main__":
    main()
