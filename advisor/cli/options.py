"""Options that several commands share: one spelling, one help text each."""

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli.flags import FLAGS

Json = Annotated[bool, typer.Option(*FLAGS["json"], help="Print JSON.")]
Markdown = Annotated[bool, typer.Option(*FLAGS["markdown"], help="Print Markdown.")]

Model = Annotated[
    str | None,
    typer.Option(*FLAGS["model"], metavar="MODEL", help="Catalogue name, hub id, model folder, config.json or .gguf file."),
]
Task = Annotated[
    str | None,
    typer.Option(*FLAGS["task"], metavar="TASK", help="Task, task type or ability; several with weights: gsm8k:2,mmlu:1."),
]
Memory = Annotated[
    str | None,
    typer.Option(*FLAGS["mem"], metavar="SIZE", help="All memory the model may use: 16GB (16e9 bytes) or 16GiB (16 x 2^30)."),
]
Context = Annotated[
    str | None,
    typer.Option(*FLAGS["context"], metavar="TOKENS", help="Context length, 32768 or 32k; the task's usual one if not given."),
]
Batch = Annotated[str | None, typer.Option(*FLAGS["batch"], metavar="N", help="Sequences at once (1 if not given).")]
Hardware = Annotated[
    str | None,
    typer.Option(
        *FLAGS["hardware"], metavar="NAME", help="Device, see `qadvisor hardware`; gives the memory where --mem does not."
    ),
]
Engine = Annotated[str | None, typer.Option(*FLAGS["engine"], metavar="NAME", help="Inference engine, see `qadvisor engines`.")]
MaxLoss = Annotated[
    str | None,
    typer.Option(*FLAGS["max_loss"], metavar="PCT", help="Largest tolerated loss, in percent of above-chance performance."),
]
Objective = Annotated[
    str | None,
    typer.Option(*FLAGS["objective"], metavar="GOAL", help="balanced (if not given), quality, speed or memory."),
]
Probe = Annotated[
    Path | None,
    typer.Option(
        *FLAGS["probe"], metavar="FILE", help="Features of the model's own weights, written by `qadvisor measure probe`."
    ),
]
Online = Annotated[bool, typer.Option(*FLAGS["online"], help="Ask the Hugging Face hub for facts that are not known here.")]
ExcludeLicence = Annotated[
    list[str] | None,
    typer.Option(*FLAGS["exclude_licence"], metavar="LICENCE", help="Leave evidence under this licence out; may be repeated."),
]
Scheme = Annotated[
    str,
    typer.Option("--scheme", "-s", metavar="SCHEME", help="Number format, see `qadvisor schemes`; a method behind a colon."),
]
Search = Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Show only what contains this text.")]
