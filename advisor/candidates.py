"""Candidates: every recipe that the engine and the hardware can run, and why the others cannot.

A candidate is an offer of weights (`advisor.offers`) with a KV-cache format that one engine runs together. Engines that are
known not to read the model's architecture are left out, and with them the formats that they alone make; where an engine
merely does not name it, the answer warns (`advisor.reasons`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from advisor.answer import Rejection
from advisor.offers import Offer, all_offers
from advisor.refusals import EXPERTS_ONLY, Refusal, refusal, stored_rejection, summarize
from advisor.speed import kernel_penalty
from knowledge.architectures import MAKERS, architecture_lists, refusing
from knowledge.columns import columns_of, kv_kind
from knowledge.engines import EngineFormat, EngineKv, EngineSpec, Kernel, all_engines, find_engine, find_formats, runs_on
from knowledge.errors import InvalidModelError
from knowledge.hardware import HardwareSpec
from knowledge.kv_cache import layer_kinds, rolls
from knowledge.models import ModelSpec
from knowledge.recipes import METHODS, QuantMethod, QuantRecipe, find_method
from knowledge.schemes import QuantArgs, QuantScheme, parse_kv
from knowledge.values import value
from knowledge.weight_formats import default_format

Column = npt.NDArray[np.generic]

_KERNELS: tuple[Kernel, ...] = ("fast", "unknown", "slow")
"""Order of preference among the engines of a candidate."""


@value
class Candidate:
    """One recipe with the engines that run its weights and its KV cache together."""

    scheme: QuantScheme
    method: QuantMethod
    format: str
    """Checkpoint format: `gptq`, `gguf`, …; `safetensors` for the unquantized model."""
    engines: tuple[str, ...]
    """Primary engine first: fast kernels, unknown ones, slow ones; among these the order of the catalogue."""
    scheme_name: str
    weights_name: str
    kv_name: str
    """The two parts of the scheme's name."""
    kernel: Kernel
    """Of the primary engine."""
    penalty: float
    """Factor on the bytes moved per token: above 1 where the primary engine's kernel gains less than its bytes say."""

    @property
    def engine(self) -> str:
        """The primary engine."""
        return self.engines[0]

    @property
    def recipe(self) -> QuantRecipe:
        """Scheme and method."""
        return QuantRecipe(scheme=self.scheme, method=self.method)


@value
class CandidateSet:
    """The candidates of a request, in a fixed order, and what was ruled out before any of them was sized."""

    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class _Traits:
    """What of a model decides which recipes run; hashable, so that requests share their candidates."""

    moe: bool
    latent: bool
    cached: bool
    """Whether there is a KV cache at all."""
    head_dims: tuple[int, ...]
    inputs: tuple[int, ...]
    """Input features of the model's matrices, as far as known."""
    rolling: frozenset[str]
    """Engines that keep a rolling cache of this model."""
    stored: QuantScheme | None
    stored_method: str | None
    refusing: tuple[str, ...]
    """Engines that are known not to read the architecture."""


def generate_candidates(spec: ModelSpec, *, engine: str | None = None, hardware: HardwareSpec | None = None) -> CandidateSet:
    """Every recipe for `spec` that `engine` runs on `hardware`.

    A checkpoint that is already quantized keeps its weights: only the KV cache and the engine vary.

    Args:
        spec: the model.
        engine: name of an engine; None = any.
        hardware: the device; None = any on which some engine runs the recipe.

    Raises:
        UnknownNameError: nobody knows the engine.
    """
    name = find_engine(engine).name if engine is not None else None
    return _generate(_traits(spec), name, hardware)


def scheme_columns(candidates: Sequence[Candidate]) -> dict[str, Column]:
    """The scheme part of the candidate relation: one array a column; unknown is NaN in numbers and None elsewhere."""
    known = {
        kind: columns_of(c.scheme, c.method.name) | {"bits_per_weight": c.scheme.bits_per_weight}
        for kind, c in {(c.weights_name, c.method.name): c for c in candidates}.items()
    }
    cells = [known[c.weights_name, c.method.name] for c in candidates]
    kv_kinds = {c.kv_name: kv_kind(c.scheme.kv_cache) for c in candidates}
    return {
        "scheme": _column([c.scheme_name for c in candidates]),
        "method": _column([c.method.name for c in candidates]),
        "format": _column([c.format for c in candidates]),
        "engine": _column([c.engine for c in candidates]),
        **{name: _column([row[name] for row in cells], float) for name in ("w_bits", "a_bits", "bits_per_weight", "w_group")},
        **{name: _column([row[name] for row in cells]) for name in ("w_dtype", "a_dtype", "w_sym")},
        "kv_bits": _column([c.scheme.kv_bits for c in candidates], float),
        "kv_dtype": _column([kv_kinds[c.kv_name] for c in candidates]),
        "kv_name": _column([c.kv_name for c in candidates]),
        "calibration": _column([c.method.calibration for c in candidates]),
        "method_rank": _column([c.method.rank for c in candidates], int),
    }


