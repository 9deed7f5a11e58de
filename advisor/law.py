"""The law: how damage grows with noise, size, family and method, and what a task makes of it.

Each tensor kind (weights `w`, activations `a`, KV cache `k`) adds damage `exp(eta)`, where `eta` is linear in the noise of
its format (`advisor.noise`) in pieces: one slope for fine formats, further ones beyond a knee, because rounding to 3 and
to 2 bits collapses faster than an exponential says. Every slope is kept above zero (softplus), so that damage never falls
with fewer bits or longer groups. Intercepts and slopes have offsets by method, codebook, family, series and model.

    rise of the negative log-likelihood = (w + a + k) * exp(u)                       u: by perplexity test
    share of above-chance performance   = 1 - exp(-exp(p * ln(w + a + k) + t))        t, p: by task, ability, type

The same damage explains perplexities and scores, so each informs the other. Form: exponential in bits and a power of size
(Kumar et al. 2411.04330; Dettmers and Zettlemoyer 2212.09720), family and task offsets (Zhou et al. 2508.18609). All
offsets are pooled towards zero by their prior standard deviation, so an unseen name gets the mean. `advisor.law_fit` finds
the coefficients.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from advisor.features import Features, Floats
from knowledge.values import value

PARTS = ("w0", "w1", "w2", "w3", "a0", "a1", "a2", "k0", "k1", "k2", "k3", "t", "p", "u")
"""Linear predictors: intercept and slopes of each tensor kind, sensitivity and exponent of tasks, unit of perplexities."""

KINDS = ("w", "a", "k")
_NOISE = {"w": "w_noise", "a": "a_noise", "k": "kv_noise"}
_KNEES = {"w": (-4.7, -4.2, -2.8), "a": (-9.0, -5.0), "k": (-7.0, -4.0, -2.6)}
"""Where each slope begins; at the first the intercept is read."""

ETA_RANGE = (-15.0, 6.0)

EXCESS_TRUST = 0.5
"""Share of a probe's `weight_excess` (`advisor.probing`) that is added to ln(damage) of the weights. No published figure comes
with a probe, so it is not fitted: chosen on models that were measured with rounding and with other methods
(`docs/experiments.md`)."""
_SHARPNESS = 8.0
_FLOOR = 1e-9


@value
class Term:
    """One group of coefficients: part, the names it has one coefficient for each of, the number it is multiplied by."""

    part: str
    by: tuple[str, ...] = ()
    times: str = "one"
    sd: float = 1.0
    """Prior standard deviation: how far a coefficient may lie from zero without much evidence."""
    only_fit: bool = False
    """Explains differences between sources while fitting; zero in predictions."""

    @property
    def name(self) -> str:
        """`part:times:by|by`."""
        return f"{self.part}:{self.times}:{'|'.join(self.by)}"


def _terms(part: str, *terms: tuple[object, ...]) -> tuple[Term, ...]:
    """Terms of one part from (times, sd, *by)."""
    return tuple(Term(part=part, times=str(t[0]), sd=float(t[1]), by=tuple(map(str, t[2:]))) for t in terms)  # type: ignore[arg-type]


SOURCE_SD = 0.05

_BIASED_SERIES = frozenset(("qwen", "qwen1.5", "qwen2", "qwen2.5", "deepseek-r1-distill-qwen"))
"""Series with biases on Q, K and V where no fact says so: they break under rotated KV quantization (Liu et al. 2504.04823)."""

TERMS: tuple[Term, ...] = (
    *_terms("w0", ("one", 5), ("size", 2), ("size2", 0.5), ("tuned", 0.2), ("static", 0.2), ("active", 0.3)),
    *_terms("w0", ("one", 0.7, "method"), ("size", 0.2, "method"), ("one", 0.5, "code"), ("one", 0.3, "method", "code")),
    *_terms("w0", ("one", 0.5, "family"), ("one", 0.4, "series"), ("one", 0.4, "model")),
    *_terms("w0", ("one", 0.25, "family", "method"), ("one", 0.3, "series", "method")),
    *_terms("w0", ("one", 0.4, "code", "task_type"), ("one", 0.3, "method", "task_type")),
    *_terms("w1", ("one", 3), ("one", 0.3, "method")),
    *_terms("w2", ("one", 3), ("size", 0.5), ("tuned", 0.3), ("one", 0.5, "method"), ("one", 0.4, "code")),
    *_terms("w2", ("one", 0.3, "family"), ("one", 0.2, "model"), ("one", 0.2, "series")),
    *_terms("w3", ("one", 3), ("size", 0.5), ("one", 0.7, "method")),
    *_terms("a0", ("one", 5), ("size", 1), ("tuned", 0.3), ("static", 0.3), ("one", 0.7, "method"), ("one", 0.5, "a_code")),
    *_terms("a0", ("one", 0.5, "family"), ("one", 0.3, "series"), ("one", 0.4, "model")),
    *_terms("a1", ("one", 3)),
    *_terms("a2", ("one", 3), ("size", 0.5), ("one", 0.7, "method"), ("one", 0.5, "a_code")),
    *_terms("k0", ("one", 5), ("size", 1), ("tuned", 0.3), ("one", 0.7, "kv_method"), ("one", 0.4, "kv_code")),
    *_terms("k0", ("one", 0.5, "family"), ("one", 0.3, "series"), ("one", 0.4, "model"), ("one", 0.5, "ability")),
    *_terms("k0", ("one", 0.4, "task"), ("ctx", 1), ("bias", 0.5), ("bias", 0.5, "kv_method"), ("gqa", 0.3)),
    *_terms("k1", ("one", 3)),
    *_terms("k2", ("one", 3), ("size", 0.5), ("one", 0.5, "kv_method")),
    *_terms("k3", ("one", 3)),
    *_terms("t", ("one", 5), ("one", 0.7, "task_type"), ("one", 0.5, "ability"), ("one", 0.4, "task"), ("one", 0.3, "metric")),
    *_terms("t", ("head", 1), ("base", 1), ("ctx", 1), ("chance", 1), ("size", 0.5), ("reasoning", 0.5), ("tuned", 0.3)),
    *_terms("t", ("one", 0.3, "family"), ("one", 0.3, "model"), ("one", 0.2, "model", "task")),
    *_terms("p", ("one", 0.5), ("one", 0.2, "task_type")),
    *_terms("u", ("one", 0.3, "task")),
    Term(part="w0", by=("source",), sd=SOURCE_SD, only_fit=True),
    Term(part="w0", by=("source", "method"), sd=SOURCE_SD, only_fit=True),
    Term(part="a0", by=("source",), sd=SOURCE_SD, only_fit=True),
    Term(part="k0", by=("source",), sd=SOURCE_SD, only_fit=True),
)  # fmt: skip
"""The whole law, term by term."""


@value
class Damage:
    """What the law says of each row, step by step."""

    kinds: dict[str, Floats]
    """Damage by tensor kind; 0 where the kind is left at 16 bits."""
    sensitivity: Floats
    """`t`."""
    loss: Floats

    @property
    def total(self) -> Floats:
        """Damage of all kinds together, in nats of the mean perplexity test."""
        return self.kinds["w"] + self.kinds["a"] + self.kinds["k"]


@value
class Law:
    """A fitted law: vocabularies and, for each term, a table of coefficients with a zero behind the last name."""

    vocabulary: Mapping[str, Mapping[str, int]]
    tables: Mapping[str, NDArray[np.float64]]

    def damage(self, features: Features) -> Damage:
        """Damage, sensitivity and loss of each row."""
        linear = self.linear(features)
        kinds = {
            kind: np.where(active(features, kind), np.exp(np.clip(eta(linear, features, kind), *ETA_RANGE)), 0.0)
            for kind in KINDS
        }
        total = kinds["w"] + kinds["a"] + kinds["k"]
        score = np.exp(np.clip(np.exp(linear["p"]) * np.log(total + _FLOOR) + linear["t"], -20.0, 5.0))
        loss = np.where(features.is_nll, total * np.exp(linear["u"]), -np.expm1(-score))
        return Damage(kinds=kinds, sensitivity=linear["t"], loss=np.where(total > 0, loss, 0.0))

    def linear(self, features: Features) -> dict[str, Floats]:
        """The linear predictor of each part."""
        factors = multipliers(features)
        codes = {name: self.codes(name, features) for name in {name for term in TERMS for name in term.by if not term.only_fit}}
        out = {part: np.zeros(len(features)) for part in PARTS}
        out["w0"] += EXCESS_TRUST * np.nan_to_num(features.numbers["weight_excess"])
        for term in TERMS:
            if not term.only_fit:
                values = self.tables[term.name][tuple(codes[name] for name in term.by)]
                out[term.part] = out[term.part] + values * factors[term.times]
        return out

    def codes(self, name: str, features: Features) -> NDArray[np.intp]:
        """Places of a column's names in the tables; unknown names share the last place."""
        known = self.vocabulary[name]
        return features.mapped(name, lambda one: known.get(one, len(known)), np.intp)

    def knows(self, name: str, features: Features) -> NDArray[np.bool_]:
        """Whether each row's name (of a model, family, …) was among the evidence."""
        return self.codes(name, features) < len(self.vocabulary[name])


