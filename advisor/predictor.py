"""The predictor of quantization loss: a law for the point, monotone forests with a conformal correction for the bounds.

`load_predictor()` reads the packaged fit (arrays and one JSON text, no pickle, no scikit-learn); `advisor.fit` makes it.

Guarantees, tested in `tests/advisor/test_predictor.py`:

- an unquantized recipe loses 0 by definition, point and bounds; a tensor kind left at 16 bits contributes nothing;
- within one codebook, fewer bits of a tensor kind or longer groups never lower point, lower or upper bound;
- any column may be missing, any model, family, method or task unknown: then `in_support` tells what is extrapolated.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor import conformal
from advisor.arrays import pack, unpack
from advisor.conformal import Correction, Places
from advisor.features import COLUMNS, DELTA_NLL, RELATIVE, Bools, Column, Features, Floats, Names, encode, plain_cells
from advisor.forest import Forest
from advisor.law import KINDS, TERMS, Damage, Law
from advisor.scale import MOST_LOST, stretch, unstretch
from knowledge.errors import DataError, StoreError
from knowledge.evidence import JUDGE_SE
from knowledge.tasks import METRICS
from knowledge.values import value

FORMAT_VERSION = 2
PACKAGED = Path(__file__).parent / "fitted" / "predictor.safetensors"

NOVELTIES = ("same conditions", "known model", "known family", "unseen family")
"""What the evidence has seen: the model's other figures by the same source, the model elsewhere, its family, nothing.

Intervals are calibrated for each on figures left out in that way. A request is answered by one of the last three: how the user
will test is not known.
"""
LOSSES = (RELATIVE, DELTA_NLL)

NATS_NOISE = 0.004
"""Perplexity rises below this count as small."""

_SIZE_MARGIN = 1.5
_CONTEXT_MARGIN = 2.0


@value
class Predictions:
    """Predicted loss of each row, with bounds between which a measured figure lies with probability `level`."""

    point: Floats
    """Share of above-chance performance lost, or rise of the negative log-likelihood in nats, by `kind`."""
    lower: Floats
    """May be negative: small losses drown in the noise of a test."""
    upper: Floats
    level: float
    n_calibration: NDArray[np.intp]
    """Left-out figures of the same tensor kinds and bits that the bounds were calibrated on; 0 = borrowed from others."""
    in_support: Bools
    """False where the prediction extrapolates: size, tensor kinds and bits, codebook, method or task type without evidence."""
    kind: Names
    """`relative` or `delta_nll`."""

    def __len__(self) -> int:
        return len(self.point)


@value
class TaskTable:
    """What is typical of a task, for rows that do not say it: items, baseline score and chance level."""

    items: Mapping[str, float]
    baseline: Mapping[str, float]
    chance: Mapping[str, float]

    def fill(self, features: Features) -> Features:
        """Features with baseline and chance level of the task where they were missing."""
        numbers = dict(features.numbers)
        for name, table in (("baseline", self.baseline), ("chance", self.chance)):
            typical = features.mapped("task", _reading(table, np.nan))
            numbers[name] = np.where(np.isnan(numbers[name]), typical, numbers[name])
        return replace(features, numbers=numbers)

    def noise(self, features: Features) -> Floats:
        """Standard error of a loss that the task's items alone cause; for perplexities a constant."""
        items = features.mapped("task", _reading(self.items, 1000.0))
        best = features.mapped("metric", _reading(_BEST_SCORES, 100.0))
        baseline = np.where(np.isnan(features.numbers["baseline"]), 0.6 * best, features.numbers["baseline"])
        above = np.maximum(baseline - np.nan_to_num(features.numbers["chance"]), 0.05 * best)
        share = np.clip(baseline / best, 0.1, 0.9)
        judged = features.mapped("metric", "score10".__eq__, bool)
        error = np.where(judged, JUDGE_SE, best * np.sqrt(share * (1 - share) / np.maximum(items, 20))) / above
        return np.where(features.is_nll, NATS_NOISE, np.clip(error, 0.01, 0.3))


