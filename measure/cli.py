"""`qadvisor measure plan | run | status | probe`: parse, call, render. Nothing is computed here and nothing heavy imported."""

import inspect
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knowledge.errors import InvalidRequestError, QAdvisorError, UnknownNameError
from knowledge.measurements import RunRecord
from measure.tasks import SUITES

if TYPE_CHECKING:
    from rich.console import Console

    from measure.plan import Cell, Plan
    from measure.runner import Event

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

Model = Annotated[str, typer.Option("--model", "-m", metavar="PATH", help="Model folder with safetensors, or a hub id.")]
Recipes = Annotated[
    str,
    typer.Option("--recipes", "-r", metavar="R1,R2,…", help="Recipes, lists (quick, li2024) or @FILE; the baseline is added."),
]
Suite = Annotated[
    str | None,
    typer.Option(
        "--suite", metavar="NAME", help="Named tasks: quick (if nothing is given), text, efficiency, li2024, jin2024."
    ),
]
Tasks = Annotated[
    str | None, typer.Option("--tasks", "-t", metavar="T1,T2,…", help="Own tasks, or any of lm-evaluation-harness.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the records; the home's runs/ if not given.")
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option("--dtype", metavar="DTYPE", help="float32, bfloat16 or float16.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of samples, calibration and bootstrap.")]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", help="Sequences a forward; halved when memory runs out.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Samples a task.")]
Context = Annotated[int | None, typer.Option("--context", "-c", metavar="TOKENS", min=2, help="Tokens of a window or prompt.")]
Shots = Annotated[int | None, typer.Option("--shots", metavar="N", min=0, help="Worked examples before each question.")]
Text = Annotated[Path | None, typer.Option("--text", metavar="FILE", help="Text for perplexity, in place of the built-in one.")]
TaskDir = Annotated[Path | None, typer.Option("--task-dir", metavar="DIR", help="Own harness tasks (YAML and JSONL).")]
CalibrationText = Annotated[
    Path | None, typer.Option("--calibration-text", metavar="FILE", help="Text that GPTQ and the like see.")
]
CalibrationSamples = Annotated[int, typer.Option("--calibration-samples", metavar="N", min=1, help="Windows of that text.")]
Protocol = Annotated[str, typer.Option("--protocol", metavar="NAME", help="Conventions: default, or li2024 (the study's).")]
CheckData = Annotated[
    bool, typer.Option("--check-data", help="Look whether the tasks' data are here; leave out those without.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run cells again that failed before.")]
Online = Annotated[bool, typer.Option("--online", help="Fetch the model and data sets where they are not here.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that lies beside the weights.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _plan(
    model: Model,
    recipes: Recipes = "quick",
    suite: Suite = None,
    tasks: Tasks = None,
    output: Output = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    limit: Limit = None,
    context: Context = None,
    shots: Shots = None,
    text: Text = None,
    task_dir: TaskDir = None,
    calibration_text: CalibrationText = None,
    calibration_samples: CalibrationSamples = 128,
    protocol: Protocol = "default",
    retry_failed: RetryFailed = False,
    check_data: CheckData = False,
    online: Online = False,
    trust_remote_code: Trust = False,
) -> "Plan":
    """The plan that the options mean. Its parameters are the options of `plan` and of `run`."""
    from measure.models import locate_model
    from measure.outputs import default_folder
    from measure.plan import CalibrationRequest, Settings, make_plan
    from measure.presets import expand_recipes
    from measure.tasks import TaskOptions, find_missing_data, plan_tasks

    if suite is not None and tasks is not None:
        raise InvalidRequestError("--suite and --tasks exclude each other", given=f"{suite}, {tasks}", allowed="one of them")
    if suite is not None and suite not in SUITES:
        raise UnknownNameError.of("suite", suite, list(SUITES))
    options = TaskOptions(
        limit=limit, context=context, shots=shots, text=text, task_dir=task_dir, batch=batch_size, online=online
    )
    calibration = CalibrationRequest(text=calibration_text, samples=calibration_samples)
    settings = Settings(
        device=device,
        dtype=dtype,
        seed=seed,
        batch_size=batch_size,
        trust_remote_code=trust_remote_code,
        calibration=calibration,
    )
    planned = plan_tasks(_split(tasks) if tasks else [suite or "quick"], options)
    return make_plan(
        locate_model(model, online=online),
        expand_recipes(_split(recipes), protocol=protocol),
        planned,
        missing_data=find_missing_data(planned) if check_data else {},
        settings=settings,
        output=output or default_folder(),
        retry_failed=retry_failed,
    )


def _planned(command: Callable[["Plan", bool], None]) -> Callable[..., None]:
    """A command that takes the options of `_plan` and `--json`, and gets the plan."""

    def wrapper(*, as_json: bool = False, **options: Any) -> None:
        command(_plan(**options), as_json)

    shared = inspect.signature(_plan).parameters.values()
    last = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shared] + [last]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


