"""What this machine has: asked of the drivers' own tools, never guessed. Every question may fail; none raises.

Memory and compute capability are the driver's; bandwidth and arithmetic rates come from the catalogue where it knows the
device by name.
"""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace

from knowledge.errors import UnknownNameError
from knowledge.hardware import HardwareSpec, find_hardware

TIMEOUT_S = 3.0
"""Longest wait for a driver's tool; a hung driver must not hang the advice."""

_MIB = 2**20


def detect_hardware() -> HardwareSpec | None:
    """The accelerator of this machine with most memory, or None where no driver answers."""
    found = _nvidia() or _apple() or _amd()
    if not found:
        return None
    best = max(found, key=lambda device: device.memory_bytes or 0)
    if len(found) == 1:
        return best
    return replace(best, notes=f"{best.notes}; one of {len(found)} devices of this machine".removeprefix("; "))


def cpu_hardware() -> HardwareSpec:
    """This machine without its accelerator: main memory where the system says how much there is."""
    return replace(find_hardware("cpu"), memory_bytes=_main_memory(), source="read from the operating system")


def _nvidia() -> list[HardwareSpec]:
    for fields in ("name,memory.total,compute_cap", "name,memory.total"):  # drivers before 510 do not know compute_cap
        text = _ask("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits")
        if devices := [device for line in (text or "").splitlines() if (device := _nvidia_device(line))]:
            return devices
    return []


def _nvidia_device(line: str) -> HardwareSpec | None:
    name, memory, capability = ([part.strip() for part in line.split(",")] + ["", ""])[:3]
    mib, found = _number(memory), _number(capability)
    if not name or (mib is None and found is None):
        return None
    # Devices that share the host's memory answer "[N/A]": then the catalogue's figure stands.
    return _described(name, "nvidia", int(mib * _MIB) if mib is not None else None, found, "nvidia-smi")


def _apple() -> list[HardwareSpec]:
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return []
    lines = (_ask("sysctl", "-n", "machdep.cpu.brand_string", "hw.memsize") or "").split("\n")
    memory = _number(lines[1]) if len(lines) > 1 else None
    return [_described(lines[0], "apple", int(memory), None, "sysctl")] if memory is not None else []


def _amd() -> list[HardwareSpec]:
    text = _ask("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
    try:
        cards = json.loads(text or "{}")
    except ValueError:
        return []
    entries = cards.values() if isinstance(cards, Mapping) else []
    return [device for entry in entries if isinstance(entry, Mapping) and (device := _amd_device(entry))]


def _amd_device(entry: Mapping[str, object]) -> HardwareSpec | None:
    # Spelling of the keys changed between ROCm releases: "Card series", "Card Series", "Card model".
    values = {key.lower(): str(value) for key, value in entry.items()}
    memory = _number(values.get("vram total memory (b)", ""))
    name = next((values[key] for key in ("card series", "card model", "device name") if values.get(key)), "")
    return _described(name, "amd", int(memory), None, "rocm-smi") if name and memory is not None else None


def _described(name: str, vendor: str, memory: int | None, capability: float | None, tool: str) -> HardwareSpec:
    """The catalogue's row of that name with what the driver says; a row of the driver's figures alone where there is none."""
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    try:
        known = find_hardware(name, memory_bytes=memory)
    except UnknownNameError:
        known = HardwareSpec(name=slug, vendor=vendor, source=f"{tool} on this machine", unified_memory=vendor == "apple")
    if known.vendor != vendor:
        known = HardwareSpec(name=slug, vendor=vendor, source=f"{tool} on this machine")
    return replace(
        known,
        memory_bytes=memory if memory is not None else known.memory_bytes,
        compute_capability=capability if capability is not None else known.compute_capability,
        source=known.source if tool in known.source else f"{known.source}; memory: {tool} on this machine",
    )


def _main_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _ask(tool: str, *arguments: str) -> str | None:
    """What a tool prints, or None where it is missing, slow or fails."""
    path = shutil.which(tool)
    if path is None:
        return None
    command: Sequence[str] = (path, *arguments)
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
