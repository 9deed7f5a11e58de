"""Finds the coefficients of the law: penalised, robust least squares over all evidence at once (scipy, fits only).

Residuals enter by a smooth absolute value, because figures have heavy tails and the law's point is a median; coefficients
by their prior (`Term.sd`). Perplexity rises are compressed (asinh), so that a collapse of 10 nats does not count as 100
times one of 0.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advisor.features import Features, Floats, Names
from advisor.law import ETA_RANGE, KINDS, PARTS, TERMS, Law, active, multipliers, pieces, softplus, softplus_slope
from advisor.scale import KNEE_NATS, compress, target

_SMOOTH = 0.01
"""Residuals below this count by their square."""
_PRIOR = 0.6
_START = {"w0:one:": -3.0, "a0:one:": -4.0, "k0:one:": -4.0, "w1:one:": 1.0, "a1:one:": 1.0, "k1:one:": 1.0}
_NLL_WEIGHT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The evidence as sparse matrices, one for each part; made once, cut to rows for each fit."""

    vocabulary: Mapping[str, Mapping[str, int]]
    names: dict[str, Names]
    matrices: dict[str, object]
    offsets: dict[str, int]
    """Where each term's coefficients begin in the vector of all."""
    shapes: dict[str, tuple[int, ...]]
    sd: Floats
    starts: dict[str, int]
    """Where each part begins."""
    features: Features

    def law(self, theta: Floats) -> Law:
        """The law with these coefficients."""
        tables = {}
        for term in TERMS:
            if term.only_fit:
                continue
            shape = self.shapes[term.name]
            first = self.offsets[term.name]
            table = np.zeros(tuple(n + 1 for n in shape))
            table[tuple(slice(n) for n in shape)] = theta[first : first + int(np.prod(shape))].reshape(shape)
            tables[term.name] = table
        return Law(vocabulary=self.vocabulary, tables=tables)


def make_design(features: Features, sources: Names) -> Design:
    """The design of the law over evidence rows."""
    from scipy import sparse

    names = {**features.names, "source": sources}
    used = {name for term in TERMS for name in term.by}
    vocabulary = {name: {value: i for i, value in enumerate(sorted(set(names[name]) - {""}))} for name in sorted(used)}
    codes = {name: np.array([vocabulary[name].get(value, -1) for value in names[name]]) for name in used}
    factors = multipliers(features)
    matrices: dict[str, object] = {}
    offsets: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    starts: dict[str, int] = {}
    sd: list[Floats] = []
    total = 0
    for part in PARTS:
        starts[part] = total
        rows, columns, values = [], [], []
        applies = _applies(features, part)
        for term in (term for term in TERMS if term.part == part):
            shape = tuple(len(vocabulary[name]) for name in term.by)
            place = np.zeros(len(features), dtype=np.int64)
            known = applies & (factors[term.times] != 0)
            for name, size in zip(term.by, shape, strict=True):
                known &= codes[name] >= 0
                place = place * size + codes[name]
            offsets[term.name], shapes[term.name] = total, shape
            rows.append(np.flatnonzero(known))
            columns.append(place[known] + total - starts[part])
            values.append(factors[term.times][known])
            total += int(np.prod(shape))
            sd.append(np.full(int(np.prod(shape)), term.sd))
        width = total - starts[part]
        cells = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        matrices[part] = sparse.csr_matrix(cells, shape=(len(features), width))
    return Design(
        vocabulary=vocabulary, names=names, matrices=matrices, offsets=offsets, shapes=shapes, sd=np.concatenate(sd),
        starts=starts, features=features,
    )  # fmt: skip


def _applies(features: Features, part: str) -> NDArray[np.bool_]:
    """Rows that a part has to do with."""
    if part[0] in KINDS:
        return active(features, part[0])
    return features.is_nll if part == "u" else ~features.is_nll


