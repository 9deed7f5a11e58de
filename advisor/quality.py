"""From a study to what one candidate's quality is: pooled loss, its parts by task, the evidence quoted and the rules."""

from collections.abc import Sequence

import numpy as np

from advisor.answer import Estimate, EvidenceRow, Quality, RuleEffect, TaskQuality
from advisor.losses import TaskLosses, shown_rows
from advisor.pool import Z90
from advisor.study import Study
from knowledge.rules import Citation, Rule


def describe_quality(study: Study, index: int) -> Quality:
    """The loss of candidate `index` on the requested tasks, with both its sources."""
    by_task = tuple(_task_quality(losses, index) for losses in study.losses)
    single = by_task[0] if len(by_task) == 1 else None
    return Quality(
        kind=study.losses[0].kind,
        unit=study.losses[0].unit,
        loss=Estimate(point=float(study.loss[index]), lower=float(study.lower[index]), upper=float(study.upper[index])),
        expected_loss=float(study.expected[index]),
        level=study.losses[0].level,
        basis="direct" if study.evidence_weight[index] > 0.5 else "predicted",
        n_evidence=sum(task.n_evidence for task in by_task),
        in_support=bool(study.in_support[index]),
        expected_score=single.expected_score if single else None,
        baseline=single.baseline if single else None,
        by_task=by_task,
    )


def _task_quality(losses: TaskLosses, index: int) -> TaskQuality:
    pooled, cell = losses.pooled, losses.pooled.cells[index]
    point = float(pooled.point[index])
    half = Z90 * float(np.sqrt(cell.variance)) if cell else 0.0
    return TaskQuality(
        task=losses.task.name,
        weight=losses.weight,
        loss=Estimate(point=point, lower=float(pooled.lower[index]), upper=float(pooled.upper[index])),
        predicted=Estimate(
            point=float(losses.point[index]), lower=float(losses.lower[index]), upper=float(losses.upper[index])
        ),
        direct=Estimate(point=cell.mean, lower=cell.mean - half, upper=cell.mean + half) if cell else None,
        n_evidence=cell.n if cell else 0,
        in_support=bool(losses.in_support[index]),
        n_calibration=int(losses.n_calibration[index]),
        baseline=losses.baseline,
        expected_score=_expected_score(losses, point),
        chance=losses.task.chance,
        metric=losses.task.metric,
    )


def _expected_score(losses: TaskLosses, loss: float) -> float | None:
    """The score that the loss makes of the baseline, where the model's baseline is known."""
    if losses.baseline is None:
        return None
    if losses.kind == "delta_nll":
        return losses.baseline * float(np.exp(loss))
    if losses.task.chance is None:
        return None
    return losses.baseline - loss * (losses.baseline - losses.task.chance)


def quoted_evidence(study: Study, index: int) -> tuple[EvidenceRow, ...]:
    """Rows about this recipe, or about its weight part and its cache part, on the requested tasks."""
    rows = []
    for losses in study.losses:
        columns = losses.evidence
        for row in shown_rows(losses, index):
            context = columns["context"][row]
            rows.append(
                EvidenceRow(
                    source=str(columns["source"][row]),
                    ref=str(columns["ref"][row]),
                    model=study.spec.name,
                    scheme=str(columns["scheme"][row]),
                    method=str(columns["method"][row]),
                    task=losses.task.name,
                    metric=str(columns["metric"][row]),
                    context=int(context) if context is not None and context == context else None,
                    score=_number(columns["score"][row]),
                    baseline=_number(columns["baseline"][row]),
                    loss=_number(columns["loss"][row]),
                )
            )
    return tuple(rows)


def rule_effects(study: Study, index: int) -> tuple[RuleEffect, ...]:
    """What the rules say of candidate `index`, those that bear on the choice first."""
    findings = study.findings
    order = {"refuse": 0, "require": 1, "avoid": 2, "prefer": 3, "caution": 4}
    strength = {"strong": 0, "medium": 1, "weak": 2}
    held = sorted(
        (int(column) for column in np.flatnonzero(findings.holds[index])),
        key=lambda column: (order[findings.rules[column].acting], strength[findings.rules[column].strength], column),
    )
    return tuple(_effect(findings.rules[column], overruled=bool(findings.overruled[index, column])) for column in held)


def _effect(rule: Rule, *, overruled: bool) -> RuleEffect:
    return RuleEffect(
        id=rule.id,
        title=rule.title,
        effect=rule.acting,
        strength=rule.strength,
        why=rule.why,
        citations=tuple(cite(citation) for citation in rule.citations),
        status="overruled" if overruled else "contradicted" if rule.contradicted else "applied",
    )


def cite(citation: Citation) -> str:
    """A citation as one line: paper, place, number."""
    parts: Sequence[str | None] = (citation.paper, citation.where, citation.number)
    return ", ".join(part for part in parts if part)


def _number(value: object) -> float | None:
    number = float(value) if value is not None else np.nan  # type: ignore[arg-type]
    return None if np.isnan(number) else number
