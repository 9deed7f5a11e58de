"""Whether a predictor that learned from new measurements replaces the one in use: only if it is not worse.

**Champion and challenger.** The champion is the recipe of the fit on what the predictor in use has learned from, the
challenger the same recipe on that and the new rows. Both are fitted with the same figures left out (`FOLDS` groups of model
families, then of models; a group follows from the name alone, so it stays the same when others come) and forecast these.
Neither has seen what it is judged on.

**Rule.** For each of the two ways to leave out, for scores and for perplexities, over the figures that the champion may learn
from and over all: the challenger's mean absolute error may exceed the champion's by at most a share of it (`MARGINS`), at
the upper end of a one-sided 95 % interval (paired bootstrap over models). All must hold; since each is a hurdle, and not a
chance, no correction for their number is due. Figures weigh as in `qadvisor backtest`.

If all hold, the whole fit is done on everything, bounds and their corrections included, and written to a file.
Otherwise the new rows stay in the knowledge base, where they are pooled with the old predictor's forecasts.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.aggregate import count_unlearned, load_cells
from advisor.answer import round_floats, slots
from advisor.features import Bools, Floats
from advisor.fit import STEPS, fit_predictor, provenance_of
from advisor.law_fit import Design, fit_law, make_design
from advisor.predictor import Predictor, to_bytes
from advisor.scores import weighted_mean
from advisor.training import TrainingSet, judged_rows
from knowledge.store import KnowledgeStore
from knowledge.versions import load_manifest

Ints = NDArray[np.intp]
Progress = Callable[[str], None]

FOLDS = 5
MARGINS = {"score": 0.02, "perplexity": 0.05}
"""Share of the champion's error by which the challenger may be worse. Perplexities are fewer, so their comparison is coarser:
with a random twentieth of the published figures as new ones the bound is 0.7 % for scores and 2.7 % for perplexities
(`docs/experiments.md`)."""
SPLITS = ("family", "model")
LEAST_NEW = 20
"""New rows below which no fit is tried: so few move it less than its own noise. They count with those of the next refresh."""
LEAST_MODELS = 5
"""A comparison over fewer models has no interval worth the name and is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison of champion and challenger on figures that neither had seen."""

    split: str
    """What was left out together: `family` or `model`."""
    kind: str
    """`score` (share of above-chance performance) or `perplexity` (nats)."""
    figures: str
    """`known` to the champion, or `all`."""
    cells: int
    models: int
    champion: float
    """Mean absolute error."""
    challenger: float
    bound: float
    """Upper end of the one-sided 95 % interval of challenger minus champion."""
    limit: float
    """What the bound may be at most."""

    @property
    def holds(self) -> bool:
        """Whether the challenger is not worse."""
        return self.bound <= self.limit

    @property
    def words(self) -> str:
        """The comparison in a line."""
        return (
            f"{self.kind}, {self.split} left out, {self.figures} figures: error {self.champion:.4f} → {self.challenger:.4f} "
            f"(at most {self.bound:+.4f}, allowed {self.limit:+.4f})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What became of the attempt to learn from new rows."""

    promoted: bool
    predictor: Path | None
    """File of the new predictor; None where the old one stays."""
    figures: dict[str, Any]
    """What was compared, for the version's manifest."""
    words: tuple[str, ...]


def judge(
    store: KnowledgeStore,
    *,
    learned: Sequence[tuple[int, int]],
    folder: Path,
    fit: Callable[..., Predictor] = fit_predictor,
    progress: Progress = lambda _: None,
) -> Judgement:
    """Compare champion and challenger; fit and write the new predictor where it is not worse.

    Args:
        store: the knowledge base with the new rows.
        learned: first and last `evidence_id` of the user's rows that the predictor in use has learned from.
        folder: where the predictor is written, under the name of its content.
        fit: fits a predictor to everything, as `advisor.fit.fit_predictor` does.
        progress: told what happens next.

    Raises:
        OSError: the file cannot be written.
    """
    rows = count_unlearned(store, learned)
    if rows < LEAST_NEW:
        return _kept(
            {"new_rows": rows}, f"{rows} new learnable rows, too few to refit (from {LEAST_NEW} on): the predictor stays"
        )
    champion, challenger = load_cells(store, learned=learned), load_cells(store)
    new = ~_known(champion, challenger)
    facts: dict[str, Any] = {
        "new_rows": rows,
        "cells": len(challenger),
        "new_cells": int(new.sum()),
        "margins": MARGINS,
        "folds": FOLDS,
    }
    checks = tuple(compare(champion, challenger, new, progress=progress))
    facts["checks"] = round_floats([slots(check) | {"holds": check.holds} for check in checks])
    failed = [check for check in checks if not check.holds]
    if failed:
        return _kept(facts, "the predictor stays: one that learned from the new rows would forecast worse", *_words(failed))
    progress("the new predictor on all figures")
    path = _write(fit(challenger, provenance=provenance_of(challenger), progress=progress), folder)
    words = (f"a predictor that learned from {int(new.sum()):,} new cells is promoted", *_words(_headline(checks)))
    return Judgement(promoted=True, predictor=path, figures=facts | {"promoted": True}, words=words)