def _split(text: str) -> list[str]:
    return [part for item in text.split(",") if (part := item.strip())]


@app.command()
@_planned
def plan(found: "Plan", as_json: bool) -> None:
    """Show the cells (recipe x task) that a run would measure, and which are done."""
    from measure.plan import plan_as_dict
    from measure.render import gaps_of, plan_table

    if as_json:
        _print_json(plan_as_dict(found))
    else:
        _console().print(plan_table(found))
        for gap in gaps_of([cell.task.name for cell in found.cells]):
            _console().print(gap, soft_wrap=True, highlight=False)


@app.command()
@_planned
def run(found: "Plan", as_json: bool) -> None:
    """Measure every cell that is not done; records are written one by one, so that an interrupted run goes on."""
    from measure.backend import TorchBackend
    from measure.runner import run_plan

    _silence()
    records: list[RunRecord] = []
    try:
        with _Progress(found, records, as_json=as_json) as watch:
            summary = run_plan(found, TorchBackend(found.source, found.settings), on_event=watch)
    except KeyboardInterrupt as interrupt:
        raise QAdvisorError(
            f"interrupted after {len(records)} of {len(found.todo)} cells",
            hint="run the same command again: it goes on where it was",
        ) from interrupt
    if as_json:
        counts = {"ok": summary.ok, "failed": summary.failed, "skipped": summary.skipped}
        lines = [_record_line(record) for record in records]
        _print_json({"schema_version": 1, "folder": str(found.folder.path), **counts, "records": lines})
        return
    words = f"{summary.ok} measured, {summary.failed} failed, {summary.skipped} already there or not applicable"
    _console().print(f"{words}; records in {found.folder.path}", soft_wrap=True, highlight=False)


@app.command()
def status(output: Output = None, as_json: Json = False) -> None:
    """Show what has been measured: one line a record."""
    from measure.outputs import default_folder, read_folder

    folder = read_folder(output or default_folder())
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
    """Look at the spread of a model's own weights, activations, keys and values, and at the noise of each scheme."""
    from measure.backend import probe_model
    from measure.models import locate_model
    from measure.outputs import write_text
    from measure.plan import CalibrationRequest, Settings

    _silence()
    request = CalibrationRequest(text=calibration_text, samples=calibration_samples)
    settings = Settings(
        device=device, dtype=dtype, seed=seed, batch_size=batch_size, trust_remote_code=trust_remote_code, calibration=request
    )
    found = probe_model(locate_model(model, online=online), settings)
    write_text(output, found.to_json())
    if as_json:
        sys.stdout.write(found.to_json())
        return
    from measure.render import probe_table

    _console().print(probe_table(found))
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


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(file=sys.stderr if stderr else sys.stdout)


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


class _Progress:
    """A bar on stderr and a line a result on stdout (none with JSON)."""

    def __init__(self, plan: "Plan", records: list[RunRecord], *, as_json: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._records, self._as_json = records, as_json
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=_console(stderr=True), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("loading", total=len(plan.todo))

    def __enter__(self) -> Callable[["Event"], None]:
        self._bar.start()
        return self._watch

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def _watch(self, event: "Event") -> None:
        from measure.render import record_line

        if event.cell is not None:
            self._bar.update(self._task, description=f"{event.kind} {_name(event.cell)}")
        if event.record is not None:
            self._records.append(event.record)
            self._bar.advance(self._task)
            if not self._as_json:
                sys.stdout.write(record_line(event.record) + "\n")
                sys.stdout.flush()


def _name(cell: "Cell") -> str:
    return f"{cell.spec.recipe} {cell.task.name}"
