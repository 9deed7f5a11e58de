"""Evidence: published scores with the loss, its noise and the weight that each row has in a fit.

**Loss** (the one definition of the package). Accuracy-like metrics: `(baseline - score) / (baseline - chance)`, the share
of the above-chance performance that is lost. Perplexity: `ln(score) - ln(baseline)`, in nats per token, word or byte as
the metric or the task says; that of a cloze task (LAMBADA) is per answer, a word. Other metrics (KL divergence, bias
scores, drops under attack) are shown and have no loss.

**Noise** (`loss_se`): the score's binomial error over `baseline - chance`. Score and baseline are answers to the same
items; with a correlation of 1/2 between the two, the variance of their difference, `s² + b² - 2·s·b/2`, is that of one
of them. One item is added on either side, so that 0 of 50 is not taken for certain. For graded metrics (F1, ROUGE) this
is an upper bound. MT-bench scores have no items in this sense: 0.2 points, the spread that 8-bit weights alone cause in
Li et al. 2024. Perplexities: unknown (None). Where both runs are known item by item, the error of their mean difference
stands in its place, with one item lost and one won added (`paired_se`); that holds for perplexities too.

**Weight** (0 to 1) keeps one test, or one source, from drowning the others:

- rows of one source about the same model, scheme, method, task and context share a weight of 1: seeds, metrics, variants,
  and the 26 languages of one OneRuler cell, which therefore counts as one row and not as 26;
- AdvGLUE counts a quarter (71 to 162 items a test, effects below its noise), as does TruthfulQA mc2 (a collapsed model
  still scores 48): Li et al. 2024;
- what is left of a source is scaled down until it is at most a quarter of all weight.

**Not learned from** (`learnable` false, `reason` says why): baselines; rows without a loss; rows whose note calls them
suspect, or whose baseline is far from that of the same test in the same source; means of other rows and parts of another
row of the same source; rows that another source prints as well; rows that a source chose by their result; baselines that
are not clearly above chance (less than 5 % of the scale, or than 4 standard errors, so that the denominator of the loss is
known to a quarter).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

from knowledge.errors import DataError
from knowledge.tasks import METRICS, TaskSpec
from knowledge.values import value

COLUMNS: dict[str, str] = {
    "evidence_id": "INTEGER",
    "source": "VARCHAR",
    "ref": "VARCHAR",
    "licence": "VARCHAR",
    "model": "VARCHAR",
    "family": "VARCHAR",
    "params_b": "DOUBLE",
    "tuned": "BOOLEAN",
    "method": "VARCHAR",
    "scheme": "VARCHAR",
    "w_bits": "DOUBLE",
    "w_dtype": "VARCHAR",
    "w_group": "INTEGER",
    "w_sym": "BOOLEAN",
    "a_bits": "DOUBLE",
    "a_dtype": "VARCHAR",
    "kv_bits": "DOUBLE",
    "kv_dtype": "VARCHAR",
    "kv_group": "VARCHAR",
    "kv_name": "VARCHAR",
    "format": "VARCHAR",
    "bpw": "DOUBLE",
    "task": "VARCHAR",
    "task_type": "VARCHAR",
    "ability": "VARCHAR",
    "shots": "INTEGER",
    "context": "INTEGER",
    "metric": "VARCHAR",
    "higher_is_better": "BOOLEAN",
    "score": "DOUBLE",
    "baseline": "DOUBLE",
    "baseline_dtype": "VARCHAR",
    "note": "VARCHAR",
    "chance": "DOUBLE",
    "items": "INTEGER",
    "loss_kind": "VARCHAR",
    "unit": "VARCHAR",
    "loss": "DOUBLE",
    "loss_se": "DOUBLE",
    "suspect": "BOOLEAN",
    "is_average": "BOOLEAN",
    "weight": "DOUBLE",
    "learnable": "BOOLEAN",
    "reason": "VARCHAR",
    "own": "BOOLEAN",
}
"""Columns of the relation `evidence` with their DuckDB types."""

BATCH_COLUMNS: dict[str, str] = {name: kind for name, kind in COLUMNS.items() if name != "evidence_id"} | {
    "row_hash": "VARCHAR",
    "file": "VARCHAR",
    "checkpoint": "VARCHAR",
    "key": "VARCHAR",
}
"""Columns of a batch of the user's own rows, with their DuckDB types: those of `evidence` (its `evidence_id` is given when
a store is built), then where the row comes from.

