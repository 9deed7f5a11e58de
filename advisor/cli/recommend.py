"""`qadvisor recommend`: the best recipe, the runners-up, what was ruled out and why."""

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli import options
from advisor.cli.answering import answer_command
from advisor.cli.flags import FLAGS
from advisor.cli.groups import new_app

app = new_app()

RequestFile = Annotated[
    Path | None,
    typer.Option(
        *FLAGS["request"], metavar="FILE", help="Request declared in YAML (one, or a list), instead of the options above."
    ),
]
Top = Annotated[str | None, typer.Option(*FLAGS["top"], metavar="N", help="How many recipes to show (3 if not given).")]


@app.command()
def recommend(
    model: options.Model = None,
    task: options.Task = None,
    mem: options.Memory = None,
    context: options.Context = None,
    batch: options.Batch = None,
    hardware: options.Hardware = None,
    engine: options.Engine = None,
    max_loss: options.MaxLoss = None,
    objective: options.Objective = None,
    probe: options.Probe = None,
    top: Top = None,
    online: options.Online = False,
    exclude_licence: options.ExcludeLicence = None,
    request: RequestFile = None,
    json: options.Json = False,
    markdown: options.Markdown = False,
) -> int:
    """Recommend a bit-width and quantization method for a model, a task and a memory budget.

    Example: qadvisor recommend --model mistral-7b --task long-context --mem 16GB
    """
    return answer_command(
        model=model, task=task, mem=mem, context=context, batch=batch, hardware=hardware, engine=engine, max_loss=max_loss,
        objective=objective, probe=probe, top=top, online=online, exclude_licence=exclude_licence, request=request, json=json,
        markdown=markdown,
    )  # fmt: skip
