"""A gradient-boosted forest as plain arrays: evaluated with numpy, made from scikit-learn's, loaded without pickle.

Evaluation follows QuickScorer (Lucchese et al., SIGIR 2015): a tree of up to 16 leaves is a 16-bit mask, a split that a
row fails clears the leaves to its left, and the lowest bit that is still set is the leaf. All masks that one feature can
clear are tabulated by interval of that feature, so that a row costs one table row for each feature instead of a walk
through each tree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge.errors import DataError

LEAVES = 16
"""Most leaves of one tree."""
_FULL = np.uint16(0xFFFF)
_CHUNK = 8192
_LARGEST = 2**62
_FIELDS = ("baseline", "tree", "feature", "threshold", "missing_left", "mask", "values")


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Trees as arrays over their inner nodes, and the values of their leaves."""

    baseline: float
    n_features: int
    tree: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    mask: NDArray[np.uint16]
    """Leaves that stay when the node is failed."""
    values: NDArray[np.float64]
    """Leaf values, one row a tree, leaves from left to right."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The forest's value for each row of `x` (NaN: not known)."""
        out = np.empty(len(x))
        for first in range(0, len(x), _CHUNK):
            out[first : first + _CHUNK] = self._predict(x[first : first + _CHUNK])
        return out

    def _predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(x):
            return np.empty(0)
        places = []
        for feature, thresholds, _ in self._tables:
            column = x[:, feature]
            place = np.searchsorted(thresholds, column, side="left")
            place[np.isnan(column)] = len(thresholds) + 1
            places.append(place)
        first, back = _distinct(places, len(x))
        bits = np.full((len(first), len(self.values)), _FULL)
        for (_, _, table), place in zip(self._tables, places, strict=True):
            bits &= table[place[first]]
        leaf = _LOWEST_BIT[bits]
        values: NDArray[np.float64] = self.values[np.arange(len(self.values)), leaf].sum(axis=1) + self.baseline
        return values[back]

    @cached_property
    def _tables(self) -> list[tuple[int, NDArray[np.float64], NDArray[np.uint16]]]:
        """By feature: its thresholds, and the mask of every tree by interval (the last row is for missing values)."""
        out = []
        for feature in np.flatnonzero(np.bincount(self.feature, minlength=1)):
            nodes = np.flatnonzero(self.feature == feature)
            thresholds, place = np.unique(self.threshold[nodes], return_inverse=True)
            table = np.full((len(thresholds) + 2, len(self.values)), _FULL)
            np.bitwise_and.at(table, (place + 1, self.tree[nodes]), self.mask[nodes])
            np.bitwise_and.accumulate(table[:-1], axis=0, out=table[:-1])
            right = nodes[~self.missing_left[nodes]]
            np.bitwise_and.at(table, (np.full(len(right), len(table) - 1), self.tree[right]), self.mask[right])
            out.append((int(feature), thresholds, table))
        return out

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The forest as named arrays, for a file."""
        arrays: dict[str, NDArray[Any]] = {f"{prefix}.{name}": np.asarray(getattr(self, name)) for name in _FIELDS}
        arrays[f"{prefix}.n_features"] = np.asarray(self.n_features)
        return arrays

    @classmethod
    def from_arrays(cls, prefix: str, arrays: Mapping[str, NDArray[Any]]) -> "Forest":
        """The forest that `arrays` wrote.

        Raises:
            DataError: an array is missing, or the arrays do not belong together.
        """
        try:
            fields: dict[str, Any] = {name: arrays[f"{prefix}.{name}"] for name in _FIELDS}
            n_features = int(arrays[f"{prefix}.n_features"])
        except KeyError as error:
            raise DataError(f"forest {prefix!r} lacks the array {error}") from None
        lengths = {len(fields[name]) for name in ("tree", "feature", "threshold", "missing_left", "mask")}
        valid = len(lengths) == 1 and fields["values"].ndim == 2 and fields["values"].shape[1] == LEAVES
        if valid and lengths != {0}:
            valid = fields["tree"].max() < len(fields["values"]) and fields["feature"].max() < n_features
        if not valid:
            raise DataError(f"the arrays of forest {prefix!r} do not belong together")
        fields["baseline"] = float(fields["baseline"])
        return cls(n_features=n_features, **fields)


def _distinct(places: Sequence[NDArray[np.intp]], n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first of those of `n` rows that lie between the same thresholds, and for each row which of these it is like.

    They end in the same leaves of every tree: of the thousands of rows of a request some hundred differ.
    """
    number, size = np.zeros(n, dtype=np.int64), 1
    for place in places:
        width = int(place.max()) + 1
        if size * width > _LARGEST:
            found, number = np.unique(number, return_inverse=True)
            size = len(found)
        number, size = number * width + place, size * width
    _, first, back = np.unique(number, return_index=True, return_inverse=True)
    return first, back


