"""`qadvisor explain`: everything known about one candidate of a request."""

from typing import Annotated

import typer

from advisor.cli import options, output
from advisor.cli.flags import request_values
from advisor.cli.groups import new_app

app = new_app()

Method = Annotated[str | None, typer.Option("--method", metavar="NAME", help="Method; the best-ranked if not given.")]


@app.command()
def explain(
    scheme: options.Scheme,
    method: Method = None,
    model: options.Model = None,
    task: options.Task = None,
    mem: options.Memory = None,
    context: options.Context = None,
    batch: options.Batch = None,
    hardware: options.Hardware = None,
    engine: options.Engine = None,
    max_loss: options.MaxLoss = None,
    objective: options.Objective = None,
    online: options.Online = False,
    exclude_licence: options.ExcludeLicence = None,
    json: options.Json = False,
) -> None:
    """Explain one candidate: where it ranks and why, its bytes and losses part by part, rules and evidence.

    Example: qadvisor explain --model mistral-7b --task long-context --mem 16GB --scheme gguf:q4_k_m
    """
    from advisor.explanation import explain as explain_request
    from advisor.request import make_request
    from knowledge.recipes import parse_recipe

    values = request_values(
        model=model, task=task, memory=mem, context=context, batch=batch, hardware=hardware, engine=engine, max_loss=max_loss,
        objective=objective, online=online, exclude_licences=tuple(exclude_licence) if exclude_licence else None,
    )  # fmt: skip
    recipe = parse_recipe(scheme)
    if scheme.strip().lower().endswith(f":{recipe.method.name}"):
        method = method or recipe.method.name
    found = explain_request(make_request(values), recipe.scheme.name, method=method)
    if json:
        output.write_json(found.as_dict())
        return
    from advisor.report_explain import render_explanation

    output.write_rich(render_explanation(found))
