"""From columns of candidates (or evidence) to what the predictor sees: numbers and names, missing ones allowed.

Columns are those of the candidate relation. Numbers: NaN, None and empty text are "not known". Names: None and empty text
are "not known", and a name that the fit has not seen has no effect of its own (`advisor.law`).

Per recipe, computed once for each distinct one: the noise of weights, activations and KV cache (`advisor.noise`).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.noise import CLEAN, noise_level
from knowledge.errors import DataError, QAdvisorError
from knowledge.schemes import QuantArgs, QuantScheme, parse_kv, parse_scheme
from knowledge.tasks import METRICS
from knowledge.values import value

Column = Sequence[object] | NDArray[np.generic]
Floats = NDArray[np.float64]
Names = NDArray[np.object_]
Bools = NDArray[np.bool_]
Factor = tuple[tuple[str, ...], NDArray[np.intp]]

RECIPE_COLUMNS = (
    "scheme", "w_bits", "w_dtype", "w_group", "w_sym", "a_bits", "a_dtype", "kv_bits", "kv_dtype", "kv_name", "bits_per_weight",
)  # fmt: skip
"""Columns that the noise of a recipe follows from; `scheme` fills in for the others where they are missing."""
NUMBER_COLUMNS = (
    "params_b", "active_params_b", "moe", "tuned", "reasoning", "gqa_ratio", "attention_bias", "weight_excess", "context",
    "baseline", "chance",
)  # fmt: skip
NAME_COLUMNS = ("model", "family", "method", "task", "task_type", "ability", "metric")
COLUMNS = (*RECIPE_COLUMNS, *NUMBER_COLUMNS, *NAME_COLUMNS)
"""Every column that a prediction depends on."""

KV_METHODS = frozenset(("kivi", "kvquant", "quarot", "spinquant", "flatquant", "rptq", "atom", "qoq", "llm-qat"))
"""Methods that treat the KV cache in a way of their own; beside weights made by any other, the cache is rounded."""

DELTA_NLL = "delta_nll"
RELATIVE = "relative"

GGUF_MIX_BITS = {"_s": 0.15, "_m": 0.35, "_l": 0.55, "_xl": 0.6}
"""Bits per weight that llama.cpp's mixes spend above their base type (its quantize README: Q4_K_S 4.67, Q4_K_M 4.89, …)."""

_SIZE = re.compile(r"^(?:\d+x)?\d+(?:\.\d+)?[bm](?:-.*)?$")
_TRUE, _FALSE = frozenset(("true", "t", "yes")), frozenset(("false", "f", "no"))


@value
class Features:
    """What the predictor sees of `n` rows."""

    numbers: dict[str, Floats]
    names: dict[str, Names]
    is_nll: Bools
    """Rows whose loss is a rise of the negative log-likelihood (perplexities)."""
    factors: dict[str, Factor] = field(default_factory=dict)
    """What `factor` has found, or the maker of the features knew."""

    def __len__(self) -> int:
        return len(self.is_nll)

    def take(self, rows: NDArray[np.intp] | Bools) -> "Features":
        """The features of some rows."""
        return Features(
            numbers={name: values[rows] for name, values in self.numbers.items()},
            names={name: values[rows] for name, values in self.names.items()},
            is_nll=self.is_nll[rows],
        )

    def factor(self, column: str) -> Factor:
        """The distinct names of a column and the place of each row's among them."""
        if column not in self.factors:
            names = self.names[column].tolist()
            places = {name: place for place, name in enumerate(dict.fromkeys(names))}
            self.factors[column] = tuple(places), np.fromiter(map(places.__getitem__, names), dtype=np.intp, count=len(names))
        return self.factors[column]

    def mapped(self, column: str, read: Callable[[str], float], kind: type = float) -> NDArray[Any]:
        """`read` of each row's name in a column; thousands of rows share a few names, and each is read once."""
        distinct, place = self.factor(column)
        return np.array([read(name) for name in distinct], dtype=kind)[place]


@value
class RecipeFeatures:
    """What a recipe does to each kind of tensor."""

    w_noise: float
    a_noise: float
    kv_noise: float
    w_bits: float
    a_bits: float
    kv_bits: float
    code: str
    """Codebook of the weights; empty where they are left at 16 bits."""
    a_code: str
    kv_code: str
    symmetric: float
    static: float


