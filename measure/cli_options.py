"""Options that commands of `qadvisor measure` share, and the sweep that they mean."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knowledge.errors import InvalidRequestError, UnknownNameError
from measure.tasks import SUITES

if TYPE_CHECKING:
    from measure.cluster import ClusterOptions
    from measure.plan import Plan
    from measure.runner import Event, Summary
    from measure.sweep import RunOptions, SweepRequest

Model = Annotated[str, typer.Option("--model", "-m", metavar="PATH", help="Model folder with safetensors, or a hub id.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", metavar="PATH", help="Model folder with safetensors, or a hub id; may be given again."),
]
PlanPath = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="A saved plan, in place of models, recipes, tasks, settings.")
]
Recipes = Annotated[
    str,
    typer.Option(
        "--recipes", "-r", metavar="R1,R2,…", help="Recipes, lists (quick, broad, li2024) or @FILE; the baseline is added."
    ),
]
Suite = Annotated[
    str | None,
    typer.Option(
        "--suite",
        metavar="NAME",
        help="Named tasks: quick (if nothing is given), text, efficiency, li2024, jin2024, or a part.",
    ),
]
Tasks = Annotated[
    str | None, typer.Option("--tasks", "-t", metavar="T1,T2,…", help="Own tasks, or any of lm-evaluation-harness.")
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder or URL of the records; the home's runs/ if not given."),
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
JudgeUrl = Annotated[
    str | None, typer.Option("--judge-url", metavar="URL", help="OpenAI-compatible endpoint that grades mt_bench, followbench.")
]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", metavar="NAME", help="Grading model; its key is read from QADVISOR_JUDGE_KEY.")
]
Protocol = Annotated[str, typer.Option("--protocol", metavar="NAME", help="Conventions: default, or li2024 (the study's).")]
CheckData = Annotated[
    bool, typer.Option("--check-data", help="Look whether the tasks' data are here; leave out those without.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run cells again that failed before.")]
Online = Annotated[bool, typer.Option("--online", help="Fetch the model and data sets where they are not here.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that lies beside the weights.")]
On = Annotated[str, typer.Option("--on", metavar="WHERE", help="here, or ray: a Ray cluster (extra `ray`).")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Ray cluster; auto finds one on this machine; else one is started."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="Workers at once on Ray; as many as fit if not given.")
]
Cpus = Annotated[float, typer.Option("--cpus", metavar="N", min=0.1, help="CPU cores of a worker on Ray.")]
Gpus = Annotated[
    float | None,
    typer.Option("--gpus", metavar="N", min=0.0, help="GPUs of a worker on Ray, 0.5 for half of one; 1 on cuda if not given."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_AT_RUN = ("retry_failed", "check_data", "online", "trust_remote_code")
"""Options that a plan file does not hold, nor where records go: fields of `measure.sweep.RunOptions`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What the options mean."""

    request: "SweepRequest"
    plans: "list[Plan]"
    run: "RunOptions"

    def run_here(self, on_event: "Callable[[Event], None]") -> "Summary":
        """Run the plans in this process, one after the other."""
        from measure.backend import TorchBackend
        from measure.runner import Summary, run_plan

        summary = Summary()
        for plan in self.plans:
            summary += run_plan(plan, TorchBackend(plan.source, plan.settings), on_event=on_event)
        return summary

    def run_on_ray(self, cluster: "ClusterOptions", on_event: "Callable[[Event], None]") -> "Summary":
        """Run the plans on a cluster."""
        from measure.cluster import run_on_ray

        return run_on_ray(self.request, self.plans, cluster=cluster, run=self.run, on_event=on_event)


def takes_sweep(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of a sweep before its own; it gets the `Sweep` as its first argument."""

    def wrapper(*, context: typer.Context, plan_path: Path | None, output: str | None, **options: Any) -> None:
        from measure.outputs import find_place
        from measure.plan_file import load_plan
        from measure.sweep import RunOptions

        at_run = RunOptions(**{name: options.pop(name) for name in _AT_RUN})
        own = {name: options.pop(name) for name in own_names}
        if plan_path is not None and (clash := _given(context, set(options))):
            flags = ", ".join(clash)
            raise InvalidRequestError(
                f"{flags} and --plan exclude each other", given=flags, allowed="--plan alone, or no --plan"
            )
        file = load_plan(plan_path) if plan_path else None
        request = file.request if file else _request(**options)
        plans = request.plans(find_place(output), at_run)
        if file:
            file.check(plans)
        command(Sweep(request=request, plans=plans, run=at_run), **own)

    shared = inspect.signature(_request).parameters
    own_options = [found for found in inspect.signature(command).parameters.values() if found.kind == found.KEYWORD_ONLY]
    own_names = [found.name for found in own_options]
    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shared.values()),
        *(found for name, found in inspect.signature(_beside).parameters.items()),
        *own_options,
    ]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


def _given(context: typer.Context, names: set[str]) -> list[str]:
    """The flags of those parameters that stand on the command line."""
    on_line = {name for name in names if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"}
    return [parameter.opts[0] for parameter in context.command.params if parameter.name in on_line]


def _request(
    model: Models = None,
    recipes: Recipes = "quick",
    suite: Suite = None,
    tasks: Tasks = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    limit: Limit = None,
    context_tokens: Context = None,
    shots: Shots = None,
    text: Text = None,
    task_dir: TaskDir = None,
    calibration_text: CalibrationText = None,
    calibration_samples: CalibrationSamples = 128,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    protocol: Protocol = "default",
) -> "SweepRequest":
    """What is asked for. The parameters are the options that `--plan` stands for."""
    from measure.sweep import SweepRequest, state_recipes, state_tasks

    if not model:
        raise InvalidRequestError("no model", allowed="--model PATH, or --plan FILE")
    if suite is not None and tasks is not None:
        raise InvalidRequestError("--suite and --tasks exclude each other", given=f"{suite}, {tasks}", allowed="one of them")
    if suite is not None and suite not in SUITES:
        raise UnknownNameError.of("suite", suite, list(SUITES))
    return SweepRequest(
        models=tuple(model),
        recipes=state_recipes(_split(recipes), protocol=protocol),
        tasks=state_tasks(_split(tasks) if tasks else [suite or "quick"]),
        limit=limit,
        context=context_tokens,
        shots=shots,
        text=text,
        task_dir=task_dir,
        calibration_text=calibration_text,
        calibration_samples=calibration_samples,
        judge_url=judge_url,
        judge_model=judge_model,
        device=device,
        dtype=dtype,
        seed=seed,
        batch_size=batch_size,
    )


def _beside(
    *,
    plan_path: PlanPath = None,
    output: Output = None,
    retry_failed: RetryFailed = False,
    check_data: CheckData = False,
    online: Online = False,
    trust_remote_code: Trust = False,
) -> None:
    """A signature only: the options that may stand beside `--plan`."""


def _split(text: str) -> list[str]:
    return [part for item in text.split(",") if (part := item.strip())]
