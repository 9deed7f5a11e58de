"""A folder whole or not at all: nothing half-written under the name, nothing overwritten, also when the process is killed."""

import collections
import subprocess
import sys

import pytest
from helpers import ROOT

from knowledge.errors import InvalidRequestError, QAdvisorError, StoreError
from measure.errors import QuantizationMismatchError
from measure.staging import check_output, staged


def write(folder, text="weights"):
    (folder / "sub").mkdir()
    (folder / "model.safetensors").write_text(text)
    (folder / "sub" / "tokenizer.json").write_text("{}")


def fail(output, error, text="weights"):
    """Write a folder for `output` and raise `error` before it is whole."""
    with staged(output) as folder:
        write(folder, text)
        raise error


@pytest.mark.parametrize("exists", [False, True], ids=["new", "empty folder"])
def test_the_folder_appears_at_the_end(tmp_path, exists):
    output = tmp_path / "out"
    if exists:
        output.mkdir()
    with staged(check_output(output)) as folder:
        write(folder)
        assert not output.exists() or not any(output.iterdir())
    assert (output / "model.safetensors").read_text() == "weights"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("error", "raised", "left"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, []),
        (ValueError("x"), ValueError, []),
        (OSError(28, "No space left on device"), StoreError, []),
        (StoreError("x"), StoreError, []),
        (QuantizationMismatchError("x"), QuantizationMismatchError, ["out.failed"]),
    ],
    ids=["interrupted", "other error", "disk full", "own error", "check failed"],
)
def test_a_block_that_fails(tmp_path, error, raised, left):
    with pytest.raises(raised):
        fail(tmp_path / "out", error)
    assert [path.name for path in tmp_path.iterdir()] == left


def test_what_was_kept_before_is_kept(tmp_path):
    for number in range(3):
        with pytest.raises(QuantizationMismatchError) as caught:
            fail(tmp_path / "out", QuantizationMismatchError("x"), str(number))
    assert caught.value.hint is not None
    assert str(tmp_path / "out.failed-3") in caught.value.hint
    assert [(path.name, (path / "model.safetensors").read_text()) for path in sorted(tmp_path.iterdir())] == [
        ("out.failed", "0"), ("out.failed-2", "1"), ("out.failed-3", "2"),
    ]  # fmt: skip


def test_a_folder_that_somebody_filled_meanwhile_is_left_alone(tmp_path):
    output = tmp_path / "out"

    def race():
        with staged(output) as folder:
            write(folder)
            output.mkdir()
            (output / "mine.txt").write_text("mine")

    with pytest.raises(StoreError, match="cannot make") as caught:
        race()
    assert caught.value.hint == f"the checkpoint is in {output}.failed"
    assert [path.name for path in output.iterdir()] == ["mine.txt"]
    assert (tmp_path / "out.failed" / "model.safetensors").is_file()


def test_a_killed_process_leaves_nothing_under_the_name(tmp_path, caplog):
    program = f"""
import sys, time
from pathlib import Path
from measure.staging import staged
with staged(Path({str(tmp_path / "out")!r})) as folder:
    (folder / "model.safetensors").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.kill()
    assert not (tmp_path / "out").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.")
    check_output(tmp_path / "out")
    assert f"{left} was left by a run that was killed" in caplog.text


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("full", "full is not empty: nothing is overwritten"),
        ("file", "file is a file: nothing is overwritten"),
        ("missing/out", "missing is no folder"),
        ("file/out", "file is no folder"),
    ],
)
def test_outputs_that_cannot_be(tmp_path, where, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.safetensors").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidRequestError, match=message):
        check_output(tmp_path / where)


def test_a_read_only_parent(read_only_folder):
    with pytest.raises(InvalidRequestError, match="may not be written"):
        check_output(read_only_folder / "out")


def test_a_disk_without_the_space(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 5, 5))
    check_output(tmp_path / "out", needed_bytes=5)
    with pytest.raises(QAdvisorError, match="takes 1,000 bytes, 5 are free"):
        check_output(tmp_path / "out", needed_bytes=1000)