def encode(columns: Mapping[str, Column]) -> Features:
    """The features of rows given as columns of equal length; columns that are missing count as unknown.

    Raises:
        DataError: columns differ in length, or a value that should be a number is none.
    """
    n = _length(columns)
    numbers = {name: _numbers(name, columns.get(name), n) for name in NUMBER_COLUMNS}
    names = {name: _names(columns.get(name), n) for name in NAME_COLUMNS}
    recipes = _recipes(columns, n)
    for part in ("w_noise", "a_noise", "kv_noise", "w_bits", "a_bits", "kv_bits", "symmetric", "static"):
        numbers[part] = np.array([getattr(recipe, part) for recipe in recipes], dtype=np.float64)
    for part in ("code", "a_code", "kv_code"):
        names[part] = np.array([getattr(recipe, part) for recipe in recipes], dtype=object)
    names["series"] = np.array([series_of(str(name)) for name in names["model"]], dtype=object)
    names["method"][names["method"] == ""] = "rtn"
    names["kv_method"] = np.array([name if name in KV_METHODS else "rtn" for name in names["method"]], dtype=object)
    return Features(numbers=numbers, names=names, is_nll=_is_nll(names))


@lru_cache(maxsize=4096)
def series_of(model: str) -> str:
    """What comes before the size in a model's name: `llama-3.1-8b-instruct` is of `llama-3.1`; empty where there is no size."""
    parts = model.lower().split("-")
    for i, part in enumerate(parts):
        if i and _SIZE.match(part):
            return "-".join(parts[:i])
    return ""


@lru_cache(maxsize=16384)
def recipe_features(values: tuple[object, ...]) -> RecipeFeatures:
    """The features of one recipe, from its cells in the order of `RECIPE_COLUMNS`.

    Raises:
        DataError: a number is none, or the scheme's name cannot be read.
    """
    cells = dict(zip(RECIPE_COLUMNS, values, strict=True))
    scheme = _scheme(cells["scheme"])
    kv_bits = _number("kv_bits", cells["kv_bits"], scheme.kv_bits)
    kv_code, kv_noise = _kv(cells["kv_dtype"], cells["kv_name"], scheme.kv_cache, kv_bits)
    weights = _weight_features(scheme.with_kv(None), *(cells[name] for name in _WEIGHT_COLUMNS))
    return RecipeFeatures(**weights, kv_bits=kv_bits, kv_code=kv_code, kv_noise=kv_noise)


_WEIGHT_COLUMNS = ("w_bits", "w_dtype", "w_group", "w_sym", "a_bits", "a_dtype", "bits_per_weight")


@lru_cache(maxsize=4096)
def _weight_features(scheme: QuantScheme, *values: object) -> Mapping[str, Any]:
    """The features of weights and activations; some hundred of them make up all recipes of a request."""
    cells = dict(zip(_WEIGHT_COLUMNS, values, strict=True))
    weights, activations = scheme.weights, scheme.activations
    w_bits = _number("w_bits", cells["w_bits"], scheme.w_bits)
    a_bits = _number("a_bits", cells["a_bits"], scheme.a_bits)
    code = (str(cells["w_dtype"] or (weights.dtype if weights else "int"))) if w_bits < 16 else ""
    a_code = str(cells["a_dtype"] or (activations.dtype if activations else "int")) if a_bits < 16 else ""
    symmetric = _number("w_sym", cells["w_sym"], math.nan)
    own = weights is not None and weights.num_bits == w_bits
    group = _number("w_group", cells["w_group"], _group(weights) if own else math.nan)
    effective = _effective_bits(scheme, code, w_bits, _number("bits_per_weight", cells["bits_per_weight"], math.nan))
    if code == "nf" and math.isnan(group):
        group = 64.0
    same_a = activations is not None and activations.num_bits == a_bits
    static = same_a and activations is not None and activations.strategy == "tensor" and not activations.dynamic
    a_group = _group(activations) if same_a else -1.0
    return dict(  # noqa: C408 - reads like the call whose arguments these are
        w_noise=noise_level(
            code, effective, None if math.isnan(group) else group, None if math.isnan(symmetric) else symmetric > 0
        ),
        a_noise=noise_level(a_code, a_bits, -1.0 if math.isnan(a_group) else a_group, True) if a_code else CLEAN,
        w_bits=w_bits,
        a_bits=a_bits,
        code=code,
        a_code=a_code,
        symmetric=symmetric if code else math.nan,
        static=float(static),
    )


def _scheme(name: object) -> QuantScheme:
    if name is None or name == "":
        return QuantScheme()
    try:
        return parse_scheme(str(name))
    except QAdvisorError as error:
        raise DataError(f"column 'scheme': {error.message}", given=str(name), allowed=error.allowed, hint=error.hint) from error


