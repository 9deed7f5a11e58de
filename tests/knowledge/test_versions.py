"""Versions: manifests that cannot be damaged unnoticed, names that users type, a log that survives, stable layouts."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.errors import StoreError, UnknownNameError
from knowledge.snapshot import can_extend, layout
from knowledge.versions import (
    FIRST_OWN_ID,
    FOLDER,
    LOG,
    PACKAGED,
    ROOT,
    Batch,
    Flag,
    Manifest,
    all_manifests,
    damaged_manifests,
    data_version,
    find_version,
    first_ids,
    last_version,
    load_manifest,
    note_move,
    read_log,
    save_manifest,
)

BATCH = Batch(id="a" * 16, rows=7, first_id=FIRST_OWN_ID)
FLAG = Flag(model="m", scheme="w4a16", method="awq", source="own:measure", checkpoint=None, reason="probably broken")


def saved(home: Path, **values: object) -> Manifest:
    manifest = Manifest(**({"created": "2026-01-01T00:00:00+00:00", "parents": (PACKAGED,)} | values)).sealed()
    save_manifest(home, manifest)
    return manifest


def test_a_manifest_reads_back(tmp_path: Path) -> None:
    manifest = saved(
        tmp_path, batches=(BATCH,), broken=(FLAG,), predictor="b" * 16, backtest={"error": 0.07, "folds": [1, 2]}, taken=7,
        refused={"no baseline": 2}, quarantine="c" * 16,
    )  # fmt: skip
    assert load_manifest(tmp_path, manifest.id) == manifest
    assert manifest.rows == 7
    assert load_manifest(tmp_path, PACKAGED) == ROOT
    assert [one.id for one in all_manifests(tmp_path)] == [PACKAGED, manifest.id]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text[:-20], id="cut"),
        pytest.param(lambda text: text.replace('"rows": 7', '"rows": 8'), id="another number"),
        pytest.param(lambda text: text.replace('"rows": 7', '"rows": "7"'), id="another type"),
        pytest.param(lambda text: text.replace('"taken"', '"took"'), id="another field"),
        pytest.param(lambda text: "[]", id="no object"),
        pytest.param(lambda text: "[" * 100_000, id="deep"),
    ],
)
def test_a_damaged_manifest_is_noticed(tmp_path: Path, damage) -> None:
    good, bad = saved(tmp_path), saved(tmp_path, batches=(BATCH,), created="2026-01-02T00:00:00+00:00")
    path = tmp_path / FOLDER / f"{bad.id}.json"
    path.write_text(damage(path.read_text("utf-8")), encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be read") as caught:
        load_manifest(tmp_path, bad.id)
    assert "knowledge verify" in (caught.value.hint or "")
    assert damaged_manifests(tmp_path) == [path.name]
    assert [one.id for one in all_manifests(tmp_path)] == [PACKAGED, good.id]


def test_a_manifest_is_never_changed(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    path = tmp_path / FOLDER / f"{manifest.id}.json"
    before = path.stat().st_mtime_ns
    save_manifest(tmp_path, manifest)
    assert path.stat().st_mtime_ns == before


def test_versions_are_found_by_what_users_type(tmp_path: Path) -> None:
    manifest = saved(tmp_path)
    for name in (manifest.id, manifest.id[:4], "current"):
        assert find_version(tmp_path, name, current=manifest.id) == manifest
    assert find_version(tmp_path, "packaged", current=manifest.id) == ROOT
    for name in ("", manifest.id[:3], "0" * 16, "../../etc"):
        with pytest.raises(UnknownNameError, match="unknown version"):
            find_version(tmp_path, name, current=manifest.id)


def test_the_log_survives_what_a_killed_writer_left(tmp_path: Path) -> None:
    note_move(tmp_path, "refresh", version="a" * 16, before=PACKAGED)
    with (tmp_path / FOLDER / LOG).open("a") as file:
        file.write('{"time": "2026-01-01T00:00')
    note_move(tmp_path, "rollback", version=PACKAGED, before="a" * 16)
    assert [(move.action, move.version, move.before) for move in read_log(tmp_path)] == [
        ("refresh", "a" * 16, PACKAGED), ("rollback", PACKAGED, "a" * 16),
    ]  # fmt: skip


def test_the_version_in_use_is_known_without_the_pointer(tmp_path: Path) -> None:
    assert last_version(tmp_path) == ROOT
    first, second = saved(tmp_path), saved(tmp_path, batches=(BATCH,), created="2026-01-02T00:00:00+00:00")
    assert last_version(tmp_path) == second, "without a log the newest"
    note_move(tmp_path, "rollback", version=first.id, before=second.id)
    assert last_version(tmp_path) == first, "with a log the last move"
    (tmp_path / FOLDER / f"{first.id}.json").unlink()
    assert last_version(tmp_path) == second, "what is lost is passed over"


def test_numbers_of_rows_are_given_once(tmp_path: Path) -> None:
    assert first_ids(tmp_path) == ({}, FIRST_OWN_ID)
    speeds = Batch(id="b" * 16, rows=1000, table="efficiency")
    saved(tmp_path, batches=(BATCH, speeds))
    assert first_ids(tmp_path) == ({BATCH.id: FIRST_OWN_ID}, FIRST_OWN_ID + 7)


def test_the_version_of_the_tables_follows_what_they_are_built_from() -> None:
    first = data_version("packaged", [BATCH], [], 1)
    others = [
        data_version("other", [BATCH], [], 1),
        data_version("packaged", [], [], 1),
        data_version("packaged", [BATCH], [FLAG], 1),
        data_version("packaged", [BATCH], [], 2),
    ]
    assert len({first, *others}) == 5
    assert data_version("packaged", [BATCH], [], 1) == first


def numbered(sizes: list[int]) -> list[Batch]:
    return [Batch(id=f"{number:016x}", rows=rows, first_id=number) for number, rows in enumerate(sizes)]


BATCHES = st.lists(st.sampled_from([1, 500, 20_000, 1_000_000]), max_size=70).map(numbered)


@settings(deadline=None, max_examples=50)
@given(BATCHES)
def test_the_layout_keeps_every_batch_and_bounds_the_tail(given_batches: list[Batch]) -> None:
    base, tail = layout(given_batches)
    assert [*base, *tail] == given_batches
    assert len(tail) <= 32
    assert sum(one.rows for one in tail) <= 0.5 * (25_000 + sum(one.rows for one in base))


@settings(deadline=None, max_examples=50)
@given(BATCHES)
def test_growing_step_by_step_sorts_anew_only_now_and_then(given_batches: list[Batch]) -> None:
    """What is written again over all refreshes stays within a small multiple of what there is."""
    written = sum(
        25_000 + sum(one.rows for one in given_batches[: n + 1])
        for n in range(len(given_batches))
        if not can_extend(given_batches[:n], given_batches[: n + 1], old_flags=[], new_flags=[])
    )
    full = 25_000 + sum(one.rows for one in given_batches)
    assert written <= (3 + len(given_batches) / 32) * full


def test_taking_a_flag_back_needs_a_new_build() -> None:
    assert can_extend([BATCH], [BATCH], old_flags=[], new_flags=[FLAG])
    assert not can_extend([BATCH], [BATCH], old_flags=[FLAG], new_flags=[])


def test_the_log_is_lines_of_json(tmp_path: Path) -> None:
    note_move(tmp_path, "refresh", version="a" * 16, before=PACKAGED)
    (line,) = filter(None, (tmp_path / FOLDER / LOG).read_text("utf-8").splitlines())
    assert set(json.loads(line)) == {"time", "action", "version", "before"}
