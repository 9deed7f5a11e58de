"""A study: one request with every candidate sized, forecast and judged. `recommend` and `explain` both read from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from advisor.answer import Rejection
from advisor.background import in_background
from advisor.candidates import Candidate, generate_candidates
from advisor.costs import Costs, estimate_costs
from advisor.findings import Findings, overrule, rules_that_hold
from advisor.knowledge_version import knowledge_version
from advisor.losses import TaskLosses, estimate_losses
from advisor.pool import expected_loss
from advisor.predictor import Predictor
from advisor.rank import Scores, rank
from advisor.recipe_table import recipe_table
from advisor.relation import Columns, Setting, model_columns, request_columns
from advisor.request import DEFAULT_CONTEXT, DEFAULT_MAX_LOSS_PERCENT, AdviceRequest
from knowledge.errors import InvalidRequestError
from knowledge.hardware import HardwareSpec, find_hardware
from knowledge.home import home as home_folder
from knowledge.models import ModelSpec
from knowledge.resolve import resolve_model
from knowledge.rules import Rule
from knowledge.store import KnowledgeStore
from knowledge.task_catalogue import resolve_tasks
from knowledge.tasks import WeightedTask

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that an answer is drawn from; arrays in the order of `costs.candidates`."""

    request: AdviceRequest
    setting: Setting
    tasks: tuple[WeightedTask, ...]
    costs: Costs
    constants: Columns
    """Facts of the model, under the names of the candidate relation."""
    losses: tuple[TaskLosses, ...]
    findings: Findings
    not_run: tuple[Rejection, ...]
    """What the engine or hardware cannot run."""
    version: str
    notes: tuple[str, ...]

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return self.setting.spec

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates."""
        return self.costs.candidates

    @cached_property
    def loss(self) -> Floats:
        """Pooled loss over the tasks, by their weights."""
        return self._mean([item.pooled.point for item in self.losses])

    @cached_property
    def expected(self) -> Floats:
        """Mean of the loss over what it may turn out to be: what the ranking goes by."""
        return self._mean([expected_loss(item.pooled.point, item.pooled.lower, item.pooled.upper) for item in self.losses])

    @cached_property
    def upper(self) -> Floats:
        """Upper bound: the tasks' bounds are averaged as if their errors went together, which is the careful way."""
        return self._mean([item.pooled.upper for item in self.losses])

    @cached_property
    def lower(self) -> Floats:
        """Lower bound, likewise."""
        return self._mean([item.pooled.lower for item in self.losses])

    @cached_property
    def evidence_weight(self) -> Floats:
        """Share of the estimates that is evidence for the very cell."""
        return self._mean([item.pooled.evidence_weight for item in self.losses])

    @cached_property
    def in_support(self) -> Bools:
        """The predictor has seen the like on every task, or evidence outweighs it."""
        seen = np.column_stack([item.in_support | (item.pooled.evidence_weight > 0.5) for item in self.losses])
        return np.asarray(seen.all(axis=1))

    @property
    def noise_floor(self) -> float:
        """Standard error of one measured loss on the mix of tasks."""
        return float(np.sqrt(sum((item.weight * item.noise_floor) ** 2 for item in self.losses)))

    @property
    def tolerated(self) -> float:
        """Loss that objectives `memory` and `speed` tolerate, and against which a rule is judged wrong for a cell."""
        return tolerated_loss(_tolerated_percent(self.request), self.losses[0].kind)

    @cached_property
    def fits(self) -> Bools:
        """Within the memory."""
        return np.asarray(self.costs.total <= self.setting.budget_bytes)

    @cached_property
    def refused(self) -> Bools:
        """A rule refuses the candidate and no direct evidence contradicts it."""
        return self.findings.acting(["refuse"]) > 0

    @cached_property
    def within_loss(self) -> Bools:
        """Within the loss that the user tolerates: its upper bound where the user set a limit."""
        if self.request.max_loss is not None:
            return np.asarray(self.upper <= self.tolerated)
        if self.request.objective in ("memory", "speed"):
            return np.asarray(self.expected <= self.tolerated)
        return np.ones(len(self.candidates), dtype=bool)

    @cached_property
    def scores(self) -> Scores:
        """What the ranking sees."""
        table = recipe_table(self.candidates)
        return Scores(
            loss=self.expected,
            upper=self.upper,
            extrapolated=~self.in_support,
            engines=table.n_engines,
            total_bytes=self.costs.total,
            moved_bytes=self.costs.penalized,
            slow_kernel=table.slow_kernel,
            strong_avoid=self.findings.strong_avoid,
            weak_avoid=self.findings.acting(["avoid"], ["medium", "weak"]),
            prefer=self.findings.acting(["prefer"]),
        )

    def order(self, allowed: Bools, *, objective: str | None = None) -> Ints:
        """The allowed candidates, best first."""
        return rank(self.scores, allowed, objective or self.request.objective, noise_floor=self.noise_floor)

    def _mean(self, columns: Sequence[Floats]) -> Floats:
        weights = np.array([item.weight for item in self.losses])
        return np.average(np.column_stack(columns), axis=1, weights=weights)


def _tolerated_percent(request: AdviceRequest) -> float:
    return DEFAULT_MAX_LOSS_PERCENT if request.max_loss is None else request.max_loss


def tolerated_loss(percent: float, kind: str) -> float:
    """A tolerated loss in the losses' unit: a share of above-chance performance, or nats for `percent` more perplexity."""
    return percent / 100 if kind == "relative_loss" else float(np.log1p(percent / 100))


