"""Which predictions about quantization hold on the pocket models: `python -m measure.pocket.findings RECORDS` prints the table.

The predictions P1 to P12 and how each is decided stand in `docs/experiments.md`, written before anything was quantized. RECORDS
is a folder of runs or a packed file (`measure.pocket.records`).
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledge.measurements import RunRecord
from measure.pocket.records import load
from measure.pocket.tasks import TASKS

Floats = NDArray[np.float64]

_RESAMPLES = 2000
_CHANCE = {"retrieval": 0.0, "arithmetic-choice": 0.25, "pocket-sums": 0.0, "pocket-instructions": 0.0, "pocket-modules": 0.25}
_SCORE = {"retrieval": "exact_match", "arithmetic-choice": "acc", "pocket-modules": "acc"}
_ABOVE_CHANCE = 4
"""Standard errors by which a baseline must exceed chance for a skill to count as learned."""


def _w(bits: int, method: str = "") -> str:
    return f"w{bits}a16-g128-asym{method}"


class Sweep:
    """All scores of one model."""

    def __init__(self, model: str, records: Sequence[RunRecord]) -> None:
        self.model = model
        self.parameters = records[0].model.parameters
        self._records = {(record.spec.recipe, record.spec.task): record for record in records if record.status == "ok"}

    @property
    def recipes(self) -> list[str]:
        """Every recipe measured, the baseline not among them."""
        return sorted({recipe for recipe, _ in self._records if recipe != "none"})

    def samples(self, recipe: str, task: str, column: str) -> Floats:
        """One column of per-sample results."""
        return np.array(self._records[recipe, task].samples[column], float)

    def text_rise(self, recipe: str) -> Floats:
        """Rise over the baseline of each window of text, nats per token."""
        return self.samples(recipe, "perplexity", "nll_per_token") - self.samples("none", "perplexity", "nll_per_token")

    def answer_rise(self, recipe: str, context: int | None = None) -> Floats:
        """Rise over the baseline of the answer to each look-up (of one context length), nats per token."""
        rise = self.samples(recipe, "retrieval", "answer_nll") - self.samples("none", "retrieval", "answer_nll")
        return rise if context is None else rise[self.samples(recipe, "retrieval", "context") == context]

    def scores(self, recipe: str, task: str) -> Floats:
        """1 for right and 0 for wrong, item by item."""
        return self.samples(recipe, task, _SCORE.get(task, "exact_match"))

    def percent(self, recipe: str, task: str) -> str:
        """The score in percent, empty where it was not measured."""
        return f"{100 * self.scores(recipe, task).mean():.0f}" if (recipe, task) in self._records else ""

    def learned(self, task: str) -> bool:
        """Whether the unquantized model is clearly above chance; False where the task was not measured."""
        if ("none", task) not in self._records:
            return False
        before = self.scores("none", task)
        share = (before.sum() + 1) / (len(before) + 2)
        return float(before.mean()) - _CHANCE[task] >= _ABOVE_CHANCE * float(np.sqrt(share * (1 - share) / len(before)))

    def lacks(self, task: str) -> str:
        """Why the model says nothing about a skill."""
        return f"{task} not {'learned' if ('none', task) in self._records else 'measured'}"

    def lost(self, recipe: str, tasks: Sequence[str], rows: Callable[[int], NDArray[np.int64]] | None = None) -> float:
        """Mean over tasks of (baseline - score) / (baseline - chance); `rows` draws items."""
        shares = []
        for task in tasks:
            before, after = self.scores("none", task), self.scores(recipe, task)
            if rows is not None:
                chosen = rows(len(before))
                before, after = before[chosen], after[chosen]
            shares.append(float((before.mean() - after.mean()) / max(before.mean() - _CHANCE[task], 0.01)))
        return float(np.mean(shares))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A prediction, what was found for one model, and whether it holds."""

    id: str
    model: str
    statistic: str
    value: float = float("nan")
    lower: float = float("nan")
    upper: float = float("nan")
    verdict: str = "unclear"
    reason: str = ""


