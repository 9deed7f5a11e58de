"""`qadvisor hardware`: browse the devices, and say which one is here."""

from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app

app = new_app()

Vendor = Annotated[str | None, typer.Option("--vendor", metavar="NAME", help="Show only this vendor: nvidia, amd, apple, …")]
Here = Annotated[bool, typer.Option("--here", help="Show the device of this machine only.")]


@app.command()
def hardware(search: options.Search = None, vendor: Vendor = None, here: Here = False, json: options.Json = False) -> None:
    """List the known devices with memory, bandwidth and number formats."""
    from knowledge.detect import cpu_hardware, detect_hardware
    from knowledge.hardware import all_hardware

    if here:
        devices = [detect_hardware() or cpu_hardware()]
    else:
        devices = [
            device
            for device in all_hardware()
            if (vendor is None or device.vendor == vendor.lower()) and (search is None or search.lower() in device.name.lower())
        ]
    if json:
        output.write_json(output.versioned(hardware=[_fields(device) for device in devices]))
        return
    columns = ("device", "vendor", "memory", "GB/s", "cc", "FP8", "FP4")
    table = output.make_table(columns, map(_row, devices), right=("memory", "GB/s", "cc"))
    output.write_rich(table, output.count_line(len(devices), "device"))


def _fields(device: Any) -> dict[str, Any]:
    fields = {name: getattr(device, name) for name in device.__slots__}
    return fields | {"fp8_hardware": device.fp8_hardware, "fp4_hardware": device.fp4_hardware}


def _row(device: Any) -> tuple[object, ...]:
    memory = f"{device.memory_bytes / 2**30:.4g} GiB" if device.memory_bytes else None
    bandwidth = device.bandwidth_bytes_per_s / 1e9 if device.bandwidth_bytes_per_s else None
    return (device.name, device.vendor, memory, bandwidth, device.compute_capability, device.fp8_hardware, device.fp4_hardware)
