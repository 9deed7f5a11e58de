"""The store: built from truth, published at once, rebuilt from any damage, never losing what is the user's."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from knowledge.database import write_parquet
from knowledge.errors import StoreError, UnknownNameError
from knowledge.evidence import EFFICIENCY_COLUMNS
from knowledge.home import home
from knowledge.snapshot import KEPT, STORED_COLUMNS
from knowledge.store import KnowledgeStore, current_version, open_store, rebuild, store_info


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a snapshot and a record of the user's."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "runs").mkdir()
    (folder / "runs" / "mine.json").write_text("{}", encoding="utf-8")
    open_store(folder).close()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of that home folder which a test may break."""
    copy = tmp_path / "home"
    shutil.copytree(built, copy)
    return copy


def _snapshots(folder: Path) -> list[Path]:
    return sorted((folder / "snapshots").glob("store-*.duckdb"))


def _count(store: KnowledgeStore) -> int:
    return int(store.rows("SELECT count(*) FROM evidence")[0][0])


def _in_memory(tmp_path: Path) -> KnowledgeStore:
    """A store under a home folder that cannot exist, below a file."""
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    return open_store(tmp_path / "file" / "home")


def test_home_is_the_variable_or_the_platform_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QADVISOR_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"
    monkeypatch.delenv("QADVISOR_HOME")
    assert home().name == "qadvisor"


def test_first_use_builds_and_later_uses_open(tmp_path: Path) -> None:
    with open_store(tmp_path / "a" / "b") as first:
        assert _count(first) > 20_000
        assert first.warnings == ()
    with open_store(tmp_path / "a" / "b") as second:
        assert (second.version, second.snapshot) == (first.version, first.snapshot)
    assert _snapshots(tmp_path / "a" / "b") == [first.snapshot]
    assert json.loads((tmp_path / "a" / "b" / "current").read_text(encoding="utf-8"))["data"] == first.version


def test_tables_have_the_documented_columns(built: Path) -> None:
    with open_store(built) as store:
        for table, columns in (("evidence", STORED_COLUMNS), ("efficiency", EFFICIENCY_COLUMNS)):
            found = store.rows(f"SELECT column_name, column_type FROM (DESCRIBE {table})")
            assert dict(found) == columns
        assert store.rows("SELECT version FROM meta") == [(store.version,)]


def test_kept_rows_are_worked_out_once_for_each_parameter(built: Path) -> None:
    sql = "SELECT model, task FROM evidence WHERE model = $model ORDER BY evidence_id"
    with open_store(built) as store:
        kept = {name: store.kept_rows(sql, {"model": name}) for name in ("llama-2-7b", "opt-6.7b", "no-such-model")}
        for name, found in kept.items():
            assert [row["task"] for row in found] == store.columns(sql, {"model": name})["task"].tolist()
            assert store.kept_rows(sql, {"model": name}) is found


def test_the_version_is_known_without_opening(folder: Path, tmp_path: Path) -> None:
    """By the pointer where it holds, from truth where not; records lie there for a refresh and count when it took them."""
    with open_store(folder) as store:
        assert current_version(folder) == store.version
    (folder / "runs" / "one.json").write_text("{}", encoding="utf-8")
    assert current_version(folder) == store.version
    (folder / "current").unlink()
    assert current_version(folder) == store.version
    assert current_version(tmp_path / "missing") == store.version


