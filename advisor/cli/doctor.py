"""`qadvisor doctor`: what this installation can do, what is missing, which knowledge it has."""

import sys
from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app

app = new_app()

Rebuild = Annotated[bool, typer.Option("--rebuild", help="Build the knowledge base anew from packaged figures and own runs.")]

EXTRAS: dict[str, tuple[str, ...]] = {
    "measure": (
        "torch",
        "transformers",
        "accelerate",
        "datasets",
        "llmcompressor",
        "bitsandbytes",
        "hqq",
        "optimum",
        "lm_eval",
    ),
    "ray": ("ray",),
    "plots": ("vl_convert",),
}
"""Import names of what each extra brings, for a look without importing."""


@app.command()
def doctor(rebuild: Rebuild = False, json: options.Json = False) -> None:
    """Say what this installation can do, what is missing, and which knowledge base it has."""
    from advisor.version import TOOL_VERSION
    from knowledge.store import rebuild as build_anew
    from knowledge.store import store_info

    info = build_anew() if rebuild else store_info()
    report: dict[str, Any] = {
        "tool_version": TOOL_VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "home": str(info.home),
        "knowledge_version": info.version,
        "version_id": info.version_id,
        "snapshot": str(info.snapshot) if info.snapshot else None,
        "snapshot_bytes": info.size_bytes,
        "rows": info.rows,
        "hardware": _hardware(),
        "extras": {extra: _missing(names) for extra, names in EXTRAS.items()},
        "warnings": list(info.warnings),
    }
    if json:
        output.write_json(output.versioned(**report))
        return
    output.write_rich(output.make_facts(_lines(report)))


def _lines(report: dict[str, Any]) -> dict[str, object]:
    """The report with one line a fact, in words."""
    lines: dict[str, object] = {
        "qadvisor": f"{report['tool_version']}, Python {report['python']}",
        "home": report["home"],
        "knowledge": f"{report['knowledge_version']}: "
        + ", ".join(f"{count:,} rows of {table}" for table, count in report["rows"].items()),
        "version": f"{report['version_id']} (`qadvisor knowledge log` lists all)",
        "snapshot": report["snapshot"] or "in memory: the home folder cannot be written",
        "hardware": report["hardware"] or "no accelerator that a driver reports",
        "advice": "ready; needs neither network nor GPU",
    }
    for extra, missing in report["extras"].items():
        lines[f"extra {extra}"] = f'missing {", ".join(missing)}: pip install "qadvisor[{extra}]"' if missing else "installed"
    return lines | {f"warning {n}": text for n, text in enumerate(report["warnings"], 1)}


def _hardware() -> str | None:
    from knowledge.detect import detect_hardware

    device = detect_hardware()
    if device is None:
        return None
    return device.name + (f", {device.memory_bytes / 2**30:.4g} GiB" if device.memory_bytes else "")


def _missing(names: tuple[str, ...]) -> list[str]:
    from importlib.util import find_spec

    return [name for name in names if find_spec(name) is None]
