"""The device catalogue, and the names by which devices are found."""

import pytest

from knowledge.errors import UnknownNameError
from knowledge.hardware import GIB, HardwareSpec, all_hardware, find_hardware


@pytest.mark.parametrize("device", all_hardware(), ids=lambda device: device.name)
def test_row(device: HardwareSpec) -> None:
    assert device.source
    assert device.vendor in ("nvidia", "amd", "apple", "intel", "gaudi", "cpu")
    assert find_hardware(device.name) == device
    assert device.memory_bytes is None or 4 * GIB <= device.memory_bytes <= 600 * GIB
    assert device.bandwidth_bytes_per_s is None or 3e10 <= device.bandwidth_bytes_per_s <= 3e13
    assert device.compute_capability is None or (device.vendor == "nvidia" and 6 <= device.compute_capability < 13)


def test_names_are_unique() -> None:
    names = [device.name for device in all_hardware()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rtx-4090", "rtx-4090"),
        ("RTX 4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("4070 Ti Super", "rtx-4070-ti-super"),
        ("4070ti", "rtx-4070-ti"),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", "rtx-4070-laptop"),
        ("a100-80gb", "a100-80gb-pcie"),
        ("a100", "a100-40gb-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200-sxm"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("Tesla T4", "t4"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GB10", "dgx-spark"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("NVIDIA GeForce GTX 1060 6GB", "gtx-1060-6gb"),
        ("AMD Radeon RX 7900 XTX", "rx-7900-xtx"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Intel(R) Arc(TM) A770 Graphics", "arc-a770-16gb"),
        ("m2-max", "m2-max-38core"),
        ("Apple M2 Max", "m2-max-38core"),
        ("m1", "m1"),
        ("cpu", "cpu"),
    ],
)
def test_find(text: str, name: str) -> None:
    assert find_hardware(text).name == name


@pytest.mark.parametrize(
    ("mib", "name"), [pytest.param(16380, "rtx-4060-ti-16gb", id="16 GB"), pytest.param(8188, "rtx-4060-ti-8gb", id="8 GB")]
)
def test_memory_tells_variants_apart(mib: int, name: str) -> None:
    assert find_hardware("NVIDIA GeForce RTX 4060 Ti", memory_bytes=mib * 2**20).name == name


@pytest.mark.parametrize("text", ["rtx-9999", "", "gpu", "quantum"])
def test_unknown(text: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown hardware") as caught:
        find_hardware(text)
    assert caught.value.allowed


def test_figures() -> None:
    device = find_hardware("rtx-4090")
    assert device.memory_bytes == 24 * GIB
    assert device.bandwidth_bytes_per_s == 1008e9
    assert device.compute_capability == 8.9
    assert device.fp16_flops == 165.2e12


def test_a_shader_rate_is_no_matrix_rate() -> None:
    assert find_hardware("rtx-4080").fp16_flops is None


@pytest.mark.parametrize(
    ("name", "fp8", "fp4"),
    [
        pytest.param("h100-sxm", True, False, id="rate"),
        pytest.param("rtx-4080", True, False, id="capability"),
        pytest.param("rtx-3090", False, False, id="too old"),
        pytest.param("rtx-5090", True, True, id="blackwell"),
        pytest.param("mi355x", True, True, id="amd with rates"),
        pytest.param("mi210", None, None, id="amd, not seen"),
        pytest.param("arc-pro-b60", False, None, id="falls back to BF16"),
        pytest.param("m2-max", False, False, id="apple"),
    ],
)
def test_number_formats_of_the_matrix_units(name: str, fp8: bool | None, fp4: bool | None) -> None:
    device = find_hardware(name)
    assert (device.fp8_hardware, device.fp4_hardware) == (fp8, fp4)
