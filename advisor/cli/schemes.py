"""`qadvisor schemes`: browse the number formats that are offered, with bits per weight and the engines that run them."""

from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app

app = new_app()

Engine = Annotated[str | None, typer.Option("--engine", metavar="NAME", help="Show only what this engine runs.")]


@app.command()
def schemes(search: options.Search = None, engine: Engine = None, json: options.Json = False) -> None:
    """List the weight formats that are offered; any other format can be named too, see the forms below the table."""
    from knowledge.engines import find_engine
    from knowledge.schemes import FORMS

    wanted = find_engine(engine).name if engine else None
    text = (search or "").lower()
    rows = [row for row in _offers() if (wanted is None or wanted in row["engines"]) and text in _words(row)]
    if json:
        output.write_json(output.versioned(schemes=rows, forms=list(FORMS)))
        return
    cells = ((row["scheme"], row["bits_per_weight"], row["method"], row["format"], row["engines"]) for row in rows)
    table = output.make_table(("scheme", "bpw", "method", "format", "engines"), cells, right=("bpw",))
    forms = f"\nforms of names: {', '.join(FORMS[:-1])}; {FORMS[-1]}"
    output.write_rich(table, output.count_line(len(rows), "format", forms))


def _offers() -> list[dict[str, Any]]:
    """Every offer as plain values, with all engines that read it."""
    from advisor.offers import all_offers
    from knowledge.engines import all_engines, find_formats

    names = [engine.name for engine in all_engines()]
    return [
        {
            "scheme": offer.scheme.name,
            "bits_per_weight": offer.scheme.bits_per_weight,
            "method": offer.method.name,
            "format": offer.format,
            "engines": [name for name in names if find_formats(name, offer.format, offer.scheme)],
        }
        for offer in all_offers()
    ]


def _words(row: dict[str, Any]) -> str:
    return f"{row['scheme']} {row['method']} {row['format']}".lower()