def active(features: Features, kind: str) -> NDArray[np.bool_]:
    """Rows in which a tensor kind is quantized."""
    bits = features.numbers[{"w": "w_bits", "a": "a_bits", "k": "kv_bits"}[kind]]
    return bits < 16


def eta(linear: Mapping[str, Floats], features: Features, kind: str) -> Floats:
    """ln(damage) of a tensor kind: intercept plus slope times length of every piece of the noise axis."""
    out, slope = linear[f"{kind}0"], np.zeros(len(features))
    for i, piece in enumerate(pieces(features, kind), start=1):
        slope = slope + linear[f"{kind}{i}"]
        out = out + softplus(slope) * piece
    return out


def pieces(features: Features, kind: str) -> list[Floats]:
    """How far the noise of each row reaches into each piece of the axis; the first piece is counted from its knee."""
    noise, knees = features.numbers[_NOISE[kind]], _KNEES[kind]
    ends = (*knees[1:], np.inf)
    first = np.minimum(noise, ends[0]) - knees[0]
    return [first, *(np.clip(noise, low, high) - low for low, high in zip(knees[1:], ends[1:], strict=True))]


def softplus(x: Floats) -> Floats:
    """A smooth max(x, 0)."""
    return np.logaddexp(0.0, _SHARPNESS * x) / _SHARPNESS


