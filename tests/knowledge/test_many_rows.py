"""Very many rows about one model: what is folded into one row says the same as its parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_evidence import make_store, own_row

from knowledge.evidence import UNKNOWN_ITEM_SE
from knowledge.queries import KEPT_ROWS, evidence_for
from knowledge.store import KnowledgeStore

MODEL = "mistral-7b-v0.1"
CELLS = (("w4a16-g128-asym", "rtn"), ("w4a16-g128-asym", "gptq"), ("w3a16-g128-asym", "rtn"))
ROWS = st.lists(
    st.tuples(st.sampled_from(CELLS), st.floats(-0.2, 1.0), st.none() | st.floats(0.002, 0.1), st.booleans()),
    max_size=4 * KEPT_ROWS,
)


@pytest.fixture(scope="module")
def connection():
    with make_store() as store:
        yield store.connection


def opened(connection, rows, *, version_id):
    """A knowledge base with these rows of the user's and no others."""
    connection.execute("DELETE FROM evidence WHERE own")
    columns = [name for name, *_ in connection.execute("DESCRIBE evidence").fetchall()]
    values = []
    for number, ((scheme, method), loss, error, learnable) in enumerate(rows):
        row = own_row(MODEL, scheme, method, "mmlu", loss, loss_se=error, learnable=learnable) | {"evidence_id": 10**8 + number}
        values.append([row.get(name) for name in columns])
    if values:
        connection.executemany(f"INSERT INTO evidence VALUES ({', '.join('?' * len(columns))})", values)
    return KnowledgeStore(connection, version="test", version_id=version_id)


def cells(found):
    """Of each cell: scores, information, and the mean by inverse variance."""
    result = {}
    error = np.where(np.isnan(found["loss_se"].astype(float)), UNKNOWN_ITEM_SE, found["loss_se"].astype(float))
    keys = list(
        zip(
            found["source"],
            found["method"],
            found["scheme"],
            found["metric"],
            found["context"],
            found["learnable"],
            strict=True,
        )
    )
    for key in set(map(str, keys)):
        here = np.array([str(one) == key for one in keys])
        weight = found["count"][here] / error[here] ** 2
        result[key] = (int(found["count"][here].sum()), weight.sum(), (weight * found["loss"][here]).sum() / weight.sum())
    return result


@settings(max_examples=15, deadline=None)
@given(ROWS)
def test_a_folded_row_knows_as_much_as_the_rows_it_stands_for(connection, rows):
    every = evidence_for(opened(connection, rows, version_id="packaged"), MODEL, ["mmlu"])
    folded = evidence_for(opened(connection, rows, version_id="0123456789abcdef"), MODEL, ["mmlu"])
    assert list(folded) == list(every)
    before, after = cells(every), cells(folded)
    assert before.keys() == after.keys()
    for key, known in before.items():
        assert after[key] == pytest.approx(known, rel=1e-6)
    assert len(folded["loss"]) <= len(before) * (KEPT_ROWS + 1)


def test_the_newest_stay_as_they_are_and_the_folded_row_comes_last(connection):
    rows = [(CELLS[0], number / 1000, 0.01, True) for number in range(KEPT_ROWS + 5)]
    store = opened(connection, rows, version_id="0123456789abcdef")
    found = evidence_for(store, MODEL, ["mmlu"])
    own = [index for index, mine in enumerate(found["own"]) if mine]
    assert found["evidence_id"][own].tolist() == [10**8 + number for number in range(5, KEPT_ROWS + 5)] + [
        10**8 + KEPT_ROWS + 4
    ]
    assert found["loss"][own][-1] == pytest.approx(0.002)
    assert found["loss_se"][own][-1] == pytest.approx(0.01)
    assert found["count"][own].tolist() == [1] * KEPT_ROWS + [5]
    assert own[-1] == len(found["loss"]) - 1
