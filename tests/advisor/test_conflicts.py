"""Own and published figures of one cell that differ beyond the noise are listed."""

import numpy as np
import pytest
from own_evidence import make_store, own_row

from advisor.conflicts import find_conflicts, upper_tail


@pytest.fixture(scope="module")
def published():
    """A published cell with its loss: (scheme, method, task, context, loss)."""
    with make_store() as store:
        return store.rows(
            "SELECT scheme, method, task, context, avg(loss) FROM evidence WHERE learnable AND model = 'llama-2-7b' "
            "AND loss_kind = 'relative' AND method = 'gptq' AND context IS NULL AND abs(loss) < 0.05 "
            "GROUP BY ALL ORDER BY count(*) DESC, scheme, task LIMIT 1"
        )[0]


def conflicts(published, difference, **changes):
    scheme, method, task, context, loss = published
    row = own_row("llama-2-7b", scheme, method, task, loss + difference, context=context, **changes)
    with make_store(row) as store:
        return find_conflicts(store)


def test_a_large_difference_is_a_conflict(published) -> None:
    (found,) = conflicts(published, 0.5)
    assert found.own - found.published == pytest.approx(0.5, abs=0.05)
    assert found.sources
    assert found.errors > 5
    assert found.words.startswith("llama-2-7b · ")
    assert found.as_dict()["n_own"] == 1


@pytest.mark.parametrize("changes", [{}, {"loss_se": 0.3}, {"learnable": False}], ids=["alike", "few items", "not learnable"])
def test_differences_within_the_noise_are_none(published, changes) -> None:
    assert conflicts(published, 0.5 if changes else 0.005, **changes) == ()


def test_without_own_figures_there_are_no_conflicts() -> None:
    with make_store() as store:
        assert find_conflicts(store) == ()


def test_the_tail_of_student_s_t() -> None:
    assert upper_tail(np.array([0.0, 2.1318468, 7.1731822])) == pytest.approx([0.5, 0.05, 0.001], abs=1e-6)
