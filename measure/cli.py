"""`qadvisor measure plan | run | status | probe`: parse, call, render. Nothing is computed here and nothing heavy imported."""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from knowledge.errors import InvalidRequestError, QAdvisorError
from knowledge.measurements import RunRecord
from measure.cli_options import (
    Address,
    BatchSize,
    CalibrationSamples,
    CalibrationText,
    Cpus,
    Device,
    Dtype,
    Gpus,
    Json,
    Model,
    On,
    Online,
    Output,
    Seed,
    Sweep,
    Trust,
    Workers,
    takes_sweep,
)

if TYPE_CHECKING:
    from rich.console import Console


app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Quantize a model in many ways and record what each costs (extra `measure`).",
)

apply_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
"""The command `qadvisor apply`."""

_TALKATIVE = ("torchao", "torch.utils._pytree", "transformers", "bitsandbytes", "datasets")
"""Libraries that report on import what does not matter here (a kernel for another GPU)."""


@app.command()
@takes_sweep
def plan(
    sweep: Sweep,
    *,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the plan, for `run --plan FILE`.")] = None,
    as_json: Json = False,
) -> None:
    """Show the cells (model x recipe x task) that a run would measure, and which are done."""
    from measure.plan import plan_as_dict
    from measure.plan_file import save_plan
    from measure.render import gaps_of, plan_table

    if save is not None:
        save_plan(save, sweep.request, sweep.plans)
    if as_json:
        documents = [plan_as_dict(found) for found in sweep.plans]
        _print_json(documents[0] if len(documents) == 1 else {"schema_version": 1, "plans": documents})
        return
    for found in sweep.plans:
        _console().print(plan_table(found))
    for gap in gaps_of(list(sweep.request.tasks)):
        _console().print(gap, soft_wrap=True, highlight=False)
    if save is not None:
        _console().print(f"saved to {save}", soft_wrap=True, highlight=False)


@app.command()
@takes_sweep
def run(
    sweep: Sweep,
    *,
    on: On = "here",
    address: Address = None,
    workers: Workers = None,
    cpus: Cpus = 1.0,
    gpus: Gpus = None,
    as_json: Json = False,
) -> None:
    """Measure every cell that is not done; records are written one by one, so that an interrupted run goes on."""
    from measure.cluster import ClusterOptions
    from measure.progress import SweepProgress

    cluster = ClusterOptions(address=address, workers=workers, cpus=cpus, gpus=gpus)
    if on not in ("here", "ray"):
        raise InvalidRequestError(f"cannot run on {on!r}", given=on, allowed=["here", "ray"])
    if on == "here" and cluster != ClusterOptions():
        raise InvalidRequestError("--address, --workers, --cpus and --gpus are options of --on ray", allowed="--on ray")
    _silence()
    records: list[RunRecord] = []
    todo = sum(len(found.todo) for found in sweep.plans)
    try:
        with SweepProgress(todo, records, as_json=as_json) as watch:
            summary = sweep.run_on_ray(cluster, watch) if on == "ray" else sweep.run_here(watch)
    except KeyboardInterrupt as interrupt:
        raise QAdvisorError(
            f"interrupted after {len(records)} of {todo} cells",
            hint="run the same command again: it goes on where it was",
        ) from interrupt
    place = sweep.plans[0].folder.path
    if as_json:
        counts = {"ok": summary.ok, "failed": summary.failed, "skipped": summary.skipped}
        lines = [_record_line(record) for record in records]
        _print_json({"schema_version": 1, "folder": str(place), **counts, "records": lines})
        return
    words = f"{summary.ok} measured, {summary.failed} failed, {summary.skipped} already there or not applicable"
    _console().print(f"{words}; records in {place}", soft_wrap=True, highlight=False)


@app.command()
def status(output: Output = None, as_json: Json = False) -> None:
    """Show what has been measured: one line a record."""
    from measure.outputs import find_place, read_folder

    folder = read_folder(find_place(output))
    if as_json:
        lines = [_record_line(record) for record in folder.records.values()]
        _print_json({"schema_version": 1, "folder": str(folder.path), "records": lines, "unreadable": folder.unreadable})
        return
    from measure.render import status_table

    _console().print(status_table(folder))