def fit_law(
    design: Design, loss: Floats, weights: Floats, rows: NDArray[np.intp], *, start: Floats | None = None, steps: int = 150
) -> Floats:
    """Coefficients that fit the losses of `rows`.

    Args:
        design: from `make_design`, over all rows.
        loss: loss of each row of the design.
        weights: weight of each row of the design.
        rows: rows to fit.
        start: coefficients to start from; default: a generic law.
        steps: most steps of L-BFGS.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    problem = _Problem(design, loss, weights, rows)
    if start is None:
        start = np.zeros(len(design.sd))
        for name, value in _START.items():
            start[design.offsets[name]] = value
    theta = np.zeros(len(design.sd))
    with threadpool_limits(1):  # the vectors are short: threads would only wait for each other
        options = {"maxiter": steps, "maxcor": 20}
        found = minimize(problem.value_and_slope, start[problem.used], jac=True, method="L-BFGS-B", options=options)
    theta[problem.used] = found.x
    return theta


class _Problem:
    """The penalised sum of residuals and its slope."""

    def __init__(self, design: Design, loss: Floats, weights: Floats, rows: NDArray[np.intp]) -> None:
        features = design.features.take(rows)
        self.matrices, self.starts, used, first = {}, {}, [], 0
        for part in PARTS:
            matrix = design.matrices[part][rows]  # type: ignore[index]
            columns = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]))
            self.matrices[part], self.starts[part] = matrix[:, columns], first
            used.append(columns + design.starts[part])
            first += len(columns)
        self.used = np.concatenate(used)
        """Coefficients that any of the rows bears on; all others stay zero."""
        self.transposed = {part: matrix.T.tocsr() for part, matrix in self.matrices.items()}
        self.is_nll = features.is_nll
        self.target = target(loss[rows], features.is_nll)
        self.weights = np.where(features.is_nll, _NLL_WEIGHT, 1.0) * weights[rows] / weights[rows].mean()
        self.active = {kind: active(features, kind) for kind in KINDS}
        self.pieces = {kind: pieces(features, kind) for kind in KINDS}
        self.prior = _PRIOR / design.sd[self.used] ** 2

    def value_and_slope(self, theta: Floats) -> tuple[float, Floats]:
        linear = {part: m @ theta[self.starts[part] : self.starts[part] + m.shape[1]] for part, m in self.matrices.items()}
        damages = {kind: self._damage(linear, kind) for kind in KINDS}
        total = damages["w"] + damages["a"] + damages["k"] + 1e-9
        power, log_total = np.exp(linear["p"]), np.log(total)
        raw = power * log_total + linear["t"]
        score = np.exp(np.clip(raw, -20, 5))
        nats = total * np.exp(linear["u"])
        residual = np.where(self.is_nll, compress(nats), -np.expm1(-score)) - self.target
        smooth = np.sqrt(residual**2 + _SMOOTH**2)
        value = float(self.weights @ (smooth - _SMOOTH) + 0.5 * self.prior @ theta**2)
        outer = self.weights * residual / smooth
        by_t = np.where(self.is_nll, 0.0, outer * np.exp(-score) * score)
        by_nats = np.where(self.is_nll, outer * KNEE_NATS / np.sqrt(nats**2 + KNEE_NATS**2), 0.0)
        by_total = by_t * power / total + by_nats * np.exp(linear["u"])
        slopes = {"t": by_t, "p": by_t * log_total * power, "u": by_nats * nats}
        for kind in KINDS:
            slopes |= self._by_parts(linear, kind, by_total * damages[kind])
        slope = np.concatenate([self.transposed[part] @ slopes[part] for part in PARTS])
        return value, slope + self.prior * theta

    def _damage(self, linear: Mapping[str, Floats], kind: str) -> Floats:
        out, slope = linear[f"{kind}0"], np.zeros(len(self.target))
        for i, piece in enumerate(self.pieces[kind], start=1):
            slope = slope + linear[f"{kind}{i}"]
            out = out + softplus(slope) * piece
        return np.where(self.active[kind], np.exp(np.clip(out, *ETA_RANGE)), 0.0)

    def _by_parts(self, linear: Mapping[str, Floats], kind: str, by_eta: Floats) -> dict[str, Floats]:
        """Slopes for intercept and pieces: piece j depends on the slopes 1 to j."""
        out = {f"{kind}0": by_eta}
        slope, each = np.zeros(len(by_eta)), []
        for i, piece in enumerate(self.pieces[kind], start=1):
            slope = slope + linear[f"{kind}{i}"]
            each.append(by_eta * softplus_slope(slope) * piece)
        for i in range(len(each), 0, -1):
            out[f"{kind}{i}"] = np.sum(each[i - 1 :], axis=0)
        return out