def _reading(table: Mapping[str, float], missing: float) -> Callable[[str], float]:
    """What `table` has for a name."""
    return lambda name: table.get(name, missing)


_BEST_SCORES = {name: metric.maximum for name, metric in METRICS.items() if metric.maximum}
"""The best score of each metric that has one; others are taken for percentages."""


@value
class Support:
    """What the evidence covers."""

    log_size: tuple[float, float]
    context: float
    cells: Bools
    """Cells of tensor kinds and bits (`advisor.conformal`) with evidence."""

    def of(self, features: Features, law: Law) -> Bools:
        """Whether each row lies within it."""
        size, context = features.numbers["params_b"], features.numbers["context"]
        low, high = self.log_size
        inside = (size > np.exp(low) / _SIZE_MARGIN) & (size < np.exp(high) * _SIZE_MARGIN)
        inside &= ~(context > self.context * _CONTEXT_MARGIN) & self.cells[conformal.cells(features)]
        for name in ("method", "task_type"):
            inside &= law.knows(name, features)
        for name in ("code", "a_code", "kv_code"):
            inside &= law.knows(name, features) | (features.names[name] == "")
        return np.asarray(inside, dtype=bool)


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A fitted predictor."""

    law: Law
    bounds: Mapping[str, Forest]
    """`LOSS.lower` and `LOSS.upper` for both kinds of loss."""
    corrections: Mapping[tuple[str, int], Correction]
    """By kind of loss and novelty."""
    tasks: TaskTable
    support: Support
    level: float
    provenance: Mapping[str, Any]
    """What it was fitted on: numbers of rows, models, families and sources."""

    def predict(self, columns: Mapping[str, Column]) -> Predictions:
        """The loss of each row; columns as in the candidate relation, those missing count as unknown.

        Raises:
            DataError: columns differ in length, or hold what is no number.
        """
        unique, place = _distinct(columns)
        found = self.predict_features(encode(unique))
        return Predictions(
            point=found.point[place], lower=found.lower[place], upper=found.upper[place], level=found.level,
            n_calibration=found.n_calibration[place], in_support=found.in_support[place], kind=found.kind[place],
        )  # fmt: skip

    def explain(self, columns: Mapping[str, Column]) -> dict[str, Floats]:
        """What each part of a case (`advisor.attribution.PARTS`) adds to the predicted loss of each row.

        The parts of a row add up to its `point`, in the same unit.

        Raises:
            DataError: columns differ in length, or hold what is no number.
        """
        from advisor.attribution import attribute

        return attribute(self.law, self.tasks.fill(encode(columns)))

    def predict_features(self, features: Features) -> Predictions:
        """The loss of each row of encoded features."""
        features = self.tasks.fill(features)
        damage = self.law.damage(features)
        noise = self.tasks.noise(features)
        novelty = novelty_of(features, self.law)
        places = places_of(features, self.law)
        lower, upper, count = np.empty(len(features)), np.empty(len(features)), np.zeros(len(features), dtype=np.intp)
        inputs = bound_inputs(features, damage, noise, novelty)
        for loss, wanted in ((RELATIVE, ~features.is_nll), (DELTA_NLL, features.is_nll)):
            rows = np.flatnonzero(wanted)
            if not len(rows):
                continue
            raw = [self.bounds[f"{loss}.{side}"].predict(inputs[rows]) for side in ("lower", "upper")]
            for level in np.flatnonzero(np.bincount(novelty[rows])):
                part = novelty[rows] == level
                correction = self.corrections[loss, int(level)]
                here = places.take(rows[part])
                lower[rows[part]], upper[rows[part]] = conformal.widen(raw[0][part], raw[1][part], here, correction)
                count[rows[part]] = correction.count[here.cell]
        lower, upper = on_losses(lower, upper, noise, features)
        plain = damage.total == 0
        return Predictions(
            point=damage.loss,
            lower=np.where(plain, 0.0, np.minimum(lower, damage.loss)),
            upper=np.where(plain, 0.0, np.maximum(upper, damage.loss)),
            level=self.level,
            n_calibration=count,
            in_support=self.support.of(features, self.law) | plain,
            kind=np.where(features.is_nll, DELTA_NLL, RELATIVE).astype(object),
        )


def places_of(features: Features, law: Law) -> Places:
    """Cell and task type of each row."""
    known = len(law.vocabulary["task_type"])
    return Places(cell=conformal.cells(features), group=law.codes("task_type", features), n_groups=known)


def novelty_of(features: Features, law: Law) -> NDArray[np.intp]:
    """Place of each row's model in `NOVELTIES`."""
    return np.where(law.knows("model", features), 1, np.where(law.knows("family", features), 2, 3))