def matches(asked: QuantScheme, offered: QuantScheme) -> bool:
    """Whether `offered` is what `asked` names, where group and symmetry that `asked` leaves open may be anything.

    So `fp8` finds `fp8-channel`, and `w4a16-g128-kv8` finds `w4a16-g128-asym-kv8`.
    """
    if asked == offered:
        return True
    if asked.kv_cache != offered.kv_cache or asked.activations != offered.activations or asked.file_type != offered.file_type:
        return False
    mine, other = asked.weights, offered.weights
    if mine is None or other is None:
        return mine is other
    same = (mine.num_bits, mine.dtype, mine.type_name) == (other.num_bits, other.dtype, other.type_name)
    grouped = mine.strategy is None or (mine.strategy, mine.group_size) == (other.strategy, other.group_size)
    return same and grouped and mine.symmetric in (None, other.symmetric)


@lru_cache(maxsize=64)
def _generate(traits: _Traits, engine: str | None, hardware: HardwareSpec | None) -> CandidateSet:
    refusals: list[Refusal] = []
    running = []
    for spec in all_engines():
        if engine not in (None, spec.name):
            continue
        problem, limit = runs_on(spec.vendors, spec.min_compute_capability, None, hardware), "hardware"
        if spec.name in traits.refusing:
            problem, limit = f"does not run it: {architecture_lists()[spec.name].refused}", "engine"
        if problem is None:
            running.append((spec, _caches(spec, traits, hardware, refusals)))
        elif engine is not None:
            return CandidateSet(candidates=(), rejected=summarize([Refusal("", "", f"{spec.name} {problem}", limit)]))
    candidates: list[Candidate] = []
    taken: set[tuple[QuantScheme, QuantMethod]] = set()
    for offer in _offers(traits):
        if offer.instead and (offer.scheme, offer.method) in taken:
            continue
        if (maker := MAKERS.get(offer.format)) in traits.refusing:
            reason = f"{maker} alone makes such files, and {architecture_lists()[maker].refused}"
            refusals.append(Refusal(offer.scheme.weights_name, offer.method.name, reason, "engine", offer.format))
            continue
        rows, reasons = [], []
        for spec, caches in running:
            found, problem, limit = _row(spec, offer, traits, hardware)
            if found:
                rows.append((found, caches))
            else:
                reasons.append((problem, limit))
        if rows:
            taken.add((offer.scheme, offer.method))
            candidates += _with_caches(offer, sorted(rows, key=lambda row: _KERNELS.index(row[0].kernel)))
        elif refused := refusal(offer, reasons, engine, hardware):
            refusals.append(refused)
    rejected = summarize(
        refusals,
        recipes={(c.weights_name, c.method.name) for c in candidates if c.scheme.kv_cache is None},
        caches={c.kv_name for c in candidates},
        formats={c.format for c in candidates},
    )
    if traits.stored:
        rejected = (stored_rejection(traits.stored), *rejected)
    return CandidateSet(candidates=tuple(candidates), rejected=rejected)


def _offers(traits: _Traits) -> tuple[Offer, ...]:
    stored = traits.stored
    if stored is None:
        return all_offers()
    method = traits.stored_method or "rtn"
    return (Offer(scheme=stored.with_kv(None), method=find_method(method), format=default_format(stored, method)),)


