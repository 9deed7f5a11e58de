"""Work in a second thread: its result or its error arrives where it is asked for, and nothing is left running."""

import time
from pathlib import Path

import pytest

from advisor import kept_store
from advisor.background import in_background
from knowledge.store import open_store


def test_the_result_is_waited_for() -> None:
    with in_background(lambda: time.sleep(0.02) or 7) as result:
        assert result() == 7
    assert result() == 7


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    def fails() -> None:
        raise ZeroDivisionError("division by zero")

    with in_background(fails) as result, pytest.raises(ZeroDivisionError, match="division by zero"):
        result()


def test_the_block_ends_after_the_work_even_if_it_fails() -> None:
    done: list[int] = []
    with pytest.raises(KeyError), in_background(lambda: time.sleep(0.05) or done.append(1)):
        raise KeyError
    assert done == [1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QADVISOR_HOME", str(tmp_path))
    yield tmp_path
    kept_store.close_kept()


def test_opening_ahead_hands_over_the_open_store(place: Path) -> None:
    open_store(place).close()
    kept_store.open_ahead()
    with kept_store.kept_store() as first, first.sandbox() as connection:
        assert connection.execute("SELECT count(*) > 0 FROM evidence").fetchone() == (True,)
    with kept_store.kept_store() as again:
        assert again is first


@pytest.mark.parametrize("pointer", [None, b"", b"{}", b"\xff"], ids=["missing", "empty", "no fields", "no text"])
def test_what_cannot_be_opened_ahead_is_left_to_the_answer(place: Path, pointer: bytes | None, capfd) -> None:
    if pointer is not None:
        (place / "current").write_bytes(pointer)
    kept_store.open_ahead(("no such licence",))
    kept_store.open_ahead()
    with kept_store.kept_store() as store:
        assert store.rows("SELECT count(*) > 0 FROM sources") == [(True,)]
    assert capfd.readouterr().err == ""