def _effective_bits(scheme: QuantScheme, code: str, w_bits: float, stated: float) -> float:
    """Bits that decide the noise: effective ones for k-quants and codebooks of files, whose nominal bits hide the mix."""
    if code not in ("kquant", "codebook") or w_bits >= 16:
        return w_bits
    if scheme.file_type and scheme.file_type.startswith("gguf:") and scheme.w_bits == w_bits:
        name = scheme.file_type.removesuffix("-pure")
        mix = 0.0 if name != scheme.file_type else next((add for end, add in GGUF_MIX_BITS.items() if name.endswith(end)), 0.0)
        return min(scheme.bits_per_weight + (mix if code == "kquant" else 0.0), 15.9)
    if code == "codebook":
        return w_bits
    return min(stated, 15.9) if stated > 0 else w_bits + 0.5


@lru_cache(maxsize=1024)
def _kv(dtype: object, text: object, cache: QuantArgs | None, bits: float) -> tuple[str, float]:
    """Code and noise of the KV cache: from its name where that agrees with the bits, else from kind and bits."""
    if bits >= 16:
        return "", CLEAN
    kind, name = str(dtype or "int"), str(text or "")
    args = parse_kv(name) if name.startswith("k") else cache
    if args is not None and args.num_bits == bits:
        kind = "kivi" if args.type_name == "kivi" else "block" if args.type_name else args.dtype
        group = _group(args) if args.strategy == "group" else 128.0 if args.strategy in (None, "token") else -1.0
        symmetric = bool(args.type_name) and str(args.type_name).endswith("_0")
        return kind, noise_level(args.dtype if kind != "kivi" else "int", bits, group, symmetric)
    code = kind if kind in ("fp", "mxfp", "nvfp") else "int"
    return kind, noise_level(code, bits, 32.0 if kind in ("block", "kivi") else 128.0, kind == "block")


def _group(args: object) -> float:
    """-1 per channel or token, 0 per tensor, else the length; NaN where not stated."""
    strategy, size = getattr(args, "strategy", None), getattr(args, "group_size", None)
    if strategy in ("group", "block") and size:
        return float(size)
    return {"channel": -1.0, "token": -1.0, "tensor": 0.0}.get(str(strategy), math.nan)


def _is_nll(names: Mapping[str, Names]) -> Bools:
    """Whether the loss of a row is in nats: by its metric, else by its type of task."""
    metric, kind = names["metric"], names["task_type"]
    table = {name: spec.loss == DELTA_NLL for name, spec in METRICS.items()}
    return np.array(
        [table.get(m, t == "language-modeling") if m else t == "language-modeling" for m, t in zip(metric, kind, strict=True)],
        dtype=bool,
    )


def _length(columns: Mapping[str, Column]) -> int:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in sorted(lengths.items()))
        raise DataError("columns differ in length", given=shown, hint="give every column one value a row")
    return next(iter(lengths.values()), 0)


def _recipes(columns: Mapping[str, Column], n: int) -> list[RecipeFeatures]:
    cells = [_cells(columns.get(name), n) for name in RECIPE_COLUMNS]
    return [recipe_features(row) for row in zip(*cells, strict=True)]


def plain_cells(column: Column) -> list[object]:
    """Plain values with every kind of "not known" made None, so that equal rows are equal."""
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return [None if value is None or value == "" or value != value else value for value in values]


def _cells(column: Column | None, n: int) -> list[object]:
    return [None] * n if column is None else plain_cells(column)


def _names(column: Column | None, n: int) -> Names:
    return np.array(["" if value is None else str(value).strip() for value in _cells(column, n)], dtype=object)


def _numbers(name: str, column: Column | None, n: int) -> Floats:
    if column is None:
        return np.full(n, math.nan)
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiub":
        return column.astype(np.float64)
    return np.array([_number(name, value, math.nan) for value in column], dtype=np.float64)


def _number(name: str, value: object, missing: float) -> float:
    """The number in a cell; booleans are 1 and 0."""
    if value is None or value == "":
        return missing
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE or text in _FALSE:
            return float(text in _TRUE)
        try:
            value = float(text)
        except ValueError:
            raise DataError(
                f"column {name!r}: not a number", given=text, allowed="a number, or empty where not known"
            ) from None
    number = float(value)  # type: ignore[arg-type]
    return missing if math.isnan(number) else number
