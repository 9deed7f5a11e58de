"""The base of a snapshot is sorted a few models at a time, with the result of sorting all rows at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge import snapshot
from knowledge.evidence import evidence_path
from knowledge.snapshot import STORED_COLUMNS, _ranges, create_tables

ALL_AT_ONCE = f"""
SELECT count(*), bool_and(made = sorted)
FROM (SELECT evidence_id AS made, row_number() OVER () AS place FROM evidence)
JOIN (SELECT evidence_id AS sorted, row_number() OVER (ORDER BY model, task, evidence_id) AS place
      FROM read_parquet('{evidence_path()}')) USING (place)
"""


@pytest.mark.parametrize("rows", [1500, 10**9], ids=["some models at a time", "all at once"])
def test_rows_are_in_order_whatever_is_sorted_at_once(rows, monkeypatch):
    from knowledge.database import in_memory

    monkeypatch.setattr(snapshot, "_SORTED_ROWS", rows)
    with in_memory() as connection:
        create_tables(connection, lambda batch: evidence_path(), [], [], "test")
        packaged = connection.execute("SELECT count(*) FROM read_parquet($file)", {"file": str(evidence_path())}).fetchone()
        assert connection.execute(ALL_AT_ONCE).fetchone() == (*packaged, True)
        columns = connection.execute("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'evidence'")
        assert dict(columns.fetchall()) == STORED_COLUMNS


@given(st.lists(st.tuples(st.text(max_size=4), st.integers(1, 10**6)), unique_by=lambda pair: pair[0]))
def test_every_model_is_in_one_range(counts):
    counts = sorted(counts)
    ranges = list(_ranges(counts))
    held = [[(model, rows) for model, rows in counts if first <= model <= last] for first, last in ranges]
    assert [pair for part in held for pair in part] == counts
    assert all(len(part) == 1 or sum(rows for _, rows in part) <= snapshot._SORTED_ROWS for part in held)
