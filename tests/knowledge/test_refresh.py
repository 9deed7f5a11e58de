"""A refresh: rows come in once, versions follow each other, nothing of the user's is lost, and errors leave all as it was."""

import errno
import os
import shutil
from pathlib import Path

import duckdb
import pytest
from own_batches import make_intake, own_rows

from knowledge import refresh
from knowledge.batches import write_batch
from knowledge.errors import DataError, StoreError, UnknownNameError
from knowledge.evidence import EFFICIENCY_BATCH_COLUMNS
from knowledge.history import difference, history, verify
from knowledge.intake import Intake
from knowledge.refresh import adopt, publish, rollback, stage_intake
from knowledge.snapshot import KEPT
from knowledge.store import KnowledgeStore, current_version, open_store, rebuild
from knowledge.versions import FIRST_OWN_ID, PACKAGED, Flag, Manifest, load_manifest, read_log

CONTENT = "SELECT count(*), bit_xor(hash(evidence)) FROM evidence"


@pytest.fixture
def home(fresh_home: Path) -> Path:
    open_store(fresh_home).close()
    return fresh_home


def take(home: Path, intake: Intake) -> Manifest:
    with stage_intake(lambda known: intake, home=home) as staged:
        return publish(staged)


def own_count(home: Path) -> int:
    with open_store(home) as store:
        return counted(store)


def counted(store: KnowledgeStore) -> int:
    return int(store.rows("SELECT count(*) FROM evidence WHERE own")[0][0])


def files(home: Path) -> dict[str, bytes]:
    """Content of every file but the locks."""
    found = (path for path in home.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(home)): path.read_bytes() for path in found}


def test_rows_come_in_and_a_version_names_them(home: Path) -> None:
    before = current_version(home)
    manifest = take(home, make_intake(5, refused=3))
    with open_store(home) as store:
        assert (counted(store), store.version_id) == (5, manifest.id)
        assert store.version == current_version(home) != before
        found = store.rows("SELECT evidence_id, checkpoint, own FROM evidence WHERE own ORDER BY 1")
        assert found[0] == (FIRST_OWN_ID, "mistral-7b-v0.1-w4a16-g128-gptq", True)
    assert (manifest.parents, manifest.taken, manifest.rows) == ((PACKAGED,), 5, 5)
    assert manifest.refused == {"score … is outside …": 3}
    with duckdb.connect() as connection:
        table = connection.from_parquet(str(home / refresh.QUARANTINE / f"{manifest.quarantine}.parquet")).fetchall()
    assert table[0] == ("runs/two.json", 0, "score '0' is outside 0 … 100", "…")


def test_nothing_new_publishes_nothing(home: Path) -> None:
    take(home, make_intake(5))
    before = files(home)
    assert take(home, Intake(known=5)).id == history(home).current
    assert files(home) == before


def test_what_is_known_is_asked_of_the_version_in_use(home: Path) -> None:
    take(home, make_intake(5))
    take(home, make_intake(5, 5))
    hashes = [f"{number:016x}" for number in range(12)]
    with stage_intake(lambda known: Intake(known=len(known(hashes))), home=home) as staged:
        assert staged.intake.known == 10
    rollback(PACKAGED, home=home)
    with stage_intake(lambda known: Intake(known=len(known(hashes))), home=home) as staged:
        assert staged.intake.known == 0


def test_a_dry_run_changes_no_file(home: Path) -> None:
    before = files(home)
    with stage_intake(lambda known: make_intake(5, refused=1), home=home, dry_run=True) as staged:
        with staged.open() as store:
            assert counted(store) == 5
        with pytest.raises(ValueError, match="dry run"):
            publish(staged)
    assert files(home) == before


def test_a_staged_version_is_seen_by_nobody_else(home: Path) -> None:
    with stage_intake(lambda known: make_intake(5), home=home) as staged, staged.open() as store:
        assert counted(store) == 5
        assert own_count(home) == 0
    assert not list((home / "snapshots").glob("refresh-*"))


