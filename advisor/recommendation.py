"""From a request to ranked recipes, with what was ruled out and what would change the answer."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from advisor.answer import Memory, MemoryPart, Option, Recommendation
from advisor.costs import active_share, params_b
from advisor.kept_store import kept_store
from advisor.predictor import Predictor, load_predictor
from advisor.quality import describe_quality, quoted_evidence, rule_effects
from advisor.rank import distinct, undominated
from advisor.reasons import cautions_of, changes_of, reasons_of
from advisor.rejections import (
    no_chance_level,
    nothing_fits,
    nothing_runs,
    nothing_within_loss,
    rejections,
    too_little_evidence,
)
from advisor.request import AdviceRequest
from advisor.speed import estimate_speed, nearest_evidence
from advisor.study import Study, make_study
from advisor.version import TOOL_VERSION
from knowledge.memory import estimate_memory
from knowledge.models import ModelSpec
from knowledge.queries import efficiency_like
from knowledge.rules import Rule, load_rulebook
from knowledge.store import KnowledgeStore
from knowledge.task_catalogue import resolve_tasks
from knowledge.tasks import METRICS
from knowledge.tensors import params_active, params_total

Bools = npt.NDArray[np.bool_]


def advise(request: AdviceRequest, *, home: Path | None = None) -> Recommendation:
    """The answer to a parsed request, from the knowledge base of `home`.

    Raises:
        RequestError: a name is unknown, or the request contradicts the model.
        NoAnswerError: nothing satisfies the request.
    """
    with kept_store(home, request.exclude_licences) as store:
        return answer(study_request(request, store, home=home), store)


def study_request(
    request: AdviceRequest, store: KnowledgeStore, *, predictor: Predictor | None = None, home: Path | None = None
) -> Study:
    """The study behind an answer, with the rulebook.

    Args:
        request: what is asked.
        store: the open knowledge base.
        predictor: what forecasts losses; default: the predictor of the store's version.
        home: folder of the user's state.

    Raises:
        NoAnswerError: a task has no chance level, or no engine runs anything.
    """
    for item in resolve_tasks(request.task):
        if METRICS[item.task.metric].loss == "none" or (
            METRICS[item.task.metric].loss == "relative" and item.task.chance is None
        ):
            raise no_chance_level(item.task.name)
    study = make_study(request, store, predictor or load_predictor(store.predictor), _rules(home), home=home)
    if not study.candidates:
        raise nothing_runs(study)
    return study


@lru_cache(maxsize=4)
def _rules(folder: Path | None) -> tuple[Rule, ...]:
    return load_rulebook(folder)


def answer(study: Study, store: KnowledgeStore) -> Recommendation:
    """Rank a study's candidates and describe the first of them.

    Raises:
        NoAnswerError: nothing fits, nothing is within the tolerated loss, or nothing is like what was measured.
    """
    allowed = allowed_candidates(study)
    order = study.order(allowed)
    chosen = distinct(order, lambda index: _kind(study, index), study.request.top)
    return Recommendation(
        knowledge_version=study.version,
        tool_version=TOOL_VERSION,
        request=request_summary(study),
        model=model_summary(study.spec),
        recommendations=tuple(
            describe(study, store, index, rank=rank, allowed=allowed) for rank, index in enumerate(chosen, start=1)
        ),
        rejected=rejections(study),
        n_candidates=len(study.candidates),
        changes=changes_of(study, chosen[0], allowed),
        notes=study.notes,
    )


def allowed_candidates(study: Study) -> Bools:
    """Candidates within every hard limit: they fit, no rule refuses them, they lose no more than tolerated.

    Raises:
        NoAnswerError: there are none, or all of them are beyond the evidence.
    """
    allowed = study.fits & ~study.refused
    if not allowed.any():
        raise nothing_fits(study)
    if not (allowed & study.in_support).any():
        raise too_little_evidence(study)
    allowed = allowed & study.within_loss
    if not allowed.any():
        raise nothing_within_loss(study)
    return np.asarray(allowed)


def _kind(study: Study, index: int) -> tuple[object, ...]:
    """What makes two recipes alternatives rather than variants: the bits of each tensor kind and the family of the format."""
    candidate = study.candidates[index]
    scheme = candidate.scheme
    return (round(scheme.w_bits), scheme.a_bits, scheme.kv_bits, (scheme.file_type or "").partition(":")[0])


def describe(study: Study, store: KnowledgeStore, index: int, *, rank: int, allowed: Bools) -> Option:
    """One candidate as the answer shows it."""
    candidate = study.candidates[index]
    quality, rules = describe_quality(study, index), rule_effects(study, index)
    memory = describe_memory(study, index)
    return Option(
        rank=rank,
        scheme=candidate.scheme_name,
        method=candidate.method.name,
        format=candidate.format,
        engines=candidate.engines,
        bits_per_weight=memory.weights_bytes * 8 / (params_b(study.spec) * 1e9),
        memory=memory,
        quality=quality,
        speed=_speed(study, store, index),
        pareto=undominated(index, study.expected, study.costs.total, study.costs.penalized, allowed),
        rules=rules,
        evidence=quoted_evidence(study, index),
        reasons=reasons_of(study, index, quality, rules, allowed),
        cautions=cautions_of(study, index, quality, rules),
    )


def describe_memory(study: Study, index: int) -> Memory:
    """The memory of one candidate, part by part."""
    candidate, setting = study.candidates[index], study.setting
    estimate = estimate_memory(
        study.spec, candidate.scheme, method=candidate.method.name, format=candidate.format, engine=candidate.engine,
        context=setting.context, batch=setting.batch,
    )  # fmt: skip
    return Memory(
        weights_bytes=estimate.weights_bytes,
        kv_cache_bytes=estimate.kv_cache_bytes,
        state_bytes=estimate.state_bytes,
        buffers_bytes=estimate.buffers_bytes,
        total_bytes=estimate.total_bytes,
        budget_bytes=setting.budget_bytes,
        policy=estimate.policy,
        parts=tuple(
            MemoryPart(name=part.name, bytes=part.bytes, formula=part.formula, source=part.source) for part in estimate.parts
        ),
        notes=estimate.notes,
    )


def _speed(study: Study, store: KnowledgeStore, index: int) -> Mapping[str, Any]:
    candidate, setting = study.candidates[index], study.setting
    scheme = candidate.scheme
    rows = efficiency_like(store, w_bits=scheme.w_bits, a_bits=scheme.a_bits, kv_bits=scheme.kv_bits, engine=candidate.engine)
    measured = nearest_evidence(
        rows, scheme, method=candidate.method.name, engine=candidate.engine, params_b=params_b(study.spec),
        batch=setting.batch, hardware=setting.hardware.name if setting.hardware else None,
    )  # fmt: skip
    return estimate_speed(
        scheme,
        engine=candidate.engine,
        checkpoint=candidate.format,
        moved_bytes=float(study.costs.moved[index]),
        weight_bytes=float(study.costs.weights[index]) * active_share(study.spec) / setting.batch,
        hardware=setting.hardware,
        evidence=measured,
    ).as_dict()


def request_summary(study: Study) -> dict[str, Any]:
    """The request as understood, defaults filled in."""
    summary = study.request.as_dict()
    summary["tasks"] = [{"task": item.task.name, "weight": item.weight} for item in study.tasks]
    return summary


def model_summary(spec: ModelSpec) -> dict[str, Any]:
    """Which model the answer is about, and the facts that decided its memory."""
    return {
        "name": spec.name,
        "hf_id": spec.hf_id,
        "family": spec.family,
        "architecture": spec.architecture,
        "params_total": params_total(spec) or spec.params_published,
        "params_active": params_active(spec) or spec.params_active_published,
        "layers": spec.layers,
        "hidden": spec.hidden,
        "heads": spec.heads,
        "kv_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "max_context": spec.max_context,
        "stored_scheme": spec.stored_scheme.name if spec.stored_scheme else None,
        "source": spec.source,
    }
