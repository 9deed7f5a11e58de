"""What each part of a case adds to its predicted loss: exact Shapley values over a handful of parts.

The reference is a case without loss: weights, activations and cache left at 16 bits, plain rounding, a model of 70 billion
parameters of no known family, an ordinary task at 2,048 tokens. Each of the `PARTS` of the case at hand replaces that of
the reference; its contribution is the mean change of the predicted loss over all orders in which the parts can be replaced
(Shapley 1953; Lundberg and Lee 2017, arXiv 1705.07874). Eight parts make 256 combinations, so nothing is sampled. The
contributions to a row add up to its predicted loss.
"""

from collections.abc import Mapping
from math import factorial

import numpy as np
from numpy.typing import NDArray

from advisor.features import Features, Floats, encode
from advisor.law import Law
from knowledge.task_catalogue import find_task

REFERENCE_SIZE_B = 70.0
"""Parameters in 1e9 of a model that the studies find tolerant."""
REFERENCE_TASK = "hellaswag"
"""A task of ordinary sensitivity, measured by most sources."""
REFERENCE_TOKENS = 2048

PARTS: Mapping[str, tuple[str, ...]] = {
    "weights": ("w_noise", "w_bits", "symmetric", "code"),
    "activations": ("a_noise", "a_bits", "static", "a_code"),
    "cache": ("kv_noise", "kv_bits", "kv_code"),
    "method": ("method", "kv_method"),
    "size": ("params_b", "active_params_b"),
    "model": ("model", "family", "series", "moe", "tuned", "reasoning", "gqa_ratio", "attention_bias", "weight_excess"),
    "context": ("context",),
    "task": ("task", "task_type", "ability", "metric", "baseline", "chance"),
}
"""The features of each part. A task stays itself where the loss is that of a perplexity, which no score compares with."""


def attribute(law: Law, features: Features) -> dict[str, Floats]:
    """The contribution of each part to the predicted loss of each row, in the unit of the loss.

    Args:
        law: the fitted law.
        features: of the rows, baseline and chance filled in (`TaskTable.fill`).
    """
    reference = _reference(features)
    combinations, rows = 1 << len(PARTS), len(features)
    numbers, names = {}, {}
    for place, (part, columns) in enumerate(PARTS.items()):
        kept = np.repeat(np.arange(combinations) >> place & 1 == 1, rows)
        if part == "task":
            kept |= np.tile(features.is_nll, combinations)
        for column in columns:
            if column in features.numbers:
                own, other = features.numbers[column], reference.numbers[column]
                numbers[column] = np.where(kept, np.tile(own, combinations), np.tile(other, combinations))
            else:
                mine, others = features.names[column], reference.names[column]
                names[column] = np.where(kept, np.tile(mine, combinations), np.tile(others, combinations))
    stacked = Features(numbers=numbers, names=names, is_nll=np.tile(features.is_nll, combinations))
    return dict(zip(PARTS, _shapley(law.damage(stacked).loss.reshape(combinations, rows)), strict=True))


def _reference(features: Features) -> Features:
    """The reference, once for each row."""
    task = find_task(REFERENCE_TASK)
    row: dict[str, object] = {
        "params_b": REFERENCE_SIZE_B, "active_params_b": REFERENCE_SIZE_B, "context": REFERENCE_TOKENS, "method": "rtn",
        "task": task.name, "task_type": task.type, "ability": task.ability, "metric": task.metric, "chance": task.chance,
    }  # fmt: skip
    return encode({name: [value] * len(features) for name, value in row.items()})


def _shapley(value: Floats) -> NDArray[np.float64]:
    """Shapley values (parts x rows) from the value of every combination (combinations x rows)."""
    count = len(PARTS)
    combinations = np.arange(1 << count)
    sizes = np.array([int(kept).bit_count() for kept in combinations])
    out = np.zeros((count, value.shape[1]))
    for place in range(count):
        without = combinations[combinations >> place & 1 == 0]
        orders = np.array([factorial(size) * factorial(count - size - 1) / factorial(count) for size in sizes[without]])
        out[place] = orders @ (value[without | 1 << place] - value[without])
    return out
