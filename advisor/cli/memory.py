"""`qadvisor memory`: bytes of weights, KV cache, state and buffers, part by part."""

from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app
from knowledge.errors import InvalidRequestError

app = new_app()

DEFAULT_CONTEXT = 4096
"""Tokens where no context is asked for; the output names what was taken."""

Format = Annotated[
    str | None, typer.Option("--format", metavar="FORMAT", help="Checkpoint format; the usual one if not given.")
]


@app.command()
def memory(
    scheme: options.Scheme,
    model: options.Model = None,
    context: options.Context = None,
    batch: options.Batch = None,
    engine: options.Engine = None,
    format: Format = None,
    online: options.Online = False,
    json: options.Json = False,
) -> None:
    """Count the bytes that a model takes under a scheme, with the formula of every part.

    Without --engine the cache keeps every token of every layer: the upper bound of all engines.

    Example: qadvisor memory --model mistral-7b --scheme gguf:q4_k_m-kvq8_0 --context 32k --engine llama.cpp
    """
    from advisor.request import parse_tokens
    from knowledge.memory import estimate_memory
    from knowledge.recipes import parse_recipe
    from knowledge.resolve import resolve_model

    if model is None:
        raise InvalidRequestError("--model is missing", allowed="a catalogue name, model folder, config.json or .gguf file")
    recipe, spec = parse_recipe(scheme), resolve_model(model, online=online)
    tokens = parse_tokens(context) if context else DEFAULT_CONTEXT
    sequences = _count(batch) if batch else 1
    estimate = estimate_memory(
        spec, recipe.scheme, method=recipe.method.name, format=format, engine=engine, context=tokens, batch=sequences
    )
    about = {"model": spec.name, "scheme": recipe.scheme.name, "context": tokens, "batch": sequences, "engine": engine}
    if json:
        output.write_json(output.versioned(**about, memory=_fields(estimate)))
    else:
        _render(about, estimate)


def _count(text: str) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= 4096:
        raise InvalidRequestError(f"--batch: {text!r} is no number of sequences", given=text, allowed="1 … 4096")
    return int(text)


def _fields(estimate: Any) -> dict[str, Any]:
    fields = {name: getattr(estimate, name) for name in estimate.__slots__}
    return fields | {"parts": [{name: getattr(part, name) for name in part.__slots__} for part in estimate.parts]}


def _render(about: dict[str, Any], estimate: Any) -> None:
    from rich.text import Text

    from advisor.report_words import size

    line = f"{about['model']} {about['scheme']} · context {about['context']:,} · batch {about['batch']}"
    line += f" · {about['engine']}" if about["engine"] else ""
    rows = [(part.name, size(part.bytes), "" if part.exact else "about", part.formula) for part in estimate.parts]
    how = f"{estimate.total_bytes:,} bytes as {estimate.format}; {estimate.policy}"
    rows.append(("total", size(estimate.total_bytes), "", how))
    table = output.make_table(("part", "bytes", "", "how"), rows, right=("bytes",))
    output.write_rich(Text(line + "\n"), table, *(Text(f"note: {note}") for note in estimate.notes))
