"""Why a recipe was chosen, what to be careful about, and what would change the answer: sentences with their figures."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from advisor.answer import Quality, RuleEffect
from advisor.candidates import matches
from advisor.rank import tie_width
from advisor.report_words import interval, percent, size
from advisor.study import Study
from knowledge.architectures import architecture_lists, standing

Bools = npt.NDArray[np.bool_]

_WIDE = 0.10
"""An interval that reaches further than this above the estimate deserves a word."""


def reasons_of(study: Study, index: int, quality: Quality, rules: tuple[RuleEffect, ...], allowed: Bools) -> tuple[str, ...]:
    """Why candidate `index` stands where it does."""
    return tuple(_reasons(study, index, quality, rules, allowed))


def _reasons(study: Study, index: int, quality: Quality, rules: tuple[RuleEffect, ...], allowed: Bools) -> Iterator[str]:
    yield _objective_reason(study, index, allowed)
    yield _loss_reason(study, index, quality)
    for rule in rules:
        if rule.effect == "prefer" and rule.status == "applied":
            yield f"{rule.why} [{rule.id}: {rule.citations[0]}]" if rule.citations else f"{rule.why} [{rule.id}]"


def _objective_reason(study: Study, index: int, allowed: Bools) -> str:
    """What the objective compared, in its own figures."""
    moved, total = study.costs.moved[index], int(study.costs.total[index])
    count, kind = int(allowed.sum()), study.losses[0].kind
    if study.request.objective == "memory":
        return f"{size(total)} in all: the least of {count:,} recipes within {percent(study.tolerated, kind)} % loss"
    if study.request.objective == "speed":
        return f"moves {size(moved)} per token: the fewest of {count:,} recipes within {percent(study.tolerated, kind)} % loss"
    least = int(np.flatnonzero(allowed)[np.argmin(study.expected[allowed])])
    if study.request.objective == "quality" or index == least:
        return f"least expected loss of {count:,} recipes that fit {size(study.setting.budget_bytes)}"
    gap = float(study.expected[index] - study.expected[least])
    tolerance = tie_width(study.noise_floor)
    near = "within the tolerance of" if gap < tolerance else "beyond the tolerance of"
    return (
        f"moves {size(moved)} per token; with the upper side of its interval counted it is expected to lose "
        f"{percent(gap, kind)} points more than {_name(study, least)}, the best of {count:,} that fit: "
        f"{near} {percent(tolerance, kind)}"
    )


def _loss_reason(study: Study, index: int, quality: Quality) -> str:
    names = ", ".join(task.task for task in quality.by_task)
    if quality.basis == "direct":
        return f"{quality.n_evidence} published scores of this very recipe on {names} decide the estimate"
    parts = {row for item in study.losses for part in item.pooled.parts[index] for row in part.rows}
    if parts:
        return f"{len(parts)} published scores of its weight or cache format on this model shift the prediction for {names}"
    if quality.n_evidence:
        return f"predicted for {names}, corrected by {quality.n_evidence} published scores of this very recipe"
    return f"predicted for {names} from {quality.by_task[0].n_calibration:,} held-out errors of like recipes"


def cautions_of(study: Study, index: int, quality: Quality, rules: tuple[RuleEffect, ...]) -> tuple[str, ...]:
    """What a user should know before trusting candidate `index`."""
    return tuple(_cautions(study, index, quality, rules))


def _cautions(study: Study, index: int, quality: Quality, rules: tuple[RuleEffect, ...]) -> Iterator[str]:
    candidate, loss = study.candidates[index], quality.loss
    if not quality.in_support:
        yield "the evidence holds nothing like this case: the estimate is an extrapolation, measure before you rely on it"
    elif loss.upper - loss.point > _WIDE:
        yield f"the estimate is uncertain ({interval(loss, quality.level, quality.kind)}): measure before you rely on it"
    for scheme, method, reason in study.losses[0].broken:
        if method == candidate.method.name and matches(scheme, candidate.scheme):
            yield f"a checkpoint of this recipe that you measured is {reason}; its scores do not count here"
    architecture = study.spec.architecture
    if standing(candidate.engine, architecture) == "unlisted":
        known = architecture_lists()[candidate.engine]
        yield f"{candidate.engine} does not name {architecture} among its architectures: {known.unlisted} [{known.source}]"
    if candidate.kernel == "slow":
        yield f"a source calls the kernel of {candidate.engine} for {candidate.format} slow: see `speed`"
    if study.findings.strong_avoid[index]:
        yield "a strong rule advises against it; nothing that fits is free of such advice"
    for rule in rules:
        if rule.effect in ("avoid", "require") and rule.status == "applied":
            yield f"{rule.why} [{rule.id}]"
        elif rule.status == "overruled":
            yield f"rule {rule.id} ({rule.title}) is overruled: this very cell was measured and loses less"
        elif rule.status == "contradicted":
            yield f"rule {rule.id} ({rule.title}) is contradicted by other sources and acts as a caution only"


def changes_of(study: Study, best: int, allowed: Bools) -> tuple[str, ...]:
    """What would change the answer: more memory, less memory, another objective."""
    return tuple(_changes(study, best, allowed))


def _changes(study: Study, best: int, allowed: Bools) -> Iterator[str]:
    kind, total = study.losses[0].kind, study.costs.total
    usable = ~study.refused & study.within_loss
    if (larger := _with_more_memory(study, best, usable)) is not None:
        gain = percent(float(study.expected[best] - study.expected[larger]), kind)
        yield f"from {size(int(total[larger]))} on, {_name(study, larger)} is expected to lose {gain} points less"
    smaller = study.order(allowed & (total < total[best]))
    if len(smaller):
        loss = percent(float(study.loss[smaller[0]]), kind)
        yield f"below {size(int(total[best]))}, {_name(study, int(smaller[0]))} is next (loses {loss} %)"
    for objective in ("quality", "memory", "speed"):
        if objective != study.request.objective and len(order := _order_for(study, objective)) and int(order[0]) != best:
            other = int(order[0])
            yield (
                f"--objective {objective} would choose {_name(study, other)} "
                f"({percent(float(study.loss[other]), kind)} %, {size(int(total[other]))})"
            )


def _with_more_memory(study: Study, best: int, usable: Bools) -> int | None:
    """The least of the recipes beyond the budget that would lose less by more than the tolerance."""
    margin = tie_width(study.noise_floor)
    better = usable & ~study.fits & ~study.findings.strong_avoid & (study.expected < study.expected[best] - margin)
    found = np.flatnonzero(better)
    return int(found[np.argmin(study.costs.total[found])]) if len(found) else None


def _order_for(study: Study, objective: str) -> npt.NDArray[np.int64]:
    """The order under another objective, with the loss that it tolerates."""
    allowed = study.fits & ~study.refused & study.within_loss
    if objective in ("memory", "speed"):
        allowed = allowed & (study.expected <= study.tolerated)
    return study.order(np.asarray(allowed), objective=objective)


def _name(study: Study, index: int) -> str:
    candidate = study.candidates[index]
    return f"{candidate.scheme_name} ({candidate.method.name})"