`row_hash` is sixteen hexadecimal digits over what was measured, so that nothing is taken twice; `file` the name of the file
it was read from; `checkpoint` the fingerprint or name of the very weights, `key` the conditions that score and baseline
share, as JSON. The last two are NULL where unknown.
"""

EFFICIENCY_COLUMNS: dict[str, str] = {
    "source": "VARCHAR",
    "ref": "VARCHAR",
    "licence": "VARCHAR",
    "model": "VARCHAR",
    "params_b": "DOUBLE",
    "method": "VARCHAR",
    "w_bits": "DOUBLE",
    "a_bits": "DOUBLE",
    "kv_bits": "DOUBLE",
    "format": "VARCHAR",
    "engine": "VARCHAR",
    "hardware": "VARCHAR",
    "n_gpus": "INTEGER",
    "batch": "INTEGER",
    "prompt_len": "INTEGER",
    "gen_len": "INTEGER",
    "prefill_tok_s": "DOUBLE",
    "decode_tok_s": "DOUBLE",
    "latency_ms_per_token": "DOUBLE",
    "peak_mem_gb": "DOUBLE",
    "weights_gb": "DOUBLE",
    "note": "VARCHAR",
}
"""Columns of the relation `efficiency` with their DuckDB types."""

EFFICIENCY_BATCH_COLUMNS: dict[str, str] = {**EFFICIENCY_COLUMNS, "row_hash": "VARCHAR", "file": "VARCHAR"}
"""Columns of a batch of the user's own speed and memory figures, see `BATCH_COLUMNS`."""

PUBLISHED = Path(__file__).parent / "published"

RELATIVE_UNIT = "share of above-chance performance"
MIN_ABOVE_CHANCE = 0.05
"""Share of the scale by which a baseline must exceed chance; below it the loss divides noise by noise."""
ODD_BASELINE = 0.05
"""Share of the scale by which a baseline may differ from its source's others before the row is suspect."""
MIN_STANDARD_ERRORS = 4
"""Standard errors of the baseline by which it must exceed chance."""
JUDGE_SE = 0.2
"""Spread of MT-bench round scores under 8-bit weights, in points of 10 (Li et al. 2024, released assets)."""
BROKEN = "probably a broken checkpoint"
"""Start of the reason for which rows of a checkpoint far below its prediction are not learned from."""
UNKNOWN_ITEM_SE = 0.03
"""Standard error of a loss whose source does not state the number of items: that of a test of some 500 items."""
MAX_SOURCE_SHARE = 0.25
LOW_TRUST = {"adv_": 0.25, "truthfulqa_mc2": 0.25}
"""Tasks (by the start of their name) whose rows count less than one."""


def evidence_path() -> Path:
    """The packaged published scores (Parquet, `COLUMNS`)."""
    return PUBLISHED / "accuracy.parquet"


def efficiency_path() -> Path:
    """The packaged published speed and memory figures (Parquet)."""
    return PUBLISHED / "efficiency.parquet"


@value
class Loss:
    """A loss with its kind, unit and standard error; None where unknown or not defined."""

    kind: str | None = None
    unit: str | None = None
    value: float | None = None
    se: float | None = None


def loss_of(
    task: TaskSpec,
    metric: str,
    score: float,
    baseline: float,
    *,
    chance: float | None,
    items: int | None = None,
    difference_se: float | None = None,
) -> Loss:
    """The loss of `score` against `baseline`, see the module's head.

    Args:
        task: its unit decides the unit of a perplexity's loss.
        metric: a name in `METRICS`.
        score: figure of the quantized model, in the metric's unit (percent, points, perplexity).
        baseline: figure of the unquantized model on the same test.
        chance: score of an uninformed answer; None leaves the value None.
        items: test items behind the score.
        difference_se: standard error of `score - baseline` over the items (perplexity: of the difference in nats), where both
            runs are known item by item.

    Raises:
        DataError: nobody knows the metric, or a perplexity is not positive.
    """
    spec = METRICS.get(metric)
    if spec is None:
        raise DataError(f"unknown metric {metric!r}", given=metric, allowed=sorted(METRICS))
    if spec.loss == "none":
        return Loss()
    if spec.loss == "delta_nll":
        return Loss(
            kind="delta_nll", unit=_nll_unit(task, metric), value=_delta_nll(metric, score, baseline), se=difference_se or None
        )
    if chance is None or baseline <= chance:
        return Loss(kind="relative", unit=RELATIVE_UNIT)
    span = baseline - chance
    error = score_se(metric, score, items) if difference_se is None else paired_se(metric, difference_se, items)
    return Loss(kind="relative", unit=RELATIVE_UNIT, value=(baseline - score) / span, se=_over(error, span))


