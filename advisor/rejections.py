"""What was ruled out and why, and the error where nothing is left."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from advisor.answer import Rejection
from advisor.report_words import percent, size
from advisor.study import Study
from knowledge.errors import NoAnswerError

Bools = npt.NDArray[np.bool_]


def rejections(study: Study) -> tuple[Rejection, ...]:
    """Recipes that a limit ruled out: what does not fit, what rules refuse, what loses too much, what nothing runs."""
    return (*_too_large(study), *_refused(study), *_too_lossy(study), *study.not_run)


def _too_large(study: Study) -> Iterator[Rejection]:
    """Of each weight width of which nothing fits, or not all, the smallest recipe that does not."""
    budget = study.setting.budget_bytes
    for index in _smallest_by_bits(study, ~study.fits & ~study.refused):
        need = size(int(study.costs.total[index]))
        yield _rejection(study, index, f"needs {need} of {size(budget)}", "memory")


def _refused(study: Study) -> Iterator[Rejection]:
    """One line a refusing rule, with how many recipes it ruled out."""
    findings = study.findings
    for column, rule in enumerate(findings.rules):
        if rule.acting != "refuse":
            continue
        held = np.flatnonzero(findings.holds[:, column] & ~findings.overruled[:, column] & study.fits)
        if len(held):
            index = int(held[np.argmin(study.costs.total[held])])
            yield _rejection(study, index, f"{rule.why} [{rule.id}; {len(held)} recipes]", "rule")


def _too_lossy(study: Study) -> Iterator[Rejection]:
    kind = study.losses[0].kind
    for index in _smallest_by_bits(study, study.fits & ~study.refused & ~study.within_loss):
        bound = "may lose up to" if study.request.max_loss is not None else "is expected to lose"
        loss = study.upper[index] if study.request.max_loss is not None else study.expected[index]
        reason = f"{bound} {percent(float(loss), kind)} %, tolerated are {percent(study.tolerated, kind)} %"
        yield _rejection(study, index, reason, "max_loss")


def _smallest_by_bits(study: Study, members: Bools) -> list[int]:
    """The smallest member of each nominal weight width, widest first."""
    smallest: dict[float, int] = {}
    for index in np.flatnonzero(members):
        bits = study.candidates[index].scheme.w_bits
        if bits not in smallest or study.costs.total[index] < study.costs.total[smallest[bits]]:
            smallest[bits] = int(index)
    return [smallest[bits] for bits in sorted(smallest, reverse=True)]


def _rejection(study: Study, index: int, reason: str, limit: str) -> Rejection:
    candidate = study.candidates[index]
    return Rejection(scheme=candidate.scheme_name, method=candidate.method.name, reason=reason, limit=limit)


def nothing_runs(study: Study) -> NoAnswerError:
    """No engine runs anything for this model on this hardware."""
    what = " on ".join(name for name in (study.request.engine, study.request.hardware) if name) or "any engine"
    return NoAnswerError(
        f"nothing for {study.spec.name} runs with {what}",
        status="nothing_fits",
        given=what,
        allowed=[rejection.reason for rejection in study.not_run[:5]],
        hint="choose another --engine or --hardware; `qadvisor engines` lists what each runs",
        rejected=study.not_run,
    )


def nothing_fits(study: Study) -> NoAnswerError:
    """Nothing that a rule does not refuse fits the memory: says what would, and what it would cost."""
    usable = np.flatnonzero(~study.refused)
    pool = usable if len(usable) else np.arange(len(study.candidates))
    kind, context = study.losses[0].kind, study.setting.context
    smallest = int(pool[np.argmin(study.costs.total[pool])])
    candidate, need = study.candidates[smallest], int(study.costs.total[smallest])
    loss = f"{percent(float(study.loss[smallest]), kind)} %, up to {percent(float(study.upper[smallest]), kind)} %"
    return NoAnswerError(
        f"no recipe for {study.spec.name} fits {size(study.setting.budget_bytes)} at {context} tokens of context; "
        f"the smallest is {candidate.scheme_name} ({candidate.method.name}) with {size(need)} and an expected loss of {loss}",
        status="nothing_fits",
        given=size(study.setting.budget_bytes),
        allowed=f"{size(need)} or more",
        hint=_smaller_hint(study),
        rejected=rejections(study),
    )


def _smaller_hint(study: Study) -> str:
    ways = ["a shorter --context", "a smaller --batch" if study.setting.batch > 1 else "", "a smaller model of the family"]
    return "give more memory, " + " or ".join(way for way in ways if way)


def nothing_within_loss(study: Study) -> NoAnswerError:
    """Something fits, but its loss may be larger than tolerated: says the least loss that can be had."""
    usable = np.flatnonzero(study.fits & ~study.refused)
    kind = study.losses[0].kind
    by_upper = study.request.max_loss is not None
    bound = study.upper if by_upper else study.expected
    least = int(usable[np.argmin(bound[usable])])
    candidate = study.candidates[least]
    reached = percent(float(bound[least]), kind)
    what = "upper bound of the loss" if by_upper else "expected loss"
    return NoAnswerError(
        f"nothing that fits keeps the loss within {percent(study.tolerated, kind)} %; the least {what} is {reached} %, "
        f"of {candidate.scheme_name} ({candidate.method.name})",
        status="nothing_within_loss",
        given=f"{percent(study.tolerated, kind)} %",
        allowed=f"{reached} % or more",
        hint=f"--max-loss {np.ceil(float(reached.lstrip('+')) * 10) / 10:g}, or more memory",
        rejected=rejections(study),
    )


def too_little_evidence(study: Study) -> NoAnswerError:
    """Every recipe that is left lies outside what the evidence covers."""
    names = ", ".join(item.task.name for item in study.tasks)
    return NoAnswerError(
        f"too little evidence to advise on {names} for {study.spec.name}: no recipe that fits is like any that was measured",
        status="insufficient_evidence",
        given=names,
        hint="ask for a task type (`--task emergent`), or measure: `qadvisor measure plan`",
        rejected=rejections(study),
    )


def no_chance_level(task: str) -> NoAnswerError:
    """The task's scores cannot be read as losses, so nothing can be learned or advised about it."""
    return NoAnswerError(
        f"the chance level of {task!r} is not known, so its scores say nothing about losses",
        status="insufficient_evidence",
        given=task,
        hint=f"ask for its type (`qadvisor tasks show {task}`); `qadvisor evidence --task {task}` shows its scores",
    )