def test_grown_and_rebuilt_snapshots_hold_the_same(home: Path) -> None:
    for number in range(3):
        take(home, make_intake(7, 7 * number, model=["mistral-7b-v0.1", "llama-2-7b"][number % 2]))
    with open_store(home) as grown:
        content, grown_file = grown.rows(CONTENT), grown.snapshot
    shutil.rmtree(home / "snapshots")
    with open_store(home) as built:
        assert (built.rows(CONTENT), built.version_id) == (content, grown.version_id)
        assert built.rows("FROM evidence LIMIT 30000") == _all_rows(home)
    assert grown_file is not None
    rebuild(home)
    assert own_count(home) == 21


def _all_rows(home: Path) -> list[tuple[object, ...]]:
    """The rows in the order in which a snapshot that grew has them."""
    with open_store(home) as store:
        return store.rows("FROM evidence LIMIT 30000")


def test_the_way_back_and_forth(home: Path) -> None:
    first, second = take(home, make_intake(5)), take(home, make_intake(5, 5))
    versions = [current_version(home)]
    assert rollback(first.id[:6], home=home) == first
    assert own_count(home) == 5
    assert rollback(PACKAGED, home=home).id == PACKAGED
    assert own_count(home) == 0
    assert rollback(second.id, home=home) == second
    assert own_count(home) == 10
    assert [current_version(home)] == versions
    assert [move.action for move in read_log(home)] == ["refresh", "refresh", "rollback", "rollback", "rollback"]
    with pytest.raises(UnknownNameError):
        rollback("0" * 16, home=home)


def test_rows_taken_again_after_a_rollback_keep_their_numbers(home: Path) -> None:
    first = take(home, make_intake(5))
    rollback(PACKAGED, home=home)
    again = take(home, make_intake(5))
    assert again.batches == first.batches
    other = take(home, make_intake(5, 5))
    assert other.batches[-1].first_id == FIRST_OWN_ID + 5


def test_every_version_can_be_opened_though_few_snapshots_are_kept(home: Path) -> None:
    manifests = [take(home, make_intake(2, 2 * number)) for number in range(KEPT + 2)]
    assert len(list((home / "snapshots").glob("store-*"))) == KEPT
    for number, manifest in enumerate(manifests, 1):
        with open_store(home, version=manifest.id) as store:
            assert (counted(store), store.version_id) == (2 * number, manifest.id)
    assert history(home).current == manifests[-1].id, "looking at a version does not put it into use"


def test_flagged_rows_are_kept_and_not_learned_from(home: Path) -> None:
    flag = Flag(
        model="mistral-7b-v0.1", scheme="w4a16-g128", method="gptq", source="own:measure",
        checkpoint="mistral-7b-v0.1-w4a16-g128-gptq", reason="probably broken",
    )  # fmt: skip
    take(home, make_intake(3, checkpoint="another"))
    with stage_intake(lambda known: make_intake(4, 3), home=home) as staged:
        staged.flag([flag])
        with staged.open() as store:
            learned = "SELECT learnable, reason, count(*) FROM evidence WHERE own GROUP BY ALL ORDER BY ALL"
            assert store.rows(learned) == [(False, "probably broken", 4), (True, None, 3)]
        manifest = publish(staged)
    assert manifest.broken == (flag,)
    with open_store(home) as store:
        assert store.rows(learned) == [(False, "probably broken", 4), (True, None, 3)]
    with stage_intake(lambda known: Intake(), home=home) as staged:
        staged.flag([])
        assert publish(staged).broken == ()
    with open_store(home) as store:
        assert store.rows(learned) == [(True, None, 7)]