@app.command()
def probe(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder with safetensors, or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the probe goes.")] = Path("probe.json"),
    activations: Annotated[
        bool, typer.Option("--activations", help="Load the model; look at activations, keys and values over a text too.")
    ] = False,
    landscape: Annotated[
        bool, typer.Option("--landscape", help="Load the model; look at the loss of that text around the weights too.")
    ] = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    calibration_text: CalibrationText = None,
    calibration_samples: CalibrationSamples = 16,
    online: Online = False,
    trust_remote_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Look at the spread of a model's own weights and at the noise of each scheme, reading them some rows at a time."""
    from measure.models import locate_model
    from measure.outputs import write_text
    from measure.plan import CalibrationRequest, Settings
    from measure.probe import probe_model
    from measure.progress import share_bar

    _silence()
    request = CalibrationRequest(text=calibration_text, samples=calibration_samples)
    settings = Settings(
        device=device, dtype=dtype, seed=seed, batch_size=batch_size, trust_remote_code=trust_remote_code, calibration=request
    )
    source = locate_model(model, online=online)
    with share_bar("weights") as advance:
        found = probe_model(source, settings, activations=activations, landscape=landscape, on_matrix=advance)
    write_text(output, found.to_json())
    if as_json:
        sys.stdout.write(found.to_json())
        return
    from measure.render import landscape_text, probe_table

    _console().print(probe_table(found))
    if found.landscape is not None:
        _console().print(landscape_text(found.landscape), soft_wrap=True, highlight=False)
    _console().print(f"written to {output}", soft_wrap=True, highlight=False)


@apply_app.command()
def apply(
    model: Model,
    scheme: Annotated[str, typer.Option("--scheme", "-s", metavar="SCHEME", help="Number format; a method behind a colon.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="New folder of the checkpoint.")],
    method: Annotated[
        str | None, typer.Option("--method", metavar="METHOD", help="rtn, gptq, awq, smoothquant or smoothquant+gptq.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", "--calibration-text", metavar="FILE", help="Text that GPTQ and co. see.")
    ] = None,
    calibration_samples: CalibrationSamples = 128,
    device: Device = "cpu",
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="DTYPE", help="bfloat16 or float16; the model's own if not given.")
    ] = None,
    seed: Seed = 0,
    online: Online = False,
    trust_remote_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Make the checkpoint of a recipe (compressed-tensors), read it back and check it (extra `measure`).

    Example: qadvisor apply --model ./my-model --scheme w4a16-g128:gptq --output ./my-model-w4
    """
    from knowledge.recipes import QuantRecipe, find_method, parse_recipe
    from measure.apply import check_request, settings_dtype, write_checkpoint
    from measure.models import locate_model
    from measure.plan import CalibrationRequest, Settings
    from measure.render import checkpoint_text
    from measure.staging import check_output

    recipe = parse_recipe(scheme)
    if method is not None:
        named = find_method(method)
        if recipe.method.name not in ("none", "rtn", named.name):
            raise InvalidRequestError(f"{scheme} and --method {method} name two methods", given=method, allowed="one of them")
        recipe = QuantRecipe(scheme=recipe.scheme, method=named)
    packing = check_request(recipe, model=model, dtype=dtype)
    check_output(output)
    source = locate_model(model, online=online)
    settings = Settings(
        device=device, dtype=dtype or settings_dtype(source), seed=seed, trust_remote_code=trust_remote_code,
        calibration=CalibrationRequest(text=calibration, samples=calibration_samples),
    )  # fmt: skip
    _silence()
    made = write_checkpoint(source, packing, settings, output, on_stage=_tell)
    if as_json:
        _print_json({"schema_version": 1, "checkpoint": made.as_dict()})
    else:
        sys.stdout.write(checkpoint_text(made))


def can_make(scheme: str, method: str) -> bool:
    """Whether a run can quantize a model in this scheme by this method, whatever the model."""
    from knowledge.schemes import parse_scheme
    from measure.quantizers import QUANTIZERS

    return method in QUANTIZERS and parse_scheme(scheme).file_type is None


def _tell(stage: str) -> None:
    sys.stderr.write(f"qadvisor: {stage}\n")


def _silence() -> None:
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)


def _record_line(record: RunRecord) -> dict[str, object]:
    return {
        "key": record.key,
        "model": record.spec.model,
        "recipe": record.spec.recipe,
        "protocol": record.spec.protocol,
        "task": record.spec.task,
        "status": record.status,
        "error": record.error.message if record.error else None,
        "metrics": {measurement.metric: measurement.value for measurement in record.measurements},
    }


def _console() -> "Console":
    from rich.console import Console

    return Console(file=sys.stdout)


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
