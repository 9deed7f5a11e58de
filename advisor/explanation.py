"""`explain`: everything that is known about one candidate of a request, and where it ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advisor.answer import EvidenceRow, Option, option_dict, round_floats, slots
from advisor.candidates import matches
from advisor.drivers import Driver, drivers_of
from advisor.kept_store import kept_store
from advisor.predictor import load_predictor
from advisor.recommendation import (
    allowed_candidates,
    describe,
    model_summary,
    request_summary,
    study_request,
)
from advisor.report_words import percent, size
from advisor.request import AdviceRequest
from advisor.study import Study
from advisor.version import TOOL_VERSION
from knowledge.errors import InvalidSchemeError, NoAnswerError
from knowledge.queries import nearest_evidence
from knowledge.recipes import find_method
from knowledge.schemes import QuantScheme, parse_scheme
from knowledge.store import KnowledgeStore

_NEAREST = 8
"""Rows of like models and recipes that are shown beside the cell's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One candidate: its standing, its figures, and the rows nearest to it."""

    knowledge_version: str
    tool_version: str
    request: Mapping[str, Any]
    model: Mapping[str, Any]
    option: Option
    verdict: str
    """Why it is recommended, stands behind, or is ruled out."""
    position: int | None
    """Rank among the allowed candidates; None where it is not one of them."""
    n_allowed: int
    best: str
    """The recommended recipe, empty where there is none."""
    drivers: tuple[Driver, ...]
    """What drives the prediction: each with its share, strongest first."""
    nearest: tuple[EvidenceRow, ...]
    """The most telling rows of the evidence, this model's own first."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, floats rounded; the option as in `recommend --json`."""
        document = slots(self) | {
            "schema_version": 1,
            "status": "ok",
            "option": option_dict(self.option),
            "nearest": [slots(row) for row in self.nearest],
            "drivers": [slots(driver) for driver in self.drivers],
        }
        return round_floats(document)  # type: ignore[no-any-return]


def explain(request: AdviceRequest, scheme: str, *, method: str | None = None, home: Path | None = None) -> Explanation:
    """Everything known about one recipe of a request.

    Args:
        request: as for `recommend`.
        scheme: scheme name; group and symmetry may be left out, then the best-ranked match is taken.
        method: method name; None = the best-ranked.
        home: folder of the user's state.

    Raises:
        InvalidSchemeError: no engine of the request runs such a scheme.
        RequestError: the request cannot be understood.
        NoAnswerError: nothing can be said about the task, or no engine runs anything.
    """
    wanted = parse_scheme(scheme)
    with kept_store(home, request.exclude_licences) as store:
        study = study_request(request, store, home=home)
        return _explanation(study, store, _find(study, wanted, method, scheme))


def _explanation(study: Study, store: KnowledgeStore, index: int) -> Explanation:
    reason = None
    try:
        allowed = allowed_candidates(study)
    except NoAnswerError as error:
        allowed, reason = np.zeros(len(study.candidates), dtype=bool), error.message
    order = study.order(allowed)
    found = np.flatnonzero(order == index)
    position = int(found[0]) + 1 if len(found) else None
    best = int(order[0]) if len(order) else None
    return Explanation(
        knowledge_version=study.version,
        tool_version=TOOL_VERSION,
        request=request_summary(study),
        model=model_summary(study.spec),
        option=describe(study, store, index, rank=position or 0, allowed=allowed),
        verdict=_verdict(study, index, position, best, reason),
        position=position,
        n_allowed=int(allowed.sum()),
        best=_name(study, best) if best is not None else "",
        drivers=drivers_of(study, index, load_predictor(store.predictor)),
        nearest=_nearest(study, store, index),
    )


def _find(study: Study, wanted: QuantScheme, method: str | None, text: str) -> int:
    """The candidate that the user means: the best-ranked of those that match."""
    name = find_method(method).name if method else None
    members = [
        index
        for index, candidate in enumerate(study.candidates)
        if matches(wanted, candidate.scheme) and name in (None, candidate.method.name)
    ]
    if not members:
        near = sorted(
            {c.scheme_name for c in study.candidates if c.scheme.w_bits == wanted.w_bits and c.scheme.kv_cache is None}
        )
        raise InvalidSchemeError(
            f"no engine of this request runs {text!r}" + (f" made with {name}" if name else ""), given=text, allowed=near[:12],
            hint="`qadvisor schemes` lists the formats with their engines",
        )  # fmt: skip
    mask = np.zeros(len(study.candidates), dtype=bool)
    mask[members] = True
    return int(study.order(mask)[0])


def _verdict(study: Study, index: int, position: int | None, best: int | None, reason: str | None) -> str:
    kind, total = study.losses[0].kind, int(study.costs.total[index])
    if position == 1:
        return "recommended"
    if study.refused[index]:
        rules = [
            rule.id
            for column, rule in enumerate(study.findings.rules)
            if rule.acting == "refuse" and study.findings.holds[index, column] and not study.findings.overruled[index, column]
        ]
        return f"ruled out by {', '.join(rules)}"
    if not study.fits[index]:
        return f"does not fit: needs {size(total)} of {size(study.setting.budget_bytes)}"
    if not study.within_loss[index]:
        return f"may lose more than the tolerated {percent(study.tolerated, kind)} %"
    if position is None or best is None:
        return reason or "not among the allowed recipes"
    return f"stands at {position:,}, behind {_name(study, best)}: {_difference(study, index, best)}"


def _difference(study: Study, index: int, best: int) -> str:
    """What the recommended recipe has over this one."""
    kind, words = study.losses[0].kind, []
    if study.findings.strong_avoid[index] and not study.findings.strong_avoid[best]:
        words.append("a strong rule advises against it")
    gap = float(study.loss[index] - study.loss[best])
    words.append(f"loses {percent(abs(gap), kind).lstrip('+')} points {'more' if gap > 0 else 'less'}")
    moved = study.costs.moved[index] - study.costs.moved[best]
    words.append(f"moves {size(abs(moved))} {'more' if moved > 0 else 'less'} per token")
    more = int(study.costs.total[index] - study.costs.total[best])
    words.append(f"takes {size(abs(more))} {'more' if more > 0 else 'less'}")
    return ", ".join(words)


def _nearest(study: Study, store: KnowledgeStore, index: int) -> tuple[EvidenceRow, ...]:
    """Rows of like models and recipes, task by task."""
    rows: list[EvidenceRow] = []
    recipe, size_b = study.candidates[index].recipe, float(study.constants["params_b"])
    limit = max(1, _NEAREST // len(study.losses))
    for losses in study.losses:
        for row in nearest_evidence(store, study.spec, recipe, losses.task, params_b=size_b, limit=limit):
            rows.append(
                EvidenceRow(
                    source=row.source, ref=row.ref, model=row.model, scheme=row.scheme, method=row.method, task=row.task,
                    metric=row.metric, context=row.context, score=row.score, baseline=row.baseline, loss=row.loss,
                )
            )  # fmt: skip
    return tuple(rows)


def _name(study: Study, index: int) -> str:
    candidate = study.candidates[index]
    return f"{candidate.scheme_name} ({candidate.method.name})"
