"""`qadvisor predict`: the loss of every configuration of a table."""

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app

app = new_app()

Input = Annotated[
    Path, typer.Option("--input", "-i", metavar="CELLS.csv", help="Table of configurations; columns as in published tables.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT.csv", help="Where to write the table with the predictions.")
]


@app.command()
def predict(input: Input, output_file: Output, json: options.Json = False) -> None:
    """Predict the loss of each row of a table, with its interval.

    Any column may be missing: model, params_b, family, method, scheme or w_*, a_*, kv_*, format, task, task_type, metric,
    context, baseline. Added are relative_loss or delta_nll, lower, upper, level, in_support and basis.
    """
    output.check_writable(output_file)
    from advisor.predict_table import predict_table

    summary = predict_table(input, output_file)
    if json:
        fields = {name: getattr(summary, name) for name in ("rows", "direct", "out_of_support")}
        output.write_json(output.versioned(**fields, output=str(summary.output)))
        return
    output.write_text(
        f"{summary.rows:,} rows written to {summary.output}: {summary.direct:,} rest mostly on scores of the very cell, "
        f"{summary.out_of_support:,} lie outside what the evidence covers\n"
    )