def make_study(
    request: AdviceRequest,
    store: KnowledgeStore,
    predictor: Predictor,
    rules: tuple[Rule, ...],
    *,
    home: Path | None = None,
) -> Study:
    """Size, forecast and judge every candidate of a request.

    Args:
        request: what is asked.
        store: the open knowledge base.
        predictor: what forecasts losses.
        rules: the rulebook.
        home: the user's folder, for hub facts that were cached.

    Raises:
        RequestError: the model, task, hardware or engine is unknown, or the request contradicts the model.
        InvalidModelError: the model's shape is incomplete, so that memory cannot be computed.
    """
    spec = resolve_model(request.model, online=request.online, home=home)
    tasks = resolve_tasks(request.task)
    hardware = find_hardware(request.hardware) if request.hardware else None
    context = _context(request, spec, tasks)
    setting = Setting(
        spec=spec,
        context=context,
        batch=request.batch,
        budget_bytes=_budget(request, hardware),
        hardware=hardware,
        objective=request.objective,
    )
    offered = generate_candidates(spec, engine=request.engine, hardware=hardware)
    costs = estimate_costs(spec, offered.candidates, context=context, batch=request.batch)
    constants = model_columns(spec, has_kv_cache=bool(costs.cache.any()))
    probed, probe_notes = _probed(request, predictor, spec, constants)
    constants |= probed
    requests = request_columns(setting, [item.task for item in tasks], has_kv_cache=bool(costs.cache.any()))
    recipe_table(costs.candidates)  # both threads need it, and at the first request each would make its own
    # DuckDB plans and evaluates the rules while NumPy forecasts.
    with in_background(lambda: rules_that_hold(store, rules, costs, requests, setting.budget_bytes)) as holds:
        losses = estimate_losses(store, predictor, costs.candidates, tasks, constants=constants, context=context)
        tolerated = tolerated_loss(_tolerated_percent(request), losses[0].kind)
        findings = overrule(losses, rules, holds(), tolerated)
    return Study(
        request=replace(request, memory=setting.budget_bytes, context=context),
        setting=setting,
        tasks=tasks,
        costs=costs,
        constants=constants,
        losses=losses,
        findings=findings,
        not_run=(*offered.rejected, *_unsized(costs)),
        version=knowledge_version(store.version, home or home_folder()),
        notes=(*_notes(request, spec, hardware, setting), *probe_notes, *store.warnings),
    )


def _probed(
    request: AdviceRequest, predictor: Predictor, spec: ModelSpec, constants: Columns
) -> tuple[Columns, tuple[str, ...]]:
    """What a probe of the model adds to its facts, and a note of it; nothing without one.

    Raises:
        InvalidRequestError: the probe cannot be read, or is of another model.
    """
    if request.probe is None:
        return {}, ()
    from advisor.probing import describe, read_probe, weight_excess

    probe = read_probe(Path(request.probe), model=spec.name, parameters=constants["params_b"] * 1e9)
    excess = weight_excess(predictor, probe, constants)
    return {"weight_excess": excess}, (describe(probe, excess),)


def reassess(study: Study, store: KnowledgeStore, predictor: Predictor, *, home: Path | None = None) -> Study:
    """The same request, candidates, costs and rules with the losses that other evidence or another predictor gives.

    Args:
        study: from `make_study`.
        store: the other knowledge base; catalogue and rulebook are the same.
        predictor: what forecasts losses.
        home: the user's folder, for the version of the answer.
    """
    losses = estimate_losses(
        store, predictor, study.candidates, study.tasks, constants=study.constants, context=study.setting.context
    )
    findings = overrule(losses, study.findings.rules, study.findings.by_task, study.tolerated)
    return replace(study, losses=losses, findings=findings, version=knowledge_version(store.version, home or home_folder()))


def _context(request: AdviceRequest, spec: ModelSpec, tasks: Sequence[WeightedTask]) -> int:
    if request.context is None:
        usual = max(DEFAULT_CONTEXT[item.task.type] for item in tasks)
        return min(usual, spec.max_context) if spec.max_context else usual
    if spec.max_context and request.context > spec.max_context:
        raise InvalidRequestError(
            f"a context of {request.context} tokens is beyond what {spec.name} was made for",
            given=str(request.context),
            allowed=f"1 … {spec.max_context}",
            hint=f"--context {spec.max_context}, or a model with a longer context",
        )
    return request.context


def _budget(request: AdviceRequest, hardware: HardwareSpec | None) -> int:
    if request.memory is not None:
        return request.memory
    if hardware is None or hardware.memory_bytes is None:
        name = hardware.name if hardware else "the hardware"
        raise InvalidRequestError(f"the memory of {name} is not known", given=name, hint="add --mem SIZE")
    return hardware.memory_bytes


def _unsized(costs: Costs) -> tuple[Rejection, ...]:
    by_reason: dict[str, Candidate] = {}
    for candidate, reason in costs.refused:
        by_reason.setdefault(reason, candidate)
    return tuple(
        Rejection(scheme=candidate.scheme_name, method=candidate.method.name, reason=reason, limit="engine")
        for reason, candidate in by_reason.items()
    )


def _notes(request: AdviceRequest, spec: ModelSpec, hardware: HardwareSpec | None, setting: Setting) -> tuple[str, ...]:
    notes = list(spec.notes)
    if request.context is None:
        notes.append(f"no context was given: {setting.context} tokens are assumed, the usual length for this type of task")
    if hardware and hardware.memory_bytes and setting.budget_bytes > hardware.memory_bytes:
        notes.append(
            f"the budget is larger than the memory of one {hardware.name} ({hardware.memory_bytes / 1e9:.1f} GB): "
            "it is taken as the sum over several, split without loss"
        )
    return tuple(notes)