def compare(champion: TrainingSet, challenger: TrainingSet, new: Bools, *, progress: Progress) -> Iterator[Check]:
    """Both recipes on the same left-out figures.

    Args:
        champion: what the predictor in use has learned from.
        challenger: that, and the new cells.
        new: cells of `challenger` that are new.
        progress: told what happens next.
    """
    for split in SPLITS:
        progress(f"champion and challenger, every {split} left out in turn ({2 * FOLDS} fits)")
        old, both = _left_out(champion, challenger, split), _left_out(challenger, challenger, split)
        errors = [np.abs(predicted - challenger.loss) for predicted in (old, both)]
        for kind, rows in judged_rows(challenger).items():
            for figures, part in (("known", rows & ~new), ("all", rows)):
                if figures == "all" and not (rows & new).any():
                    continue
                check = _check(challenger, split, kind, figures, part, errors)
                if check.models >= LEAST_MODELS:
                    yield check


def group_of(name: str) -> int:
    """The fold of a model or family: from its name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % FOLDS


def learned_ranges(home: Path, version: str) -> tuple[tuple[int, int], ...]:
    """First and last `evidence_id` of each batch that the predictor of a version has learned from.

    A version that kept its parent's predictor says nothing about it: the one counts that brought it.

    Raises:
        StoreError: a manifest is damaged.
    """
    manifest = load_manifest(home, version)
    while manifest.parents and (parent := load_manifest(home, manifest.parents[0])).predictor == manifest.predictor:
        manifest = parent
    if manifest.predictor is None:
        return ()
    scores = (batch for batch in manifest.batches if batch.table == "evidence")
    return tuple((batch.first_id, batch.first_id + batch.rows - 1) for batch in scores)


def _groups(data: TrainingSet, split: str) -> Ints:
    names = data.names(split).astype(str)
    known = {name: group_of(name) for name in np.unique(names).tolist()}
    return np.array([known[name] for name in names.tolist()], dtype=np.intp)


def _left_out(fitted: TrainingSet, judged: TrainingSet, split: str) -> Floats:
    """Forecasts of each group of `judged` by the law fitted on the other groups of `fitted`."""
    design: Design = make_design(fitted.features, fitted.names("source"))
    train, test = _groups(fitted, split), _groups(judged, split)
    point = np.zeros(len(judged))
    for group in np.unique(test):
        rows, left = np.flatnonzero(train != group), np.flatnonzero(test == group)
        law = design.law(fit_law(design, fitted.loss, fitted.weights, rows, steps=STEPS))
        point[left] = law.damage(judged.features.take(left)).loss
    return point


def _check(data: TrainingSet, split: str, kind: str, figures: str, part: Bools, errors: Sequence[Floats]) -> Check:
    weights, models = data.score_weights[part], data.names("model")[part]
    old, both = (weighted_mean(error[part], weights, models).value for error in errors)
    difference = weighted_mean(errors[1][part] - errors[0][part], weights, models)
    return Check(
        split=split, kind=kind, figures=figures, cells=int(part.sum()), models=len(np.unique(models.astype(str))),
        champion=old, challenger=both, bound=difference.high, limit=MARGINS[kind] * old,
    )  # fmt: skip


def _known(champion: TrainingSet, challenger: TrainingSet) -> Bools:
    """Which cells of the challenger the champion has too, with the same figures."""
    fields = ("source", "model", "scheme", "method", "task", "metric", "shots", "context", "format", "note", "n")

    def keys(data: TrainingSet) -> list[tuple[object, ...]]:
        columns = [[None if cell != cell else cell for cell in data.columns[name].tolist()] for name in fields]
        return list(zip(*columns, np.round(data.loss, 12).tolist(), strict=True))

    seen = set(keys(champion))
    return np.array([key in seen for key in keys(challenger)], dtype=bool)


def _headline(checks: Sequence[Check]) -> list[Check]:
    """The comparisons to tell of: over all figures where there are such."""
    return [check for check in checks if check.figures == "all"] or list(checks)


def _words(checks: Sequence[Check]) -> tuple[str, ...]:
    return tuple(check.words for check in checks)


def _kept(figures: dict[str, Any], *words: str) -> Judgement:
    return Judgement(promoted=False, predictor=None, figures=figures | {"promoted": False}, words=words)


def _write(predictor: Predictor, folder: Path) -> Path:
    """Write a predictor under the name of its content."""
    content = to_bytes(predictor)
    target = folder / f"{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    target.write_bytes(content)
    return target