MOST_GAINED = 3.0
"""Lower end of bounds, in standard errors of the test: what lies beyond is no gain that quantization can bring."""


def on_losses(lower: Floats, upper: Floats, noise: Floats, features: Features) -> tuple[Floats, Floats]:
    """Bounds on the scale of losses: a score falls to zero at most, and a gain is at most the test's noise.

    Args:
        lower: bounds on the scale of `advisor.scale.stretch`.
        upper: likewise.
        noise: of each row's task.
        features: of each row, with baseline and chance level where known.
    """
    baseline, above = features.numbers["baseline"], features.numbers["baseline"] - np.nan_to_num(features.numbers["chance"])
    known = above > 0
    lost = np.where(known, np.clip(baseline / np.where(known, above, 1.0), 1.0, MOST_LOST), MOST_LOST)
    most = np.where(features.is_nll, np.inf, lost)
    low, high = np.maximum(unstretch(lower, noise), -MOST_GAINED * noise), unstretch(upper, noise)
    return np.minimum(low, most), np.minimum(high, most)


BOUND_INPUTS = ("point", "w", "a", "k", "sensitivity", "size", "noise", "novelty", "context")
BOUND_MONOTONE = (1, 1, 1, 1, 0, 0, 0, 0, 0)
"""What the forests of the bounds see, and in what their value never falls."""


def bound_inputs(features: Features, damage: Damage, noise: Floats, novelty: NDArray[np.intp]) -> Floats:
    """The inputs of the bounds' forests, in the order of `BOUND_INPUTS`."""
    point = stretch(damage.loss, noise)
    kinds = [np.log(damage.kinds[kind] + 1e-4) for kind in KINDS]
    size = np.log(np.maximum(features.numbers["params_b"], 1e-3))
    return np.column_stack([point, *kinds, damage.sensitivity, size, np.log(noise), novelty, features.numbers["context"]])


def _distinct(columns: Mapping[str, Column]) -> tuple[dict[str, Column], NDArray[np.intp]]:
    """Rows that differ in what a prediction depends on, and where each row went."""
    used = [name for name in COLUMNS if name in columns]
    lengths = {len(columns[name]) for name in columns}
    if len(lengths) != 1 or not used:
        return dict(columns), np.arange(max(lengths, default=0))
    places: dict[tuple[object, ...], int] = {}
    rows = zip(*(plain_cells(columns[name]) for name in used), strict=True)
    place = np.array([places.setdefault(row, len(places)) for row in rows], dtype=np.intp)
    cells = list(zip(*places, strict=True))
    return {name: cells[i] if cells else [] for i, name in enumerate(used)}, place


@lru_cache(maxsize=4)
def load_predictor(path: Path | None = None) -> Predictor:
    """The fitted predictor in `path`, by default the packaged one.

    Raises:
        StoreError: the file cannot be read.
        DataError: it was changed or cut off after it was written, or is of another version.
    """
    file = path or PACKAGED
    try:
        content = file.read_bytes()
    except OSError as error:
        raise StoreError(
            f"cannot read the fitted predictor {file}: {error.strerror}",
            given=str(file),
            hint="`python -m advisor.fit` makes the packaged one; where a refresh made it, `qadvisor knowledge rollback ID`",
        ) from error
    return from_bytes(content, str(file))


