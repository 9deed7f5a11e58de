"""Where the user's own figures and published ones of the same model, recipe, task and context disagree beyond the noise.

The difference is set against its standard error: the items of both tests, and the deviation of a source
(`advisor.source_noise`) for the published side, which differs from the user's conditions as sources differ from each other.
Figures have heavier tails than a normal distribution, so Student's t with four degrees of freedom is taken, as where the
deviation was estimated. Listed is what survives Benjamini and Hochberg's step-up over all cells that both measured.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from advisor.answer import round_floats, slots
from advisor.broken import step_up
from advisor.features import Floats
from advisor.pool import LEAST_OWN_SE, source_deviation
from advisor.report_words import percent
from advisor.source_noise import load_source_noise
from knowledge.evidence import UNKNOWN_ITEM_SE
from knowledge.store import KnowledgeStore

FALSE_SHARE = 0.05
"""Expected share of false alarms among the conflicts listed."""

_CELL = "model, scheme, method, task, loss_kind, coalesce(context, 0)"
_BOTH = f"""
WITH own AS (
    SELECT {_CELL} AS context, avg(loss) AS loss, avg(coalesce(loss_se, $unknown) ** 2) AS variance, count(*) AS n
    FROM evidence WHERE own AND learnable AND method <> 'none' GROUP BY ALL
),
source AS (
    SELECT {_CELL} AS context, source, avg(loss) AS loss, avg(coalesce(loss_se, $unknown) ** 2) / count(*) AS variance
    FROM evidence WHERE NOT own AND learnable GROUP BY ALL
),
published AS (
    SELECT model, scheme, method, task, loss_kind, context, list(source ORDER BY source) AS sources,
        list(loss ORDER BY source) AS losses, list(variance ORDER BY source) AS variances
    FROM source GROUP BY ALL
)
SELECT model, scheme, method, task, loss_kind, own.loss, own.variance, n, sources, losses, variances
FROM own JOIN published USING (model, scheme, method, task, loss_kind, context)
ORDER BY ALL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One cell on which the user's figures and published ones disagree."""

    model: str
    scheme: str
    method: str
    task: str
    kind: str
    own: float
    """Mean loss of the user's figures."""
    published: float
    """Mean loss of the published ones, by inverse variance."""
    n_own: int
    sources: tuple[str, ...]
    errors: float
    """Difference over its standard error."""

    @property
    def words(self) -> str:
        """The conflict in a line."""
        kind = "delta_nll" if self.kind == "delta_nll" else "relative_loss"
        return (
            f"{self.model} · {self.scheme} ({self.method}) · {self.task}: own {percent(self.own, kind)} %, published "
            f"{percent(self.published, kind)} % ({', '.join(self.sources)}), {abs(self.errors):.1f} standard errors apart"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, floats rounded."""
        return round_floats(slots(self))  # type: ignore[no-any-return]


def find_conflicts(store: KnowledgeStore) -> tuple[Conflict, ...]:
    """Cells on which own and published figures differ beyond the noise, the largest difference first."""
    cells = [_compare(*row) for row in store.rows(_BOTH, {"unknown": UNKNOWN_ITEM_SE})]
    p = 2 * upper_tail(np.abs(np.array([cell.errors for cell in cells])))
    found = [cell for cell, rejected in zip(cells, step_up(p, FALSE_SHARE), strict=True) if rejected]
    return tuple(sorted(found, key=lambda cell: -abs(cell.errors)))


def upper_tail(t: Floats) -> Floats:
    """Probability that Student's t with four degrees of freedom exceeds `t`."""
    return np.asarray(0.5 - t * (t**2 + 6) / (2 * (t**2 + 4) ** 1.5))


def _compare(
    model: str, scheme: str, method: str, task: str, kind: str, loss: float, variance: float, n: int,
    sources: list[str], losses: list[float], variances: list[float],
) -> Conflict:  # fmt: skip
    noise = load_source_noise()
    spread = [source_deviation(value, floor=noise.floor, share=noise.share) for value in losses]
    precision = 1 / (np.array(variances) + np.array(spread) ** 2)
    published = float(precision @ np.array(losses) / precision.sum())
    error = float(np.sqrt(max(variance, LEAST_OWN_SE**2) + 1 / precision.sum()))
    return Conflict(
        model=model, scheme=scheme, method=method, task=task, kind=kind, own=loss, published=published, n_own=n,
        sources=tuple(sources), errors=(loss - published) / error,
    )  # fmt: skip
