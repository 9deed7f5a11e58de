"""Files out of an object store: what is fetched, where it goes, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from knowledge import remote
from knowledge.errors import InvalidRequestError, StoreError
from knowledge.remote import fetch, is_url


@pytest.fixture
def bucket() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    for name in ("runs/a.json", "runs/deep/b.csv", "runs/deep/model.safetensors", "runs/c.parquet", "other/d.json"):
        store.pipe_file(f"/bucket/{name}", name.encode())
    yield store
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("memory://bucket/runs", ["a.json", "c.parquet", "deep/b.csv"]),
        ("memory://bucket/runs/", ["a.json", "c.parquet", "deep/b.csv"]),
        ("memory://bucket/runs/a.json", ["a.json"]),
        ("memory://bucket/runs/*.json", ["a.json"]),
        ("memory://bucket/*/*.json", ["other/d.json", "runs/a.json"]),
    ],
)
def test_data_files_are_fetched(bucket: Any, tmp_path: Path, url: str, names: list[str]) -> None:
    assert fetch(url, tmp_path / "to") == tmp_path / "to"
    found = sorted(path for path in (tmp_path / "to").rglob("*") if path.is_file())
    assert [path.relative_to(tmp_path / "to").as_posix() for path in found] == names
    assert all(path.read_text().endswith(path.name) for path in found)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://bucket", "no object store"),
        ("memory://bucket/empty/*.json", "holds no data files"),
        ("memory://elsewhere", "holds no data files"),
    ],
)
def test_what_is_not_there_is_said(bucket: Any, tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        fetch(url, tmp_path)


def test_too_much_is_refused_before_it_is_fetched(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_FILES", 2)
    with pytest.raises(InvalidRequestError, match="3 files") as caught:
        fetch("memory://bucket/runs", tmp_path)
    assert "at a time" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_fails_is_said(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **values: object) -> None:
        raise PermissionError("access denied")

    monkeypatch.setattr(type(bucket), "get_file", fail)
    with pytest.raises(StoreError, match="access denied"):
        fetch("memory://bucket/runs", tmp_path)


def test_names_cannot_lead_out_of_the_folder() -> None:
    assert remote._relative("/bucket/runs/../../etc/x.json", "/bucket/runs") == Path("etc/x.json")


@pytest.mark.parametrize(("path", "url"), [("s3://a/b", True), ("runs/a.json", False), ("C:\\runs", False)])
def test_addresses_are_told_from_paths(path: str, url: bool) -> None:
    assert is_url(path) == url