def test_opening_reads_no_whole_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opening costs must not grow with the store: no hash is taken while sizes and times are as they were."""

    def fail(*args: object) -> None:
        raise AssertionError("a file was hashed")

    monkeypatch.setattr("hashlib.sha256", fail)
    with open_store(folder) as store:
        assert _count(store) > 20_000


def test_a_home_that_was_copied_is_not_built_again(folder: Path) -> None:
    (snapshot,) = _snapshots(folder)
    os.utime(snapshot, (1, 1))
    with open_store(folder) as store:
        assert store.snapshot == snapshot
        assert snapshot.stat().st_mtime == 1
    assert json.loads((folder / "current").read_text("utf-8"))["stamp"] == [snapshot.stat().st_size, 10**9]


def _pointer(**changes: object) -> object:
    def change(folder: Path) -> None:
        path = folder / "current"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return change


def _write(name: str, content: bytes) -> object:
    return lambda folder: (folder / name).write_bytes(content)


def _flip_byte(folder: Path) -> None:
    path = _snapshots(folder)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda folder: (folder / "current").unlink(), id="pointer missing"),
        pytest.param(_write("current", b""), id="pointer empty"),
        pytest.param(_write("current", b"\xff\xfe not json"), id="pointer not text"),
        pytest.param(_write("current", b"[1, 2]"), id="pointer not an object"),
        pytest.param(_pointer(data="0" * 16), id="pointer to other tables"),
        pytest.param(_pointer(version="../x"), id="pointer to no version"),
        pytest.param(_pointer(stamp=[1, 1]), id="size and time wrong"),
        pytest.param(_pointer(stamp=None), id="no size and time"),
        pytest.param(_pointer(file="../../etc/passwd"), id="pointer to a foreign file"),
        pytest.param(_pointer(file=None), id="pointer to nothing"),
        pytest.param(_pointer(packaged_stamp=[["/none", 1, 1]]), id="other packaged files"),
        pytest.param(lambda folder: _snapshots(folder)[0].unlink(), id="snapshot missing"),
        pytest.param(lambda folder: _snapshots(folder)[0].write_bytes(b"garbage" * 100), id="snapshot garbage"),
        pytest.param(lambda folder: os.truncate(_snapshots(folder)[0], 5000), id="snapshot cut short"),
        pytest.param(_flip_byte, id="one byte wrong"),
    ],
)
def test_any_damage_is_repaired_from_truth(folder: Path, damage) -> None:
    damage(folder)
    with open_store(folder) as store:
        assert _count(store) > 20_000
        assert store.warnings == ()
        assert store.snapshot is not None
    with open_store(folder) as again:
        assert again.snapshot == store.snapshot, "what was repaired is used"
    assert (folder / "runs" / "mine.json").read_text(encoding="utf-8") == "{}"


def test_a_block_that_the_disk_damaged_is_noticed_when_it_is_read(folder: Path) -> None:
    """Size and time are as they were, so that opening sees nothing; DuckDB's checksum of the block does."""
    (snapshot,) = _snapshots(folder)
    stamp = snapshot.stat()
    _flip_byte(folder)
    os.utime(snapshot, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with open_store(folder) as store, pytest.raises(StoreError, match="damaged on the disk") as caught:
        store.rows("SELECT bit_xor(hash(evidence)) FROM evidence")
    assert "ask again" in (caught.value.hint or "")
    with open_store(folder) as store:
        assert store.rows("SELECT bit_xor(hash(evidence)) FROM evidence")
        assert _count(store) > 20_000


def test_a_whole_snapshot_that_cannot_be_opened_is_built_anew(folder: Path) -> None:
    """As after a change of DuckDB's file format: the hash in the name fits, and opening fails."""
    (snapshot,) = _snapshots(folder)
    content = b"another format" * 1000
    digest = hashlib.sha256(content).hexdigest()
    snapshot.rename(snapshot.with_name(f"{snapshot.name[:22]}-{digest[:12]}.duckdb")).write_bytes(content)
    with open_store(folder) as store:
        assert _count(store) > 20_000
        assert store.warnings == ()
    with open_store(folder) as again:
        assert again.snapshot == store.snapshot


def test_only_own_old_snapshots_are_removed(folder: Path) -> None:
    kept = [folder / "snapshots" / name for name in ("mine.duckdb", "store-notes.txt", "store-1.duckdb")]
    for path in kept:
        path.write_bytes(b"mine")
    stale = folder / "snapshots" / f"building-{'0' * 32}.duckdb"
    running = folder / "snapshots" / f"building-{'1' * 32}.duckdb"
    for path in (stale, running):
        path.write_bytes(b"half")
    os.utime(stale, (1, 1))
    for number in range(KEPT + 2):
        old = folder / "snapshots" / f"store-{number:016x}-{number:012x}.duckdb"
        old.write_bytes(b"old")
        os.utime(old, (1000 + number, 1000 + number))
    info = rebuild(folder)
    assert all(path.read_bytes() == b"mine" for path in kept)
    assert not stale.exists()
    assert running.exists()
    own = [path for path in _snapshots(folder) if path not in kept]
    assert len(own) == KEPT
    assert info.snapshot in own


def test_home_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    with _in_memory(tmp_path) as store:
        assert _count(store) > 20_000
        assert store.snapshot is None
        assert "cannot hold the knowledge base" in store.warnings[0]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "not a folder"


def test_read_only_home(read_only_folder: Path) -> None:
    with open_store(read_only_folder) as store:
        assert _count(store) > 20_000
        assert store.snapshot is None
        assert store.warnings


def test_memory_and_file_hold_the_same(built: Path, tmp_path: Path) -> None:
    with open_store(built) as file, _in_memory(tmp_path) as memory:
        for table in ("evidence", "efficiency", "sources"):
            question = f"SELECT count(*), bit_xor(hash({table})) FROM {table}"
            assert file.rows(question) == memory.rows(question)


def test_rebuild_by_hand(folder: Path) -> None:
    before = _snapshots(folder)[0].stat().st_mtime_ns
    info = rebuild(folder)
    assert info.home == folder
    assert info.snapshot is not None
    assert info.snapshot.stat().st_mtime_ns > before
    assert info == store_info(folder)
    assert info.size_bytes == info.snapshot.stat().st_size
    assert info.rows["evidence"] > 20_000


def test_rebuild_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot build the knowledge base in") as caught:
        rebuild(tmp_path / "file" / "home")
    assert "QADVISOR_HOME" in (caught.value.hint or "")


FORBIDDEN = [
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM '{file}'",
    "SELECT * FROM glob('{folder}/*')",
    "COPY evidence TO '{folder}/stolen.csv'",
    "ATTACH '{folder}/other.duckdb'",
    "EXPORT DATABASE '{folder}/stolen'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "PRAGMA threads = 8",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.parametrize("place", ["file", "memory"])
def test_no_statement_reaches_files_or_settings(built: Path, tmp_path: Path, place: str, statement: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n", encoding="utf-8")
    text = statement.format(file=secret, folder=tmp_path)
    with open_store(built) if place == "file" else _in_memory(tmp_path) as store, store.sandbox() as sandbox:
        for connection in (store.connection, sandbox):
            with pytest.raises(duckdb.Error):
                connection.execute(text)
    assert sorted(path.name for path in tmp_path.iterdir()) in (["secret.csv"], ["file", "secret.csv"])


def test_the_file_is_read_only(built: Path) -> None:
    with open_store(built) as store, pytest.raises(duckdb.Error, match="read-only"):
        store.connection.execute("DELETE FROM evidence")


def test_temporary_tables_live_in_their_own_connection(built: Path) -> None:
    with open_store(built) as store:
        with store.sandbox() as sandbox:
            sandbox.execute("CREATE TEMP TABLE candidate AS SELECT 4 AS w_bits")
            joined = "SELECT count(*) FROM candidate JOIN evidence USING (w_bits)"
            assert sandbox.execute(joined).fetchone() > (1000,)
            with pytest.raises(duckdb.CatalogException, match="candidate"):
                store.connection.execute("SELECT * FROM candidate")
        store.connection.execute("CREATE TEMP TABLE candidate AS SELECT 1 AS one")
        assert store.rows("SELECT one FROM candidate") == [(1,)]


def test_sources_can_be_left_out_by_licence(built: Path) -> None:
    with open_store(built) as store, open_store(built, exclude_licences=["none stated", "CC-BY-NC-4.0"]) as fewer:
        licences = {row[0] for row in fewer.rows("SELECT licence FROM evidence UNION SELECT licence FROM sources")}
        assert "Apache-2.0" in licences
        assert not licences & {"none stated", "CC-BY-NC-4.0"}
        with fewer.sandbox() as sandbox:
            assert sandbox.execute("SELECT count(*) FROM evidence").fetchone() == (_count(fewer),)
        left = "SELECT count(*) FROM evidence WHERE licence NOT IN ('none stated', 'CC-BY-NC-4.0')"
        assert _count(fewer) == store.rows(left)[0][0] < _count(store)


def test_unknown_licence_lists_the_known_ones(built: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown licence 'Apache'") as caught:
        open_store(built, exclude_licences=["Apache"])
    assert "Apache-2.0" in (caught.value.allowed or [])


def test_null_is_nan_or_none(built: Path) -> None:
    with open_store(built) as store:
        found = store.columns(
            "SELECT * FROM (VALUES (1, 1.5, 'a', true), (NULL, NULL, NULL, NULL)) AS t (whole, number, word, truth)"
            " ORDER BY whole"
        )
    assert np.isnan(found["whole"][1])
    assert np.isnan(found["number"][1])
    assert found["word"].tolist() == ["a", None]
    assert found["truth"].tolist() == [True, None]


_OPEN = """
from knowledge.store import open_store
with open_store() as store:
    print(store.rows("SELECT count(*) FROM evidence")[0][0], store.warnings)
"""


def test_many_first_uses_at_once(tmp_path: Path) -> None:
    environment = os.environ | {"QADVISOR_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    results = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for _, code in results] == [0] * 4, results
    assert len({out for (out, _), _ in results}) == 1
    assert results[0][0][0].endswith("()\n")
    info = store_info(tmp_path / "home")
    assert info.snapshot in _snapshots(tmp_path / "home")
    assert not list((tmp_path / "home" / "snapshots").glob("building-*"))


def test_written_parquet_reads_back(tmp_path: Path, built: Path) -> None:
    columns = {"name": "VARCHAR", "number": "DOUBLE", "whole": "INTEGER", "truth": "BOOLEAN"}
    rows = [
        ["plain", 0.1, 1, True],
        ['quote " comma , line\nend', None, None, None],
        ["", 1e-9, -3, False],
        [None, 2.0, 0, True],
    ]
    path = tmp_path / "table.parquet"
    for _ in range(2):  # replaces what is there
        write_parquet(path, columns, rows)
    with duckdb.connect() as connection:
        assert [list(row) for row in connection.from_parquet(str(path)).fetchall()] == rows
    assert [item.name for item in tmp_path.iterdir()] == ["table.parquet"]
