"""What to measure next: the cells whose measurement is worth most for the requests that are asked, per second that it takes.

**Value of a measurement** (expected value of sample information, Raiffa and Schlaifer 1961). The loss of a recipe on a task
is known up to its interval; a measurement with the noise of the test would move the estimate by `sd² / sqrt(sd² + noise²)`
on average, as Bayes' rule for normal distributions says. The request is answered again for `NODES` equally likely results.
Where the answer flips, the regret avoided is how much less the new choice is expected to lose; for the objectives that pay
loss for bytes, halving the bytes moved is worth what `balanced` gives for it, the tolerance of the ranking. The value is the
mean over the results, summed over requests by how often they were asked.

**Cost.** Seconds of past runs of like models on the task where there are records, else an estimate from the size: two
operations a parameter and token at `FLOPS`, with `LOAD_S` for each 1e9 parameters to load and quantize. The first cell of a
model and task pays for the unquantized run too. Cells are taken by value per second until the budget is spent.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from advisor.answer import round_floats, slots
from advisor.panel import best_of
from advisor.pool import Z90
from advisor.predictor import load_predictor
from advisor.rank import rank, tie_width
from advisor.recommendation import allowed_candidates, study_request
from advisor.request import AdviceRequest
from advisor.study import Study
from knowledge.errors import QAdvisorError
from knowledge.store import KnowledgeStore

NODES = (-1.2816, -0.5244, 0.0, 0.5244, 1.2816)
"""Standard normal quantiles of 10, 30, 50, 70 and 90 %: five equally likely results."""
CONTENDERS = 6
"""Recipes of a request that are looked at, in the order of the ranking."""
LEAST_NOISE = 0.005
FLOPS = 2e13
"""Operations a second of a data-centre GPU as harnesses use it, some 6 % of an A100's peak."""
LOAD_S = 15.0
TOKENS_PER_ITEM = 300
USUAL_ITEMS = 1000

Measurable = Callable[[str, str], bool]
"""Whether a scheme can be made by a method here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One thing to measure."""

    model: str
    scheme: str
    method: str
    task: str

    @property
    def recipe(self) -> str:
        """Scheme and method, as `measure` takes them."""
        return self.scheme if self.method in ("rtn", "none") else f"{self.scheme}:{self.method}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A cell with what its measurement is worth and what it takes."""

    cell: Cell
    command: str
    requests: int
    """Requests whose answer it may change."""
    flips: float
    """Probability that it changes one of them, the largest over the requests."""
    value: float
    """Expected regret avoided, summed over requests."""
    seconds: float
    estimated: bool
    """Whether the seconds are an estimate from the size, not taken from past runs."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, floats rounded."""
        facts = {name: value for name, value in slots(self).items() if name != "cell"}
        return round_floats(slots(self.cell) | {"recipe": self.cell.recipe} | facts)  # type: ignore[no-any-return]


def suggest(
    store: KnowledgeStore,
    requests: Mapping[AdviceRequest, int],
    *,
    budget_s: float,
    measurable: Measurable,
    past_s: Mapping[tuple[str, str], float],
    home: Path | None = None,
) -> tuple[Suggestion, ...]:
    """What to measure within a budget, the most worth per second first.

    Args:
        store: the open knowledge base.
        requests: what is asked, with how often.
        budget_s: seconds to spend.
        measurable: whether a scheme can be made by a method.
        past_s: median seconds of past runs by model and task, see `past_seconds`.
        home: folder of the user's state.
    """
    worth: dict[Cell, list[tuple[float, float]]] = defaultdict(list)
    sizes: dict[tuple[str, str], float] = {}
    hubs: dict[str, str] = {}
    for request, count in requests.items():
        try:
            study = study_request(request, store, predictor=load_predictor(store.predictor), home=home)
        except QAdvisorError:
            continue
        for cell, flips, regret in values_of(study, measurable):
            worth[cell].append((flips, count * regret))
        hubs[study.spec.name] = study.spec.hf_id or study.spec.name
        for item in study.tasks:
            items = item.task.items or USUAL_ITEMS
            sizes[study.spec.name, item.task.name] = _estimate(float(study.constants["params_b"]), items)
    found = []
    for cell, parts in worth.items():
        key = (cell.model, cell.task)
        seconds, known = past_s.get(key, sizes[key]), key in past_s
        value = sum(part for _, part in parts)
        command = f"qadvisor measure run --model {hubs[cell.model]} --recipes {cell.recipe} --tasks {cell.task}"
        found.append(
            Suggestion(
                cell=cell, command=command, requests=len(parts), flips=max(flips for flips, _ in parts), value=value,
                seconds=seconds, estimated=not known,
            )
        )  # fmt: skip
    return tuple(_within(found, budget_s))


