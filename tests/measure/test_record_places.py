"""Records in folders and in an object store (fsspec's in-memory one, which like all of them knows whole objects only)."""

import uuid
from pathlib import Path

import pytest
from fake_sweep import FakeBackend, plan_for

from knowledge.errors import InvalidRequestError, MissingDependencyError, StoreError
from measure.outputs import find_place, read_folder, read_records, remove_leftovers
from measure.plan import make_plan
from measure.remote import RemoteFolder
from measure.runner import Summary, run_plan

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["folder", "object store"])
def place(request, tmp_path):
    return tmp_path / "runs" if request.param == "folder" else find_place(f"memory://{uuid.uuid4().hex}/runs/")


def plan_in(place, folder):
    found = plan_for(folder, "w4a16", "w3a16")
    return make_plan(
        found.source,
        [(cell.recipe, cell.protocol) for cell in found.cells],
        [found.cells[0].task],
        settings=found.settings,
        output=place,
    )


def test_a_sweep_writes_resumes_and_reads_back(place, tmp_path):
    assert run_plan(plan_in(place, tmp_path), FakeBackend()) == Summary(ok=3)
    assert run_plan(plan_in(place, tmp_path), FakeBackend()) == Summary(skipped=3)
    folder = read_folder(place)
    assert (len(folder.records), folder.unreadable, folder.path) == (3, {}, place)


def test_single_records_are_read_by_name(place, tmp_path):
    plan = plan_in(place, tmp_path)
    specs = [cell.spec for cell in plan.cells]
    assert read_records(place, specs) == {}
    run_plan(plan, FakeBackend())
    assert set(read_records(place, specs[1:])) == {spec.key for spec in specs[1:]}
    assert read_records(place, []) == {}


def test_files_that_are_no_records_are_listed(place, tmp_path):
    run_plan(plan_in(place, tmp_path), FakeBackend())
    if isinstance(place, Path):
        (place / "notes.json").write_text("{}")
    else:
        place.write("notes.json", "{}")
    folder = read_folder(place)
    assert (len(folder.records), list(folder.unreadable)) == (3, ["notes.json"])


def test_an_empty_place_has_no_records_and_no_leftovers(place):
    assert read_folder(place).records == {}
    assert remove_leftovers(place) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs", Path("runs")),
        ("file:///data/runs", Path("/data/runs")),
        ("memory://bucket/runs/", RemoteFolder("memory://bucket/runs")),
    ],
)
def test_places_by_name(text, expected):
    assert find_place(text) == expected


def test_no_name_is_the_home_folder(fresh_home):
    assert find_place(None) == fresh_home / "runs"


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nowhere://bucket", InvalidRequestError, "no object store"),
        ("dropbox://bucket", MissingDependencyError, "is not installed"),
    ],
)
def test_urls_that_cannot_be_used(url, error, message):
    with pytest.raises(error, match=message):
        find_place(url)


def test_a_store_that_refuses_is_named(tmp_path, monkeypatch):
    place = find_place("memory://bucket/refused")

    def refuse(*arguments, **options):
        raise PermissionError("403 Forbidden")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", refuse)
    with pytest.raises(StoreError, match="memory://bucket/refused cannot be written: 403 Forbidden"):
        run_plan(plan_in(place, tmp_path), FakeBackend())
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", refuse)
    with pytest.raises(StoreError, match="cannot be read: 403 Forbidden"):
        read_records(place, [cell.spec for cell in plan_in(tmp_path / "runs", tmp_path).cells])