def decide(lower: float, upper: float, region: tuple[float, float]) -> str:
    """`yes` where the interval lies within the predicted region, `no` where it lies outside, `unclear` else."""
    if region[0] < lower and upper < region[1]:
        return "yes"
    return "no" if upper <= region[0] or lower >= region[1] else "unclear"


def _finding(
    id: str, model: str, statistic: str, value: float, draws: Floats, region: tuple[float, float] = (0.0, np.inf)
) -> Finding:
    lower, upper = (float(bound) for bound in np.quantile(draws, [0.025, 0.975]))
    verdict = decide(lower, upper, region)
    return Finding(id=id, model=model, statistic=statistic, value=value, lower=lower, upper=upper, verdict=verdict)


def _mean(id: str, model: str, statistic: str, values: Floats, region: tuple[float, float] = (0.0, np.inf)) -> Finding:
    rng = np.random.default_rng(0)
    draws = values[rng.integers(0, len(values), (_RESAMPLES, len(values)))].mean(axis=1)
    return _finding(id, model, statistic, float(values.mean()), draws, region)


def _two_means(id: str, model: str, statistic: str, first: Floats, second: Floats) -> Finding:
    rng = np.random.default_rng(0)
    one, two = (values[rng.integers(0, len(values), (_RESAMPLES, len(values)))].mean(axis=1) for values in (first, second))
    return _finding(id, model, statistic, float(first.mean() - second.mean()), one - two)


def text_findings(sweep: Sweep) -> Iterator[Finding]:
    """P1 to P4, P8, P11: what the likelihood of text tells."""
    rise, model = sweep.text_rise, sweep.model
    yield _mean("P1", model, "rise W8", rise(_w(8)), (-np.inf, 0.01))
    yield _mean("P2", model, "rise W4", rise(_w(4)), (0.0, 0.1))
    yield _mean("P3", model, "rise W3 - 3 x rise W4", rise(_w(3)) - 3 * rise(_w(4)))
    yield _mean("P4", model, "rise W2", rise(_w(2)), (0.5, np.inf))
    for method in ("gptq", "awq"):
        yield _mean("P8", model, f"rise W3 - rise W3 {method}", rise(_w(3)) - rise(_w(3, f":{method}")))
    yield _mean("P11", model, "rise W4A4 - rise W4A8", rise("w4a4-g128-asym") - rise("w4a8-g128-asym"))


def retrieval_findings(sweep: Sweep) -> Iterator[Finding]:
    """P5, P6, P12: what look-ups tell."""
    rise, model = sweep.answer_rise, sweep.model
    if not sweep.learned("retrieval"):
        for id in ("P5", "P6", "P12"):
            yield Finding(id=id, model=model, statistic="answer rise", reason=sweep.lacks("retrieval"))
        return
    yield _mean("P5", model, "rise KV4 - rise W4", rise("w16a16-kv4") - rise(_w(4)))
    longest = int(sweep.samples("none", "retrieval", "context").max())
    for bits in (4, 3):
        name = f"w16a16-kv{bits}"
        yield _two_means("P6", model, f"rise KV{bits}, {longest} - 128 tokens", rise(name, longest), rise(name, 128))
    yield _mean("P12", model, "rise KV2 - rise KIVI2", rise("w16a16-kv2") - rise("w16a16-kivi2"))