def from_sklearn(model: Any) -> Forest:
    """The forest of a fitted `HistGradientBoostingRegressor` without categorical features and with at most 16 leaves a tree."""
    trees = [stage[0].nodes for stage in model._predictors]
    columns: dict[str, list[Any]] = {name: [] for name in ("tree", "feature", "threshold", "missing_left", "mask")}
    values = np.zeros((len(trees), LEAVES))
    for t, nodes in enumerate(trees):
        spans: dict[int, tuple[int, int]] = {}
        leaves = _spans(nodes, 0, 0, spans)
        if leaves > LEAVES:
            raise DataError(f"a tree has {leaves} leaves", allowed=f"at most {LEAVES}")
        for i, node in enumerate(nodes):
            first = spans[i][0]
            if node["is_leaf"]:
                values[t, first] = node["value"]
                continue
            middle = spans[int(node["left"])][1]
            cleared = ((1 << middle) - 1) ^ ((1 << first) - 1)
            columns["tree"].append(t)
            columns["feature"].append(int(node["feature_idx"]))
            columns["threshold"].append(float(node["num_threshold"]))
            columns["missing_left"].append(bool(node["missing_go_to_left"]))
            columns["mask"].append(0xFFFF ^ cleared)
    return Forest(
        baseline=float(np.ravel(model._baseline_prediction)[0]),
        n_features=int(model.n_features_in_),
        tree=np.array(columns["tree"], dtype=np.int32),
        feature=np.array(columns["feature"], dtype=np.int32),
        threshold=np.array(columns["threshold"], dtype=np.float64),
        missing_left=np.array(columns["missing_left"], dtype=bool),
        mask=np.array(columns["mask"], dtype=np.uint16),
        values=values,
    )


def stack(forests: Sequence[Forest], scales: Sequence[float] | NDArray[np.float64], baseline: float) -> Forest:
    """The sum of forests, each times its scale, plus `baseline`."""
    counts = np.cumsum([0, *(len(forest.values) for forest in forests)])
    return Forest(
        baseline=baseline + sum(scale * forest.baseline for forest, scale in zip(forests, scales, strict=True)),
        n_features=forests[0].n_features,
        tree=np.concatenate([forest.tree + first for forest, first in zip(forests, counts, strict=False)]).astype(np.int32),
        feature=np.concatenate([forest.feature for forest in forests]),
        threshold=np.concatenate([forest.threshold for forest in forests]),
        missing_left=np.concatenate([forest.missing_left for forest in forests]),
        mask=np.concatenate([forest.mask for forest in forests]),
        values=np.concatenate([scale * forest.values for forest, scale in zip(forests, scales, strict=True)]),
    )


def _spans(nodes: Any, i: int, first: int, spans: dict[int, tuple[int, int]]) -> int:
    """Fills in the first and one past the last leaf below each node, and returns the latter for node `i`."""
    node = nodes[i]
    last = first + 1
    if not node["is_leaf"]:
        last = _spans(nodes, int(node["right"]), _spans(nodes, int(node["left"]), first, spans), spans)
    spans[i] = (first, last)
    return last


_LOWEST_BIT: NDArray[np.int8] = np.zeros(1 << LEAVES, dtype=np.int8)
for _bit in range(LEAVES):
    _LOWEST_BIT[1 << _bit :: 2 << _bit] = _bit
