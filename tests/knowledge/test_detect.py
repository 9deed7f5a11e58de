"""Detection asks the drivers' tools: here small executables of the same name stand on the PATH."""

import platform
import sys
from pathlib import Path

import pytest

from knowledge import detect
from knowledge.detect import cpu_hardware, detect_hardware

MIB = 2**20

NVIDIA = """#!{python}
import sys
old = {old}
if old and "compute_cap" in " ".join(sys.argv):
    print('Field "compute_cap" is not a valid field to query.')
    sys.exit(2)
print({answer!r})
"""

OTHER = "#!{python}\nprint({answer!r})\n"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def install_nvidia(folder: Path, answer: str, *, old: bool = False) -> None:
    install(folder, "nvidia-smi", NVIDIA.format(python=sys.executable, answer=answer, old=old))


@pytest.mark.usefixtures("tools")
def test_no_driver() -> None:
    assert detect_hardware() is None


def test_a_known_device_has_the_drivers_memory_and_the_catalogues_bandwidth(tools: Path) -> None:
    install_nvidia(tools, "NVIDIA GeForce RTX 4090, 24564, 8.9")
    device = detect_hardware()
    assert device is not None
    assert (device.name, device.memory_bytes, device.compute_capability) == ("rtx-4090", 24564 * MIB, 8.9)
    assert device.bandwidth_bytes_per_s == 1008e9
    assert "nvidia-smi" in device.source


def test_an_unknown_device_has_the_drivers_figures_alone(tools: Path) -> None:
    install_nvidia(tools, "NVIDIA Imaginary 9000, 1000, 13.0")
    device = detect_hardware()
    assert device is not None
    assert (device.name, device.vendor, device.memory_bytes) == ("nvidia-imaginary-9000", "nvidia", 1000 * MIB)
    assert device.bandwidth_bytes_per_s is None


def test_the_largest_of_several(tools: Path) -> None:
    install_nvidia(tools, "NVIDIA GeForce RTX 3060, 12288, 8.6\nNVIDIA A100-SXM4-80GB, 81920, 8.0")
    device = detect_hardware()
    assert device is not None
    assert device.name == "a100-80gb-sxm"
    assert "one of 2 devices" in device.notes


def test_an_old_driver_does_not_know_the_capability(tools: Path) -> None:
    install_nvidia(tools, "Tesla T4, 15360", old=True)
    device = detect_hardware()
    assert device is not None
    assert (device.name, device.compute_capability) == ("t4", 7.5)


def test_shared_memory_is_the_catalogues(tools: Path) -> None:
    install_nvidia(tools, "NVIDIA GB10, [N/A], 12.1")
    device = detect_hardware()
    assert device is not None
    assert (device.name, device.memory_bytes) == ("dgx-spark", 128 * 2**30)


@pytest.mark.parametrize("answer", ["", "garbage", ", ,", "No devices were found"])
def test_strange_answers_are_no_device(tools: Path, answer: str) -> None:
    install_nvidia(tools, answer)
    assert detect_hardware() is None


def test_a_tool_that_fails(tools: Path) -> None:
    install(tools, "nvidia-smi", f"#!{sys.executable}\nimport sys\nprint('A, 1, 8.0')\nsys.exit(9)\n")
    install(tools, "rocm-smi", "not a program")
    assert detect_hardware() is None


def test_a_tool_that_hangs(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "TIMEOUT_S", 0.3)
    install(tools, "nvidia-smi", f"#!{sys.executable}\nimport time\ntime.sleep(20)\n")
    assert detect_hardware() is None


@pytest.mark.parametrize("key", ["Card series", "Card Series", "Card model"])
def test_amd(tools: Path, key: str) -> None:
    answer = f'{{"card0": {{"{key}": "AMD Instinct MI300X", "VRAM Total Memory (B)": "206141652992"}}, "system": {{}}}}'
    install(tools, "rocm-smi", OTHER.format(python=sys.executable, answer=answer))
    device = detect_hardware()
    assert device is not None
    assert (device.name, device.vendor, device.memory_bytes) == ("mi300x", "amd", 206141652992)


@pytest.mark.parametrize("answer", ["[]", "not json", '{"card0": 5}', '{"card0": {"Card series": "X"}}'])
def test_strange_amd_answers(tools: Path, answer: str) -> None:
    install(tools, "rocm-smi", OTHER.format(python=sys.executable, answer=answer))
    assert detect_hardware() is None


def test_apple(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    install(tools, "sysctl", OTHER.format(python=sys.executable, answer=f"Apple M2 Max\n{64 * 2**30}"))
    device = detect_hardware()
    assert device is not None
    assert (device.name, device.memory_bytes, device.unified_memory) == ("m2-max-38core", 64 * 2**30, True)
    assert device.bandwidth_bytes_per_s == 400e9


def test_cpu() -> None:
    device = cpu_hardware()
    assert device.vendor == "cpu"
    assert device.memory_bytes is None or device.memory_bytes > 2**28