def _row(
    engine: EngineSpec, offer: Offer, traits: _Traits, hardware: HardwareSpec | None
) -> tuple[EngineFormat | None, str, str]:
    """The row by which `engine` runs `offer`, or the reason why it does not and the limit that this is."""
    reason, limit = f"{engine.name} does not read {offer.format} weights of that kind", "engine"
    for row in find_formats(engine.name, offer.format, offer.scheme):
        if row.moe_only and not traits.moe:
            reason = f"{engine.name} {EXPERTS_ONLY}"
        elif row.group_divides and (odd := _odd_input(offer.scheme, traits)):
            reason = f"{odd} input features are no multiple of the group"
        elif problem := runs_on(row.vendors, row.min_compute_capability, row.max_compute_capability, hardware):
            reason, limit = f"{engine.name}: {problem}", "hardware"
        else:
            return row, "", ""
    return None, reason, limit


def _odd_input(scheme: QuantScheme, traits: _Traits) -> int | None:
    group = scheme.weights.group_size if scheme.weights and scheme.weights.strategy == "group" else None
    return next((width for width in traits.inputs if group and width % group), None)


def _caches(engine: EngineSpec, traits: _Traits, hardware: HardwareSpec | None, refusals: list[Refusal]) -> tuple[str, ...]:
    """Names of the KV dtypes that `engine` offers for this model on this hardware."""
    names = []
    for row in engine.kv:
        if row.name == "kv16":
            names.append(row.name)
        elif traits.cached:
            if problem := _cache_problem(row, traits):
                refusals.append(Refusal(row.name, "", f"{engine.name}: {problem}", "engine"))
            elif problem := runs_on(row.vendors, row.min_compute_capability, row.max_compute_capability, hardware):
                refusals.append(Refusal(row.name, "", f"{engine.name}: {problem}", "hardware"))
            else:
                names.append(row.name)
    return tuple(names)


def _cache_problem(row: EngineKv, traits: _Traits) -> str | None:
    if traits.latent and not row.mla:
        return "not for the compressed cache of latent attention"
    if not row.rolling and row.engine in traits.rolling:
        return "a rolling cache of windowed layers cannot be quantized"
    if odd := next((width for width in traits.head_dims if width % row.head_multiple), None):
        return f"needs heads whose width is a multiple of {row.head_multiple}, these are {odd} wide"
    return None


def _with_caches(offer: Offer, rows: Sequence[tuple[EngineFormat, tuple[str, ...]]]) -> Iterator[Candidate]:
    """One candidate for each KV dtype that some engine runs with these weights."""
    weights_name, bits = offer.scheme.weights_name, offer.scheme.bits_per_weight
    # Evidence calls a cache rounded beside untouched weights RTN; "none" is the baseline alone.
    rounded = METHODS["rtn"] if offer.method.name == "none" else offer.method
    for name in dict.fromkeys(name for _, caches in rows for name in caches):
        able = [row for row, caches in rows if name in caches]
        kv = _kv_args(name)
        yield Candidate(
            scheme=offer.scheme.with_kv(kv) if kv else offer.scheme,
            method=rounded if kv else offer.method,
            format=offer.format,
            engines=tuple(row.engine for row in able),
            scheme_name=f"{weights_name}-{name}" if kv else weights_name,
            weights_name=weights_name,
            kv_name=name,
            kernel=able[0].kernel,
            penalty=kernel_penalty(able[0], bits),
        )


def _traits(spec: ModelSpec) -> _Traits:
    try:
        full, sliding, _ = layer_kinds(spec)
        rolling = frozenset(engine.name for engine in all_engines() if sliding and rolls(spec, engine.name))
    except InvalidModelError:  # sizing the cache will say so; which formats run does not depend on it
        full, sliding, rolling = 1, 0, frozenset()
    attention = spec.attention
    latent = attention is not None and attention.kv_lora_rank is not None
    widths = [spec.head_dim, attention.global_head_dim if attention else None] if not latent else []
    stored = spec.stored_scheme if spec.stored_scheme and spec.stored_scheme.weights else None
    return _Traits(
        moe=spec.experts is not None,
        latent=latent,
        cached=full + sliding > 0,
        head_dims=tuple(width for width in widths if width),
        inputs=tuple(width for width in (spec.hidden, spec.intermediate) if width),
        rolling=rolling,
        stored=stored,
        stored_method=spec.stored_method if stored else None,
        refusing=() if stored else refusing(spec.architecture),
    )


@lru_cache(maxsize=256)
def _kv_args(name: str) -> QuantArgs | None:
    return parse_kv(name)


def _column(values: Sequence[object], kind: type = object) -> Column:
    """An array of `kind`; None is NaN among floats."""
    return np.array(values, dtype=kind)
