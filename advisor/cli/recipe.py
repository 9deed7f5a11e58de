"""`qadvisor recipe`: how to make and serve a checkpoint."""

from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.flags import request_values
from advisor.cli.groups import new_app
from knowledge.errors import InvalidRequestError

app = new_app()

Scheme = Annotated[
    str | None,
    typer.Option(
        "--scheme", "-s", metavar="SCHEME", help="Format, method behind a colon: w4a16-g128:gptq; else give --task and --mem."
    ),
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="FORMAT", help="Checkpoint format: gptq, awq, compressed-tensors, gguf, …")
]


@app.command()
def recipe(
    model: options.Model = None,
    scheme: Scheme = None,
    format: Format = None,
    task: options.Task = None,
    mem: options.Memory = None,
    context: options.Context = None,
    hardware: options.Hardware = None,
    engine: options.Engine = None,
    json: options.Json = False,
) -> None:
    """Show the commands that make and serve a recipe: a named one, or the best for a task and a memory budget.

    Example: qadvisor recipe --model mistral-7b --scheme gguf:q4_k_m --engine llama.cpp --context 32k
    """
    from advisor.recipe import write_instructions
    from advisor.request import make_request, parse_tokens
    from knowledge.recipes import parse_recipe
    from knowledge.resolve import resolve_model

    if model is None:
        raise InvalidRequestError("--model is missing", allowed="--model MODEL with --scheme SCHEME, or with --task and --mem")
    if scheme is not None:
        wanted = parse_recipe(scheme)
        found = _how_to_run(wanted, format, engine)
        tokens = parse_tokens(context) if context else None
        spec = resolve_model(model)
    else:
        from advisor.recommendation import advise

        values = request_values(model=model, task=task, memory=mem, context=context, hardware=hardware, engine=engine)
        answer = advise(make_request(values))
        best = answer.best
        wanted = parse_recipe(best.scheme if best.method in ("none", "rtn") else f"{best.scheme}:{best.method}")
        found, tokens, spec = (best.format, engine or best.engines[0]), answer.request.get("context"), resolve_model(model)
    steps = write_instructions(wanted, model=spec.hf_id or model, format=found[0], engine=found[1], context=tokens)
    if json:
        output.write_json(output.versioned(recipe=steps.as_dict()))
    else:
        output.write_text(_text(steps))


def _how_to_run(wanted: Any, format: str | None, engine: str | None) -> tuple[str, str]:
    """Checkpoint format and engine for a recipe: those given, else the usual format and the first engine that reads it."""
    from knowledge.engines import all_engines, find_engine, find_formats
    from knowledge.weight_formats import default_format

    names = [find_engine(engine).name] if engine else [spec.name for spec in all_engines()]
    usual = format or default_format(wanted.scheme, wanted.method.name)
    for checkpoint in (usual, *(() if format else _formats(names))):
        for name in names:
            if find_formats(name, checkpoint, wanted.scheme):
                return checkpoint, name
    runs = sorted({f"{name}: {checkpoint}" for name in (spec.name for spec in all_engines()) for checkpoint in _formats([name])
                   if find_formats(name, checkpoint, wanted.scheme)})  # fmt: skip
    raise InvalidRequestError(
        f"{' or '.join(names) if engine else 'no known engine'} does not run {wanted.scheme.weights_name}"
        + (f" as {format}" if format else ""),
        given=f"{wanted.name} {format or ''} {engine or ''}".strip(), allowed=runs or None,
        hint="`qadvisor engines` lists what each engine runs",
    )  # fmt: skip


def _formats(engines: list[str]) -> tuple[str, ...]:
    from knowledge.engines import find_engine

    return tuple(dict.fromkeys(row.format for name in engines for row in find_engine(name).formats))


def _text(steps: Any) -> str:
    """Comments and commands, ready for a shell; the lines are not wrapped so that they can be copied."""
    lines = [f"# {steps.model}: {steps.scheme} made with {steps.method}, as {steps.format}, in {steps.engine}"]
    for kind, items in (("make", steps.make), ("serve", steps.serve)):
        for n, step in enumerate(items, 1):
            language = "" if step.language == "bash" else f" ({step.language})"
            lines += ["", f"# {kind} {n}{language}: {step.title}", f"# source: {step.source}", step.command]
    return "\n".join([*lines, "", *(f"# note: {note}" for note in steps.notes)]).rstrip() + "\n"