def softplus_slope(x: Floats) -> Floats:
    """Derivative of `softplus`."""
    return 1 / (1 + np.exp(-np.clip(_SHARPNESS * x, -50, 50)))


def multipliers(features: Features) -> dict[str, Floats]:
    """The numbers that terms are multiplied by; unknown ones are 0, which stands for the typical value."""
    numbers = features.numbers
    size = np.nan_to_num((np.log(np.maximum(numbers["params_b"], 1e-3)) - 2) / 1.5)
    above = numbers["baseline"] - np.nan_to_num(numbers["chance"])
    share = np.log(numbers["active_params_b"] / numbers["params_b"])
    biased = features.mapped("series", _BIASED_SERIES.__contains__)
    bias = numbers["attention_bias"]
    return {
        "one": np.ones(len(features)),
        "size": size,
        "size2": size**2,
        "active": np.nan_to_num(share),
        "tuned": np.nan_to_num(numbers["tuned"] - 0.5),
        "reasoning": np.nan_to_num(numbers["reasoning"]),
        "static": numbers["static"],
        "ctx": np.nan_to_num(np.clip(np.log(np.maximum(numbers["context"], 1) / 8000), -3, 3)),
        "head": np.where(features.is_nll, 0.0, np.nan_to_num(np.log(np.maximum(above, 5) / 40))),
        "base": np.where(features.is_nll, 0.0, np.nan_to_num(numbers["baseline"] / 30 - 2)),
        "chance": np.nan_to_num(numbers["chance"] / 50),
        "bias": np.where(np.isnan(bias), biased, bias),
        "gqa": np.nan_to_num(np.log(np.maximum(numbers["gqa_ratio"], 1)) - 1),
    }
