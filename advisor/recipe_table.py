"""What the candidates of an engine and device have in common, worked out once: their distinct recipes and their columns.

Checkpoint formats of one recipe hold the same values, so each recipe is predicted once; a recipe that quantizes weights and
cache knows the two recipes that quantize one of them alone.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from advisor.candidates import Candidate, scheme_columns
from advisor.grouping import Places, alike
from advisor.same import Same
from knowledge.columns import kv_kind
from knowledge.schemes import UNQUANTIZED, QuantScheme

Columns = dict[str, npt.NDArray[np.generic]]
Recipe = tuple[QuantScheme, str]
_UNQUANTIZED = UNQUANTIZED.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecipeTable:
    """The recipes of some candidates."""

    recipes: tuple[Recipe, ...]
    """Distinct schemes with the name of their method."""
    places: Mapping[tuple[object, ...], tuple[int, ...]]
    """Positions of the recipes by what must be equal for a measurement to be one of them (`recipe_kind`), method first."""
    weights: tuple[Places, Places]
    """The first recipe of each weight format and method, and for each recipe the place of its own among these."""
    caches: tuple[Places, Places]
    """The same by KV-cache format."""
    siblings: npt.NDArray[np.int64]
    """One row a recipe that quantizes weights and cache: its position and those of its two halves."""
    spread: Places
    """Position of each candidate's recipe."""
    scheme: Columns
    """Scheme part of the candidate relation, one row a recipe."""
    candidate_scheme: Columns
    """The same, one row a candidate."""
    n_engines: npt.NDArray[np.int64]
    """How many engines run each candidate."""
    slow_kernel: npt.NDArray[np.bool_]
    """Candidates of which a source says that no engine has a fast kernel for them."""


def recipe_table(candidates: tuple[Candidate, ...]) -> RecipeTable:
    """The table of some candidates; kept for the very same tuple."""
    return _recipe_table(Same(candidates))


@lru_cache(maxsize=32)
def _recipe_table(same: Same[tuple[Candidate, ...]]) -> RecipeTable:
    candidates = same.value
    rows, spread = alike([(candidate.scheme_name, candidate.method.name) for candidate in candidates])
    distinct = [candidates[row] for row in rows]
    position = {(candidate.scheme_name, candidate.method.name): number for number, candidate in enumerate(distinct)}
    columns = scheme_columns(candidates)
    places: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, candidate in enumerate(distinct):
        places[candidate.method.name, *recipe_kind(candidate.scheme)].append(number)
    return RecipeTable(
        recipes=tuple((candidate.scheme, candidate.method.name) for candidate in distinct),
        places={kind: tuple(numbers) for kind, numbers in places.items()},
        weights=alike([(candidate.weights_name, candidate.method.name) for candidate in distinct]),
        caches=alike([candidate.kv_name for candidate in distinct]),
        siblings=np.array(
            [(number, *pair) for number, candidate in enumerate(distinct) if (pair := _siblings(candidate, position))],
            dtype=np.int64,
        ).reshape(-1, 3),
        spread=spread,
        scheme={name: values[rows] for name, values in columns.items()},
        candidate_scheme=columns,
        n_engines=np.array([len(candidate.engines) for candidate in candidates], dtype=np.int64),
        slow_kernel=np.array([candidate.kernel == "slow" for candidate in candidates], dtype=np.bool_),
    )


def _siblings(candidate: Candidate, position: Mapping[tuple[str, str], int]) -> tuple[int, ...]:
    scheme = candidate.scheme
    if scheme.kv_cache is None or (scheme.weights is None and scheme.activations is None):
        return ()
    weights = position.get((candidate.weights_name, candidate.method.name))
    cache = position.get((f"{_UNQUANTIZED}-{candidate.kv_name}", "rtn"))
    return () if weights is None or cache is None else (weights, cache)


@lru_cache(maxsize=8192)
def recipe_kind(scheme: QuantScheme) -> tuple[object, ...]:
    """What must be equal for a measurement to be one of this recipe; group and symmetry apart, and the cache's group.

    Groups of a per-token cache run along the head, whose 64 to 256 elements are one or two groups: no other format.
    """
    weights, kv = scheme.weights, scheme.kv_cache
    return (
        scheme.file_type or (weights and (weights.num_bits, weights.dtype, weights.type_name)),
        scheme.activations,
        kv and (kv_kind(kv), kv.num_bits, kv.dtype, kv.type_name),
    )
