"""`qadvisor engines`: browse the inference engines: weight formats, KV-cache types, how they keep the cache."""

from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import ListingGroup, new_app

app = new_app(cls=ListingGroup, help="Browse the inference engines: weight formats, KV-cache types.")

Name = Annotated[str, typer.Argument(metavar="ENGINE", help="Engine, by any of its names.")]


@app.command("list")
def list_engines(search: options.Search = None, json: options.Json = False) -> None:
    """List the engines with the checkpoint formats and KV-cache types that each reads."""
    from knowledge.engines import all_engines

    wanted = (search or "").lower()
    engines = [engine for engine in all_engines() if wanted in " ".join((engine.name, *engine.aliases))]
    if json:
        output.write_json(output.versioned(engines=[_summary(engine) for engine in engines]))
        return
    rows = ((row["name"], row["formats"], row["kv"], row["vendors"]) for row in map(_summary, engines))
    table = output.make_table(("engine", "formats", "KV cache", "hardware"), rows)
    output.write_rich(table, output.count_line(len(engines), "engine"))


@app.command("show")
def show_engine(name: Name, json: options.Json = False) -> None:
    """Show one engine: every weight format and KV type with its conditions and sources."""
    from dataclasses import asdict

    from knowledge.engines import find_engine

    engine = find_engine(name)
    if json:
        output.write_json(output.versioned(engine=asdict(engine)))
        return
    formats = ((row.row, row.format, row.number_formats, row.min_compute_capability, row.kernel) for row in engine.formats)
    caches = ((row.name, row.dtype, row.bytes_per_element(128), row.requirements) for row in engine.kv)
    facts = {"engine": engine.name, "version": engine.version, "hardware": engine.vendors, "start": engine.command,
             "windows": engine.cache_policy, "cache": engine.cache.notes, "source": engine.source}  # fmt: skip
    columns = ("row", "format", "schemes", "from cc", "kernel")
    output.write_rich(
        output.make_facts(facts), "",
        output.make_table(columns, formats, right=("from cc",), whole=("format",)), "",
        output.make_table(("KV", "engine's name", "bytes", "needs"), caches, right=("bytes",)),
    )  # fmt: skip


def _summary(engine: Any) -> dict[str, Any]:
    return {
        "name": engine.name,
        "version": engine.version,
        "formats": list(dict.fromkeys(row.format for row in engine.formats)),
        "kv": [row.name for row in engine.kv],
        "vendors": list(engine.vendors),
        "cache_policy": engine.cache_policy,
        "command": engine.command,
    }