def skill_findings(sweep: Sweep) -> Iterator[Finding]:
    """P9 and P10: arithmetic against choice, and what perplexity says about skills."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> NDArray[np.int64]:
        return rng.integers(0, count, count)

    for choice in ("arithmetic-choice", "pocket-modules"):
        missing = [task for task in ("pocket-sums", choice) if not sweep.learned(task)]
        if missing:
            yield Finding(id="P9", model=sweep.model, statistic=f"lost sums - lost {choice}", reason=sweep.lacks(missing[0]))
            continue
        value = sweep.lost(_w(3), ["pocket-sums"]) - sweep.lost(_w(3), [choice])
        draws = [sweep.lost(_w(3), ["pocket-sums"], draw) - sweep.lost(_w(3), [choice], draw) for _ in range(_RESAMPLES)]
        yield _finding("P9", sweep.model, f"lost sums - lost {choice} at W3", value, np.array(draws))
    for name, tasks in (("knowledge", ["pocket-modules"]), ("generation", ["pocket-sums", "pocket-instructions"])):
        taught = [task for task in tasks if sweep.learned(task)]
        if not taught:
            yield Finding(id="P10", model=sweep.model, statistic=f"rank correlation, {name}", reason=sweep.lacks(tasks[0]))
            continue
        rises = np.array([sweep.text_rise(recipe).mean() for recipe in sweep.recipes])
        losses = np.array([sweep.lost(recipe, taught) for recipe in sweep.recipes])
        chosen = [draw(len(rises)) for _ in range(_RESAMPLES)]
        draws = [_rank_correlation(rises[rows], losses[rows]) for rows in chosen]
        yield _finding(
            "P10", sweep.model, f"rank correlation, {name}", _rank_correlation(rises, losses), np.array(draws), (0.5, np.inf)
        )


def size_findings(smallest: Sweep, largest: Sweep) -> Iterator[Finding]:
    """P7: what more parameters tolerate; both models read the same windows of the same tokens."""
    for bits in (3, 4):
        difference = smallest.text_rise(_w(bits)) - largest.text_rise(_w(bits))
        yield _mean("P7", f"{smallest.model}, {largest.model}", f"rise W{bits}, smallest - largest", difference)


def _rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's, ties with mean ranks; 0 where a column is constant."""
    from scipy.stats import rankdata

    one, two = rankdata(first), rankdata(second)
    return 0.0 if np.ptp(one) == 0 or np.ptp(two) == 0 else float(np.corrcoef(one, two)[0, 1])


def sweeps_of(records: Sequence[RunRecord]) -> list[Sweep]:
    """The sweeps in `records`, the smallest model first."""
    by_model: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_model[record.spec.model].append(record)
    return sorted((Sweep(model, found) for model, found in by_model.items()), key=lambda sweep: sweep.parameters)


def all_findings(sweeps: Sequence[Sweep]) -> list[Finding]:
    """Every finding, by number of the prediction."""
    found = [
        finding for sweep in sweeps for kind in (text_findings, retrieval_findings, skill_findings) for finding in kind(sweep)
    ]
    if len(sweeps) > 1:
        found += size_findings(sweeps[0], sweeps[-1])
    return sorted(found, key=lambda finding: int(finding.id[1:]))


def findings_table(findings: Sequence[Finding]) -> str:
    """The findings as Markdown."""
    lines = ["| | model | statistic | found | holds |", "| --- | --- | --- | --- | --- |"]
    for item in findings:
        value = item.reason or f"{item.value:.4f} ({item.lower:.4f} to {item.upper:.4f})"
        lines.append(f"| {item.id} | {item.model} | {item.statistic} | {value} | {item.verdict} |")
    return "\n".join(lines)


def scores_table(sweeps: Sequence[Sweep]) -> str:
    """Rise of text and scores (percent) of every recipe, one line a model and recipe, as Markdown."""
    tasks = ["retrieval", "arithmetic-choice", *TASKS]
    lines = [f"| model | recipe | text rise | answer rise | {' | '.join(tasks)} |", "| --- " * (4 + len(tasks)) + "|"]
    for sweep in sweeps:
        for recipe in ("none", *sweep.recipes):
            scores = " | ".join(sweep.percent(recipe, task) for task in tasks)
            rises = f"{sweep.text_rise(recipe).mean():.4f} | {sweep.answer_rise(recipe).mean():.4f}"
            lines.append(f"| {sweep.model} | {recipe} | {rises} | {scores} |")
    return "\n".join(lines)


if __name__ == "__main__":
    _sweeps = sweeps_of(load(Path(sys.argv[1])))
    sys.stdout.write(f"{findings_table(all_findings(_sweeps))}\n\n{scores_table(_sweeps)}\n")