def score_se(metric: str, score: float, items: int | None) -> float | None:
    """Standard error of a score in its own unit; None where the items are unknown."""
    if metric == "score10":
        return JUDGE_SE
    maximum = METRICS[metric].maximum
    if maximum is None or not items:
        return None
    share = (min(max(score / maximum, 0.0), 1.0) * items + 1) / (items + 2)
    return maximum * math.sqrt(share * (1 - share) / items)


def paired_se(metric: str, difference_se: float, items: int | None) -> float:
    """Standard error of a difference of paired scores that is not 0 because no item happened to change.

    One item lost and one won are added to the `items`: their squares, twice the metric's maximum squared over `items + 2`,
    are added to the variance of a single difference.
    """
    maximum = METRICS[metric].maximum
    if maximum is None or not items:
        return difference_se
    return math.sqrt(difference_se**2 + 2 * maximum**2 / ((items + 2) * items))


def above_chance(metric: str, baseline: float, chance: float, items: int | None) -> bool:
    """Whether a baseline is far enough above chance for a loss to mean something."""
    margin = baseline - chance
    return margin >= MIN_ABOVE_CHANCE * (METRICS[metric].maximum or 0) and margin >= MIN_STANDARD_ERRORS * (
        score_se(metric, baseline, items) or 0
    )


def weigh(cells: Sequence[Hashable], sources: Sequence[str], tasks: Sequence[str]) -> list[float]:
    """Weights of learnable rows, see the module's head.

    Args:
        cells: what a row is about: rows of equal cell share a weight of 1.
        sources: where each row comes from; no source keeps more than `MAX_SOURCE_SHARE` of all weight.
        tasks: task names, for `LOW_TRUST`.
    """
    repeats = Counter(cells)
    weights = [_trust(task) / repeats[cell] for cell, task in zip(cells, tasks, strict=True)]
    totals: dict[str, float] = defaultdict(float)
    for source, weight in zip(sources, weights, strict=True):
        totals[source] += weight
    factors = _capped(totals)
    return [weight * factors[source] for source, weight in zip(sources, weights, strict=True)]


def _capped(totals: dict[str, float]) -> dict[str, float]:
    """Factor of each source so that none exceeds its share of the sum after scaling."""
    factors = dict.fromkeys(totals, 1.0)
    capped: set[str] = set()
    while len(totals) > 1 / MAX_SOURCE_SHARE:
        rest = sum(total for source, total in totals.items() if source not in capped)
        limit = MAX_SOURCE_SHARE * rest / (1 - MAX_SOURCE_SHARE * len(capped))
        over = {source for source, total in totals.items() if source not in capped and total > limit}
        if not over:
            break
        capped |= over
        rest = sum(total for source, total in totals.items() if source not in capped)
        limit = MAX_SOURCE_SHARE * rest / (1 - MAX_SOURCE_SHARE * len(capped))
        factors |= {source: limit / totals[source] for source in capped}
    return factors


def _trust(task: str) -> float:
    return next((trust for start, trust in LOW_TRUST.items() if task.startswith(start)), 1.0)


def _nll_unit(task: TaskSpec, metric: str) -> str:
    of_metric = {"word_perplexity": "nats per word", "byte_perplexity": "nats per byte"}.get(metric)
    return of_metric or (task.unit if task.unit.startswith("nats") else "nats per word")


def _delta_nll(metric: str, score: float, baseline: float) -> float:
    if metric == "nll":
        return score - baseline
    if score <= 0 or baseline <= 0:
        raise DataError("a perplexity must be positive", given=f"{score:g} against {baseline:g}")
    return math.log(score) - math.log(baseline)


def _over(error: float | None, span: float) -> float | None:
    return None if error is None else error / span
