"""A predictor that learned from new rows replaces the old one only if it is not worse on figures that neither has seen."""

import hashlib

import numpy as np
import pytest
from own_evidence import make_store, own_row
from synthetic_evidence import make_columns

from advisor.aggregate import cell_columns, load_cells
from advisor.predictor import load_predictor
from advisor.promotion import FOLDS, compare, group_of, judge, learned_ranges
from advisor.training import make_training_set
from knowledge.snapshot import STORED_COLUMNS
from knowledge.versions import FIRST_OWN_ID, Batch, Manifest, save_manifest


def test_without_new_rows_both_are_the_same() -> None:
    columns = make_columns(10)
    data = make_training_set(columns | {"own": np.zeros(len(columns["loss"])), "n": np.ones(len(columns["loss"]))})
    nothing = np.zeros(len(data), dtype=bool)
    found = list(compare(data, data, nothing, progress=lambda _: None))
    assert {(check.split, check.kind) for check in found} == {
        (split, kind) for split in ("family", "model") for kind in ("score", "perplexity")
    }
    for check in found:
        assert check.figures == "known"
        assert check.champion == check.challenger
        assert check.bound == 0


def test_folds_follow_from_the_name_alone() -> None:
    names = [f"family-{i}" for i in range(200)]
    assert [group_of(name) for name in names] == [group_of(name) for name in names]
    assert {group_of(name) for name in names} == set(range(FOLDS))


@pytest.fixture
def small_store():
    """Figures that follow a law, so few that a whole fit takes seconds; those of two models in three are the user's."""
    columns = make_columns(24)
    rows = []
    for values in zip(*columns.values(), strict=True):
        row = dict.fromkeys(STORED_COLUMNS) | dict(zip(columns, values, strict=True))
        row |= {"learnable": True, "own": int(row["model"][1:].partition("-")[0]) % 3 > 0}
        rows.append({name: None if value != value else value for name, value in row.items()})
    with make_store(*rows, published=False) as store:
        yield store


def test_cells_hold_mean_spread_and_number() -> None:
    rows = [own_row("llama-2-7b", "w4a16-g128", "gptq", "mmlu", loss) for loss in (0.02, 0.04, 0.06)]
    with make_store(*rows, own_row("llama-2-7b", "w4a16-g128", "gptq", "mmlu", 0.9, learnable=False)) as store:
        found = cell_columns(store, [(FIRST_OWN_ID, FIRST_OWN_ID + 10)])
        mine = np.flatnonzero(found["own"])
        assert len(mine) == 1
        assert found["n"][mine[0]] == 3
        assert found["loss"][mine[0]] == pytest.approx(0.04)
        assert found["variance"][mine[0]] == pytest.approx(0.0004)
        assert not cell_columns(store, [])["own"].any(), "nothing of the user's was learned from"


def test_published_rows_are_cells_of_their_own_but_for_repeats() -> None:
    with make_store() as store:
        (rows,) = store.rows("SELECT count(*) FROM evidence WHERE learnable")[0]
        cells = load_cells(store)
        assert 0.95 * rows < len(cells) <= rows
        assert cells.columns["n"].sum() == rows


def packaged(data, **_):
    """In place of the whole fit, which takes half a minute."""
    return load_predictor()


def test_a_predictor_that_learned_from_more_of_the_same_is_promoted(small_store, tmp_path) -> None:
    told = []
    found = judge(small_store, learned=(), folder=tmp_path, fit=packaged, progress=told.append)
    assert found.promoted, found.words
    content = found.predictor.read_bytes()
    assert found.predictor == tmp_path / f"{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    assert {(check["split"], check["kind"], check["figures"]) for check in found.figures["checks"]} == {
        (split, kind, figures)
        for split in ("family", "model")
        for kind in ("score", "perplexity")
        for figures in ("known", "all")
    }
    assert all(check["holds"] for check in found.figures["checks"])
    assert found.figures["new_cells"] == 16 * 24
    assert "promoted" in found.words[0]
    assert told[-1] == "the new predictor on all figures"


@pytest.mark.slow
def test_the_promoted_predictor_is_a_whole_fit_of_all_cells(small_store, tmp_path) -> None:
    found = judge(small_store, learned=(), folder=tmp_path)
    predictor = load_predictor(found.predictor)
    assert predictor.provenance["rows"] == found.figures["cells"]
    assert predictor.law.vocabulary["model"].keys() == {row[0] for row in small_store.rows("SELECT model FROM evidence")}


def test_with_nothing_new_no_fit_is_tried(small_store, tmp_path) -> None:
    found = judge(small_store, learned=[(FIRST_OWN_ID, FIRST_OWN_ID + 10_000)], folder=tmp_path)
    assert not found.promoted
    assert found.words == ("0 new learnable rows, too few to refit (from 20 on): the predictor stays",)


def test_the_old_predictor_stays_where_the_new_one_is_worse(small_store, tmp_path) -> None:
    small_store.connection.execute("UPDATE evidence SET loss = 0.8 - loss WHERE own")
    found = judge(small_store, learned=(), folder=tmp_path)
    assert not found.promoted
    assert found.predictor is None
    assert not list(tmp_path.iterdir())
    assert "stays" in found.words[0]
    assert any("error" in line and "allowed" in line for line in found.words[1:])


def test_what_a_predictor_has_learned_from_is_what_it_came_with(tmp_path) -> None:
    first, second = (Batch(id=f"{i}" * 16, rows=10, first_id=FIRST_OWN_ID + 10 * i) for i in range(2))
    speeds = Batch(id="e" * 16, rows=3, table="efficiency")
    kept = Manifest(created="1", parents=("packaged",), batches=(first,)).sealed()
    fitted = Manifest(created="2", parents=(kept.id,), batches=(first, speeds), predictor="p").sealed()
    later = Manifest(created="3", parents=(fitted.id,), batches=(first, speeds, second), predictor="p").sealed()
    for manifest in (kept, fitted, later):
        save_manifest(tmp_path, manifest)
    assert learned_ranges(tmp_path, kept.id) == ()
    assert learned_ranges(tmp_path, later.id) == ((FIRST_OWN_ID, FIRST_OWN_ID + 9),)
