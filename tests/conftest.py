"""Every test runs without network, without the user's files, and with a home folder of its own.

The knowledge base is built once for the session (`QADVISOR_HOME`); a test that writes asks for `fresh_home`.
"""

import atexit
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLEARED = ("HF_TOKEN", "HF_HUB_OFFLINE", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "XDG_DATA_HOME")
_FOLDERS = {"QADVISOR_HOME": "home", "HF_HOME": "huggingface", "HF_HUB_CACHE": "huggingface/hub", "OLLAMA_MODELS": "ollama"}


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment that knows nothing of this machine; returns the folder that holds its homes."""
    root = tmp_path_factory.mktemp("isolated")
    with pytest.MonkeyPatch.context() as patch:
        for name in _CLEARED:
            patch.delenv(name, raising=False)
        for name, folder in _FOLDERS.items():
            patch.setenv(name, str(root / folder))
        patch.setattr(socket.socket, "connect", _connect_nowhere(socket.socket.connect))
        yield root


def _connect_nowhere(connect):
    """`connect` for this machine alone: any other address is an error, so that no test needs the network unnoticed."""

    def only_local(self, address):
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise OSError(f"a test tried to reach {address!r}")
        return connect(self, address)

    return only_local


@pytest.fixture
def fresh_home(isolated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that the test may write to and break; starts as a copy of the session's."""
    home = tmp_path / "home"
    if (isolated / "home").is_dir():
        shutil.copytree(isolated / "home", home, symlinks=True)
    monkeypatch.setenv("QADVISOR_HOME", str(home))
    return home


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to; skips where the user may write everywhere (root)."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        folder.chmod(0o700)
        pytest.skip("needs a user whom permissions bind; this one may write everywhere")
    yield folder
    folder.chmod(0o700)


def _close_stderr() -> None:
    """Send what is written while the interpreter is taken apart to nowhere.

    Hooks of Hypothesis and errors of pydantic keep tests alive until then, and DuckDB's bindings print a page about what
    still refers to them, behind pytest's last line. The exit code stays as it is.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


atexit.register(_close_stderr)
