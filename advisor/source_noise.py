"""How far two sources disagree about one cell, beyond the noise of their test items.

Two sources that measured the same model, recipe and task differ by harness, prompts, calibration data and checkpoint. Their
deviation is taken as `floor + share * |loss|`. Of the pairs of constants for which a 90 % interval holds at least 90 % of
the differences between sources in the packaged evidence, the one with the highest Student-t likelihood (4 degrees of
freedom, so that single misprints do not decide) is taken.

`python -m advisor.source_noise` estimates them and writes `advisor/fitted/source_noise.json`.
"""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from advisor.pool import Z90
from knowledge.values import value

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Floats = npt.NDArray[np.float64]

FITTED = Path(__file__).with_name("fitted") / "source_noise.json"
"""The packaged estimate."""

_DEGREES = 4.0
_FLOORS = np.linspace(0.0, 0.03, 31)
_SHARES = np.linspace(0.0, 1.0, 101)

_PAIRS = """
WITH one_source AS (
    SELECT loss_kind, model, method, w_bits, w_dtype, coalesce(w_group, -9) AS w_group, a_bits, kv_bits,
           coalesce(kv_dtype, '') AS kv_dtype, coalesce(format, '') AS format, task, coalesce(context, 0) AS context, source,
           avg(loss) AS loss, avg(loss_se) / sqrt(count(*)) AS se
    FROM evidence
    WHERE learnable AND NOT own
    GROUP BY ALL
)
SELECT a.loss AS loss_a, b.loss AS loss_b, coalesce(a.se, 0) AS se_a, coalesce(b.se, 0) AS se_b
FROM one_source a
JOIN one_source b USING (loss_kind, model, method, w_bits, w_dtype, w_group, a_bits, kv_bits, kv_dtype, format, task, context)
WHERE a.source < b.source
ORDER BY ALL
"""


@value
class SourceNoise:
    """Standard deviation of a source about a cell: `floor + share * |loss|`, from `pairs` pairs of sources."""

    floor: float
    share: float
    pairs: int


@cache
def load_source_noise() -> SourceNoise:
    """The packaged estimate."""
    return SourceNoise(**json.loads(FITTED.read_text(encoding="utf-8")))


def estimate_source_noise(connection: "DuckDBPyConnection") -> SourceNoise:
    """Estimate the noise from the `evidence` relation of an open store."""
    pairs = connection.execute(_PAIRS).fetchnumpy()
    loss_a, loss_b, se_a, se_b = (np.asarray(pairs[name], dtype=float) for name in ("loss_a", "loss_b", "se_a", "se_b"))
    return fit_source_noise(loss_a, loss_b, se_a, se_b)


def fit_source_noise(loss_a: Floats, loss_b: Floats, se_a: Floats, se_b: Floats) -> SourceNoise:
    """The most likely `floor` and `share` (on a grid) for pairs of losses with their item errors."""
    gap, size = loss_a - loss_b, (np.abs(loss_a) + np.abs(loss_b)) / 2
    items = se_a**2 + se_b**2
    deviation = _FLOORS[:, None, None] + _SHARES[None, :, None] * size
    scale = np.sqrt(items + 2 * deviation**2) + 1e-6
    likelihood = -np.log(scale) - (_DEGREES + 1) / 2 * np.log1p((gap / scale) ** 2 / _DEGREES)
    covered = np.mean(np.abs(gap) <= Z90 * scale, axis=2)
    total = np.where(covered >= min(0.9, covered.max()), likelihood.sum(axis=2), -np.inf)
    row, column = np.unravel_index(int(total.argmax()), total.shape)
    return SourceNoise(floor=round(float(_FLOORS[row]), 3), share=round(float(_SHARES[column]), 2), pairs=len(gap))


def main() -> None:
    """Estimate the noise from the packaged evidence and write the packaged file."""
    from knowledge.store import open_store

    with open_store() as store:
        noise = estimate_source_noise(store.connection)
    FITTED.write_text(json.dumps(asdict(noise), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