def from_bytes(content: bytes, name: str) -> Predictor:
    """The predictor that `to_bytes` wrote.

    Raises:
        DataError: the content is damaged, or of another version.
    """
    try:
        arrays = unpack(content)
        digest = bytes(arrays.pop("digest")).decode()
        intact = digest == digest_of(arrays)
    except Exception as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    if not intact:
        raise _damaged(name, "its checksum does not match its content")
    try:
        facts = json.loads(bytes(arrays["facts"]))
        found = facts["format_version"]
        predictor = _build(facts, arrays) if found == FORMAT_VERSION else None
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    if predictor is None:
        raise DataError(
            f"the fitted predictor {name} is of format {found}", given=str(found), allowed=str(FORMAT_VERSION),
            hint="`python -m advisor.fit` makes one; where a refresh made it, `qadvisor knowledge rollback packaged`",
        )  # fmt: skip
    return predictor


def _build(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Predictor:
    vocabulary = {name: {value: i for i, value in enumerate(values)} for name, values in facts["vocabulary"].items()}
    tables = {}
    first = 0
    for term in TERMS:
        if not term.only_fit:
            shape = tuple(len(vocabulary[name]) + 1 for name in term.by)
            size = int(np.prod(shape))
            tables[term.name] = arrays["law"][first : first + size].reshape(shape)
            first += size
    return Predictor(
        law=Law(vocabulary=vocabulary, tables=tables),
        bounds={
            f"{loss}.{side}": Forest.from_arrays(f"{loss}.{side}", arrays) for loss in LOSSES for side in ("lower", "upper")
        },
        corrections={(loss, i): conformal.from_arrays(f"{loss}.{i}", arrays) for loss in LOSSES for i in range(len(NOVELTIES))},
        tasks=TaskTable(**facts["tasks"]),
        support=Support(log_size=tuple(facts["log_size"]), context=facts["context"], cells=arrays["support"]),
        level=facts["level"],
        provenance=facts["provenance"],
    )


def to_bytes(predictor: Predictor) -> bytes:
    """The predictor as one file: equal predictors give equal bytes."""
    facts = {
        "format_version": FORMAT_VERSION,
        "vocabulary": {name: list(values) for name, values in predictor.law.vocabulary.items()},
        "tasks": {name: dict(getattr(predictor.tasks, name)) for name in ("items", "baseline", "chance")},
        "log_size": list(predictor.support.log_size),
        "context": predictor.support.context,
        "level": predictor.level,
        "provenance": dict(predictor.provenance),
    }
    tables = [predictor.law.tables[term.name].ravel() for term in TERMS if not term.only_fit]
    arrays: dict[str, NDArray[Any]] = {
        "facts": np.frombuffer(json.dumps(facts, sort_keys=True).encode(), dtype=np.uint8),
        "law": np.concatenate(tables),
        "support": predictor.support.cells,
    }
    for name, forest in predictor.bounds.items():
        arrays |= forest.arrays(name)
    for (loss, novelty), correction in predictor.corrections.items():
        arrays |= conformal.as_arrays(f"{loss}.{novelty}", correction)
    arrays["digest"] = np.frombuffer(digest_of(arrays).encode(), dtype=np.uint8)
    return pack(arrays)


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, types, shapes and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape};".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _damaged(name: str, reason: str) -> DataError:
    return DataError(
        f"the fitted predictor {name} is damaged and was not loaded: {reason}", given=name,
        hint="reinstall qadvisor or run `python -m advisor.fit`; where a refresh made it, `qadvisor knowledge rollback ID`",
    )  # fmt: skip
