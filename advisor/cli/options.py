"""Options that several commands share: one spelling, one help text each."""

from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Catalogue name, hub id, model folder, config.json or .gguf file."),
]
Task = Annotated[
    str | None,
    typer.Option("--task", "-t", metavar="TASK", help="Task, task type or ability; several with weights: gsm8k:2,mmlu:1."),
]
Memory = Annotated[
    str | None,
    typer.Option("--mem", metavar="SIZE", help="All memory the model may use: 16GB (16e9 bytes) or 16GiB (16 x 2^30)."),
]
Context = Annotated[
    str | None,
    typer.Option("--context", "-c", metavar="TOKENS", help="Context length, 32768 or 32k; the task's usual one if not given."),
]
Batch = Annotated[str | None, typer.Option("--batch", "-b", metavar="N", help="Sequences at once (1 if not given).")]
Hardware = Annotated[
    str | None,
    typer.Option("--hardware", metavar="NAME", help="Device, see `qadvisor hardware`; gives the memory where --mem does not."),
]
Engine = Annotated[str | None, typer.Option("--engine", metavar="NAME", help="Inference engine, see `qadvisor engines`.")]
MaxLoss = Annotated[
    str | None,
    typer.Option("--max-loss", metavar="PCT", help="Largest tolerated loss, in percent of above-chance performance."),
]
Objective = Annotated[
    str | None,
    typer.Option("--objective", metavar="GOAL", help="balanced (if not given), quality, speed or memory."),
]
Probe = Annotated[
    Path | None,
    typer.Option("--probe", metavar="FILE", help="Features of the model's own weights, written by `qadvisor measure probe`."),
]
Online = Annotated[bool, typer.Option("--online", help="Ask the Hugging Face hub for facts that are not known here.")]
ExcludeLicence = Annotated[
    list[str] | None,
    typer.Option("--exclude-licence", metavar="LICENCE", help="Leave evidence under this licence out; may be repeated."),
]
Scheme = Annotated[
    str,
    typer.Option("--scheme", "-s", metavar="SCHEME", help="Number format, see `qadvisor schemes`; a method behind a colon."),
]
Search = Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Show only what contains this text.")]


def request_values(**values: Any) -> dict[str, Any]:
    """The options that were given, as fields of a request."""
    return {name: value for name, value in values.items() if value is not None and value is not False and value != []}