def values_of(study: Study, measurable: Measurable) -> Iterator[tuple[Cell, float, float]]:
    """Cells of one request whose measurement may change its answer: probability of that, and expected regret avoided."""
    chosen = best_of(study)
    if isinstance(chosen, str):
        return
    order = study.order(allowed_candidates(study))
    for index in _contenders(study, order.tolist(), measurable):
        candidate = study.candidates[index]
        for place, losses in enumerate(study.losses):
            gains = [_gain(study, index, place, chosen, node) for node in NODES]
            flips = sum(gain is not None for gain in gains) / len(NODES)
            regret = sum(gain or 0.0 for gain in gains) / len(NODES)
            if regret > 0:
                name = candidate.scheme_name
                yield (
                    Cell(model=study.spec.name, scheme=name, method=candidate.method.name, task=losses.task.name),
                    flips,
                    regret,
                )


def _contenders(study: Study, order: Sequence[int], measurable: Measurable) -> list[int]:
    wanted = (i for i in order if measurable(study.candidates[i].scheme_name, study.candidates[i].method.name))
    return [index for index, _ in zip(wanted, range(CONTENDERS), strict=False)]


def _gain(study: Study, index: int, place: int, chosen: int, node: float) -> float | None:
    """Regret that one result of a measurement avoids; None where the answer stays."""
    losses, share = study.losses[place], study.losses[place].weight / sum(item.weight for item in study.losses)
    pooled = losses.pooled
    variance = ((pooled.upper[index] - pooled.lower[index]) / (2 * Z90)) ** 2
    noise = max(losses.noise_floor, LEAST_NOISE) ** 2
    point = pooled.point[index] + node * variance / np.sqrt(variance + noise)
    half = Z90 * np.sqrt(variance * noise / (variance + noise))
    skewed = study.expected[index] - study.loss[index]  # what the wider upper side adds goes with the uncertainty
    expected, upper = study.expected.copy(), study.upper.copy()
    expected[index] += share * (point - pooled.point[index]) - (skewed if len(study.losses) == 1 else share * skewed)
    upper[index] += share * (point + half - pooled.upper[index])
    allowed = study.fits & ~study.refused
    if study.request.max_loss is not None:
        allowed = allowed & (upper <= study.tolerated)
    elif study.request.objective in ("memory", "speed"):
        allowed = allowed & (expected <= study.tolerated)
    scores = replace(study.scores, loss=expected, upper=upper)
    found = rank(scores, np.asarray(allowed), study.request.objective, noise_floor=study.noise_floor)
    if not len(found) or int(found[0]) == chosen:
        return None
    return _worth(study, expected, chosen, int(found[0]))


def _worth(study: Study, expected: np.ndarray[Any, np.dtype[np.float64]], old: int, new: int) -> float:
    gain = float(expected[old] - expected[new])
    if study.request.objective != "quality":
        moved = study.costs.total if study.request.objective == "memory" else study.costs.penalized
        gain += tie_width(study.noise_floor) * float(np.log2(moved[old] / moved[new]))
    return max(gain, 0.0)


def _estimate(params_b: float, items: int) -> float:
    return LOAD_S * params_b + 2 * params_b * 1e9 * items * TOKENS_PER_ITEM / FLOPS


def _within(found: Sequence[Suggestion], budget_s: float) -> Iterator[Suggestion]:
    """By value per second until the budget is spent; the first cell of a model and task pays for the unquantized run."""
    measured: set[tuple[str, str]] = set()
    left = budget_s
    for one in sorted(found, key=lambda one: (-one.value / one.seconds, one.command)):
        key = (one.cell.model, one.cell.task)
        seconds = one.seconds * (1 if key in measured else 2)
        if seconds <= left:
            measured.add(key)
            left -= seconds
            yield replace(one, seconds=seconds)


def past_seconds(home: Path) -> dict[tuple[str, str], float]:
    """Median seconds of the records of `runs/` by model and task."""
    from knowledge.catalogue import match_model
    from knowledge.measurements import record_from_json

    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in sorted((home / "runs").glob("*.json"))[:2000]:
        try:
            record = record_from_json(path.read_bytes(), source=str(path))
        except (OSError, QAdvisorError):
            continue
        spec = match_model(record.spec.model)
        if spec and record.seconds:
            found[spec.name, record.spec.task].append(sum(record.seconds.values()))
    return {key: median(values) for key, values in found.items()}