def test_a_predictor_belongs_to_its_version(home: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted.safetensors"
    fitted.write_bytes(b"a predictor")
    with stage_intake(lambda known: make_intake(5), home=home) as staged:
        plain = publish(staged)
    before = current_version(home)
    with stage_intake(lambda known: Intake(), home=home) as staged:
        judged = publish(staged, predictor=fitted, backtest={"error": 0.07})
    assert judged.batches == plain.batches
    assert (judged.predictor is not None, judged.backtest) == (True, {"error": 0.07})
    assert current_version(home) != before, "answers change with the predictor"
    with open_store(home) as store:
        assert store.predictor is not None
        assert store.predictor.read_bytes() == b"a predictor"
        fitted, version = store.predictor, store.version
    for damage in (lambda: fitted.write_bytes(b"another"), fitted.unlink):
        damage()
        with open_store(home) as store:
            assert (store.predictor, store.version) == (None, before)
            assert "the packaged one answers" in store.warnings[-1]
            assert current_version(home) == before != version
    fitted.write_bytes(b"a predictor")
    assert take(home, make_intake(5, 5)).predictor == judged.predictor, "it stays until another is chosen"
    rollback(plain.id, home=home)
    with open_store(home) as store:
        assert store.predictor is None


def test_speeds_have_their_own_table(home: Path) -> None:
    values = dict.fromkeys(EFFICIENCY_BATCH_COLUMNS) | {
        "source": "own:measure", "ref": "run", "licence": "none stated", "model": "mistral-7b-v0.1", "method": "gptq",
        "w_bits": 4.0, "decode_tok_s": 61.5, "row_hash": "f" * 16, "file": "one.json",
    }  # fmt: skip
    with open_store(home) as store:
        before = store.rows("SELECT count(*) FROM efficiency")[0][0]
    take(home, Intake(rows=own_rows(2), efficiency=[tuple(values.values())]))
    take(home, make_intake(2, 2))
    with open_store(home) as store:
        assert store.rows("SELECT count(*) FROM efficiency") == [(before + 1,)]
    with stage_intake(lambda known: Intake(known=len(known(["f" * 16]))), home=home) as staged:
        assert staged.intake.known == 1
    shutil.rmtree(home / "snapshots")
    with open_store(home) as store:
        assert store.rows("SELECT decode_tok_s FROM efficiency WHERE source = 'own:measure'") == [(61.5,)]


def test_records_from_elsewhere_are_kept(home: Path, tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    record.write_text("{}")
    take(home, Intake(rows=own_rows(1), records=[record]))
    assert (home / "runs" / "run.json").read_text() == "{}"
    record.write_text("[]")
    for _ in range(2):
        take(home, Intake(records=[record]))
    assert (home / "runs" / "run.json").read_text() == "{}"
    assert [path.read_text() for path in (home / "runs" / "again").iterdir()] == ["[]"]
    assert history(home).current != PACKAGED


def test_ready_made_batches_are_adopted(home: Path, tmp_path: Path) -> None:
    made = write_batch(tmp_path, "evidence", own_rows(9))
    with adopt([made], home=home) as staged:
        manifest = publish(staged)
    assert (manifest.taken, own_count(home)) == (9, 9)
    assert made.exists()
    with duckdb.connect() as connection:
        connection.sql("SELECT 1 AS one").write_parquet(str(tmp_path / "other.parquet"))
    with pytest.raises(DataError, match="no column source VARCHAR"), adopt([tmp_path / "other.parquet"], home=home):
        pass


def test_versions_differ_by_their_rows(home: Path) -> None:
    first = take(home, make_intake(5))
    rollback(PACKAGED, home=home)
    second = take(home, make_intake(8, 2, model="llama-2-7b"))
    found = difference(home, first.id, "current")
    assert found.after.id == second.id
    added, removed = ([(row.source, row.model, row.task, row.rows) for row in rows] for rows in (found.added, found.removed))
    assert added == [("own:measure", "llama-2-7b", "arc_easy", 5)], "three rows are the same by their hash"
    assert removed == [("own:measure", "mistral-7b-v0.1", "arc_easy", 2)]
    assert difference(home, "current", "current").added == ()
    assert sum(row.rows for row in difference(home, PACKAGED, "current").added) == 8


def test_a_home_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    home = tmp_path / "runs [2026] *"
    take(home, make_intake(5))
    take(home, make_intake(2, 5))
    assert own_count(home) == 7
    assert sum(row.rows for row in difference(home, PACKAGED, "current").added) == 7
    shutil.rmtree(home / "snapshots")
    assert own_count(home) == 7


def test_verify_of_a_home_never_used(tmp_path: Path) -> None:
    assert verify(tmp_path) == []


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_a_lost_batch_is_said_and_the_rest_answers(home: Path) -> None:
    take(home, make_intake(5))
    manifest = take(home, make_intake(3, 5))
    lost = manifest.batches[0].path(home)
    content = lost.read_bytes()
    lost.unlink()
    assert own_count(home) == 8, "the snapshot still has its rows"
    assert [one.state for one in verify(home) if one.file.endswith(lost.name)] == ["missing"]
    shutil.rmtree(home / "snapshots")
    with open_store(home) as store:
        assert counted(store) == 3
        assert "5 rows do not count" in store.warnings[0]
    lost.write_bytes(content)
    (home / "current").unlink()
    assert own_count(home) == 8, "put back, it counts again"
    _damage(lost)
    shutil.rmtree(home / "snapshots")
    assert own_count(home) == 3


def test_a_lost_pointer_costs_nothing(home: Path) -> None:
    first = take(home, make_intake(5))
    take(home, make_intake(3, 5))
    rollback(first.id, home=home)
    (home / "current").write_bytes(b"\0" * 100)
    with open_store(home) as store:
        assert store.version_id == first.id


def test_a_lost_manifest_is_not_built_upon(home: Path) -> None:
    take(home, make_intake(5))
    second = take(home, make_intake(3, 5))
    _damage(home / "versions" / f"{second.id}.json")
    assert own_count(home) == 8
    with pytest.raises(StoreError, match="cannot be read"):
        take(home, make_intake(2, 8))
    assert own_count(home) == 8
    assert {one.state for one in verify(home) if one.file.startswith("versions/")} == {"whole", "damaged"}
    rollback(PACKAGED, home=home)
    take(home, make_intake(2, 8))
    assert own_count(home) == 2


def test_verify_reads_everything(home: Path) -> None:
    manifest = take(home, make_intake(5))
    assert {one.state for one in verify(home)} == {"whole"}
    snapshot = next((home / "snapshots").glob(f"store-*{_pointer_digest(home)}*"))
    stamp = snapshot.stat()
    _damage(snapshot)
    os.utime(snapshot, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as when a disk loses a bit
    assert [one.state for one in verify(home) if one.file.startswith("snapshots/")] == ["damaged"]
    write_batch(home / "runs" / "batches", "evidence", own_rows(1, 99))
    assert "unused" in {one.state for one in verify(home)}
    assert load_manifest(home, manifest.id) == manifest


def _pointer_digest(home: Path) -> str:
    import json

    return str(json.loads((home / "current").read_text())["sha256"][:12])


@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_an_error_of_the_disk_leaves_all_as_it_was(home: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int) -> None:
    """The n-th call of the operating system fails, for every n until the refresh gets through."""
    first = take(home, make_intake(5))
    for number in range(60):
        with monkeypatch.context() as patch:
            calls = _failing(patch, step, number, code)
            error = _refused(home)
        if error is None or own_count(home) == 10:  # at the end nothing but what follows the swap can fail
            break
        assert os.strerror(code) in error.message
        assert first.id in (error.hint or "") or "QADVISOR_HOME" in (error.hint or "")
        assert (own_count(home), history(home).current) == (5, first.id)
    assert calls[0] > 1
    assert own_count(home) == 10


def _refused(home: Path) -> StoreError | None:
    try:
        take(home, make_intake(5, 5))
    except StoreError as error:
        return error
    return None


def _failing(patch: pytest.MonkeyPatch, step: str, number: int, code: int) -> list[int]:
    """Let the `number`-th `os.<step>` fail (folders apart: some systems cannot sync or open them); counts the calls."""
    calls = [0]
    original = getattr(os, step)

    def failing(*args: object, **values: object) -> object:
        calls[0] += 1
        if calls[0] == number + 1:
            raise OSError(code, os.strerror(code))
        return original(*args, **values)

    patch.setattr(os, step, failing)
    return calls


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        take(tmp_path / "file" / "home", make_intake(1))
    assert "QADVISOR_HOME" in (caught.value.hint or "")


def test_a_read_only_home_is_said(read_only_folder: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        take(read_only_folder, make_intake(1))
