"""What a forecast must beat: constants per bits, medians, and a forest as it comes out of the box.

Every baseline has the same form: fit on some rows, predict others, with nothing but the evidence's columns.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from advisor.features import Floats
from advisor.scores import weighted_quantile
from advisor.training import TrainingSet

Ints = NDArray[np.intp]
Baseline = Callable[[TrainingSet, Ints, Ints], Floats]

PEER_CONSTANTS = {6: 0.01, 5: 0.02, 4: 0.05, 3: 0.08, 2: 0.12, 1: 0.12}
"""Loss by weight bits in tools that recommend a GGUF file for a machine (llmfit and the like); activations and KV cost 0."""

_LEAST_ROWS = 3
_NUMBERS = ("params_b", "tuned", "w_bits", "w_group", "w_sym", "a_bits", "kv_bits", "context")
_NAMES = ("family", "method", "w_dtype", "a_dtype", "kv_dtype", "task", "task_type", "ability", "metric")


def constants(data: TrainingSet, _train: Ints, test: Ints) -> Floats:
    """Peers' constant for the weight bits."""
    return np.array([PEER_CONSTANTS.get(int(np.ceil(bits)), 0.0) for bits in data.features.numbers["w_bits"][test]])


def medians_by_bits(data: TrainingSet, train: Ints, test: Ints) -> Floats:
    """Weighted median of rows with the same bits of weights, activations and KV cache."""
    return _medians(data, train, test, ((),))


def medians_by_bits_method_type(data: TrainingSet, train: Ints, test: Ints) -> Floats:
    """The same by method and task type too; with less than 3 rows by task type, then by bits alone."""
    return _medians(data, train, test, (("method", "task_type"), ("task_type",), ()))


def untuned_forest(data: TrainingSet, train: Ints, test: Ints) -> Floats:
    """scikit-learn's histogram gradient boosting with default settings, native missing values, names as numbers."""
    return _forest(data, train, test, loss="squared_error")


def untuned_quantile(share: float) -> Baseline:
    """The same forest for a quantile."""
    return lambda data, train, test: _forest(data, train, test, loss="quantile", quantile=share)


BASELINES: dict[str, Baseline] = {
    "peers' constants": constants,
    "medians by bits": medians_by_bits,
    "medians by bits, method, task type": medians_by_bits_method_type,
    "untuned forest": untuned_forest,
}


def _medians(data: TrainingSet, train: Ints, test: Ints, levels: tuple[tuple[str, ...], ...]) -> Floats:
    bits = [data.features.numbers[name].tolist() for name in ("w_bits", "a_bits", "kv_bits")]
    out = np.full(len(test), np.nan)
    for names in levels:
        columns = [*bits, data.features.is_nll.tolist(), *(data.names(name).tolist() for name in names)]
        keys = list(zip(*columns, strict=True))
        groups: dict[tuple[object, ...], list[int]] = {}
        for row in train.tolist():
            groups.setdefault(keys[row], []).append(row)
        found = {
            key: weighted_quantile(data.loss[rows], data.weights[rows], 0.5)
            for key, rows in groups.items()
            if len(rows) >= _LEAST_ROWS
        }
        out = np.where(np.isnan(out), [found.get(keys[row], np.nan) for row in test.tolist()], out)
    return np.asarray(np.nan_to_num(out), dtype=np.float64)


def _forest(data: TrainingSet, train: Ints, test: Ints, **settings: object) -> Floats:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    x = _matrix(data)
    out = np.zeros(len(test))
    for nll in (False, True):
        rows, wanted = train[data.features.is_nll[train] == nll], data.features.is_nll[test] == nll
        if wanted.any() and len(rows):
            filled = ~np.isnan(x[rows]).all(axis=0)
            with threadpool_limits(1):
                model = HistGradientBoostingRegressor(random_state=0, **settings).fit(x[rows][:, filled], data.loss[rows])
            out[wanted] = model.predict(x[test[wanted]][:, filled])
    return out


@lru_cache(maxsize=1)
def _matrix(data: TrainingSet) -> Floats:
    numbers = [data.columns[name].astype(np.float64) for name in _NUMBERS]
    names = [np.unique(data.names(name).astype(str), return_inverse=True)[1].astype(np.float64) for name in _NAMES]
    return np.column_stack([*numbers, *names])
