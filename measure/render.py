"""Plans, records and folders as text for people, within 80 columns."""

import textwrap
from statistics import median
from typing import TYPE_CHECKING

from knowledge.measurements import Measurement, RunRecord, RunSpec
from knowledge.probes import Landscape, Probe
from measure.outputs import Folder
from measure.plan import Plan, estimate_memory
from measure.tasks import SUITE_GAPS, SUITES

if TYPE_CHECKING:
    from rich.table import Table

    from measure.apply import Checkpoint

_FOUR_BITS = {"weight": "w4a16-g128-asym", "activation": "w16a4", "key": "kv4", "value": "kv4"}

_RECIPE_WIDTH, _TASK_WIDTH = 26, 18


def plan_table(plan: Plan) -> "Table":
    """The cells of a plan: recipe, task, state, memory of the deployed recipe, time where earlier cells tell it."""
    from rich.table import Table

    done = len(plan.cells) - len(plan.todo)
    held = _bytes(estimate_memory(plan.source, plan.settings))
    table = Table(
        title=f"{plan.source.name} ({plan.source.family}): {len(plan.todo)} cells to measure, {done} not; {held} while it runs",
        title_justify="left",
        box=None,
    )
    for heading, side in (("recipe", "left"), ("task", "left"), ("state", "left"), ("deployed", "right"), ("time", "right")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for cell in plan.cells:
        table.add_row(
            _recipe(cell.spec),
            cell.task.name,
            f"{cell.status}: {cell.reason}" if cell.reason else cell.status,
            _bytes(cell.deployed_bytes),
            "" if cell.seconds is None else f"{cell.seconds:.0f} s",
        )
    return table


def gaps_of(tasks: list[str]) -> list[str]:
    """What a study tested beyond the suite named after it, for suites whose tasks are all in `tasks`."""
    return [f"suite {suite} leaves out: {gaps}" for suite, gaps in SUITE_GAPS.items() if set(SUITES[suite]) <= set(tasks)]


def status_table(folder: Folder) -> "Table":
    """The records of a folder, one row each."""
    from rich.table import Table

    failed = sum(record.status == "failed" for record in folder.records.values())
    title = f"{folder.path}: {len(folder.records)} records, {failed} failed, {len(folder.unreadable)} unreadable files"
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("model", "recipe", "task", "result"):
        table.add_column(heading, overflow="fold")
    for record in sorted(folder.records.values(), key=lambda found: (found.spec.model, found.spec.recipe, found.spec.task)):
        table.add_row(record.spec.model, _recipe(record.spec), record.spec.task, result_text(record))
    return table


def probe_table(probe: Probe) -> "Table":
    """Medians over the layers of each kind of tensor."""
    from rich.table import Table

    table = Table(title=f"{probe.model}: {len(probe.tensors)} tensors, medians over layers", title_justify="left", box=None)
    for heading in ("kind", "part"):
        table.add_column(heading)
    for heading in ("abs max", "std", "kurtosis", "outliers", "SQNR at 4 bits"):
        table.add_column(heading, justify="right")
    for kind, part in dict.fromkeys((stats.kind, stats.part) for stats in probe.tensors):
        chosen = [stats for stats in probe.tensors if (stats.kind, stats.part) == (kind, part)]
        table.add_row(
            kind,
            part,
            f"{median(stats.abs_max for stats in chosen):.3g}",
            f"{median(stats.std for stats in chosen):.3g}",
            f"{median(stats.kurtosis for stats in chosen):.3g}",
            f"{median(stats.outlier_share for stats in chosen):.2%}",
            f"{median(stats.sqnr_db[_FOUR_BITS[kind]] for stats in chosen):.1f} dB",
        )
    return table


def landscape_text(found: Landscape) -> str:
    """The landscape in a few lines."""
    rises = ", ".join(f"{name} {nll - found.nll:+.4f}" for name, nll in found.rounded.items())
    expected = ", ".join(f"{name} {rise:+.4f}" for name, rise in found.expected_rise.items())
    profile = ", ".join(f"{float(radius):.0%} {rise.value:+.4f}" for radius, rise in found.profile.items())
    trace = found.hessian_trace
    return "\n".join(
        [
            f"loss {found.nll:.4f} nats per token over {found.text.samples} windows of {found.text.tokens_per_sample} tokens",
            f"  rounded: {rises}",
            f"  expected from the Hessian's trace: {expected}",
            f"  weights moved by: {profile}",
            f"  trace of the Hessian {trace.value:.4g}" + (f" ±{trace.stderr:.2g}" if trace.stderr is not None else ""),
        ]
    )


def record_line(record: RunRecord) -> str:
    """One record in one line."""
    return f"{_recipe(record.spec):<{_RECIPE_WIDTH}} {record.spec.task:<{_TASK_WIDTH}} {result_text(record)}"


def result_text(record: RunRecord) -> str:
    """The first metric with its standard error and its difference to the baseline, or the error."""
    if record.error is not None:
        return f"FAILED {record.error.message}"
    return measurement_text(record.measurements[0]) if record.measurements else "no metric"


def measurement_text(measurement: Measurement) -> str:
    """`acc 0.512 ±0.013 (-0.021)`."""
    text = f"{measurement.metric} {measurement.value:.4g}"
    if measurement.stderr is not None:
        text += f" ±{measurement.stderr:.2g}"
    if measurement.against_baseline is not None:
        text += f" ({measurement.against_baseline.delta:+.2g})"
    return text


def _recipe(spec: RunSpec) -> str:
    """The recipe, with its protocol where that is not the usual one."""
    return spec.recipe if spec.protocol == "default" else f"{spec.recipe} ({spec.protocol})"


def _bytes(value: int | None) -> str:
    if value is None:
        return ""
    return f"{value / 1e9:.1f} GB" if value >= 1e8 else f"{value / 1e6:.1f} MB"


def checkpoint_text(made: "Checkpoint") -> str:
    """What `qadvisor apply` made, how it was checked, how to serve it; commands are not wrapped so that they can be copied."""
    known = made.expected_bytes is not None and made.difference is not None
    computed = f"computed: {made.expected_bytes:,}, {made.difference:+.2%}" if known else "not computed: shape not known"
    lines = [
        f"{made.path}: {made.model} as {made.scheme}, {made.method}, {made.format}",
        f"  size     {_bytes(made.tensor_bytes)} ({made.tensor_bytes:,} bytes; {computed}),",
        f"           {made.bits_per_weight:.2f} bits a weight over all {made.parameters:,} parameters",
        f"  checked  {made.layers} layers quantized; logits moved by {made.logit_change:.2%} from the original's,",
        f"           by {made.read_back_change:.2%} through saving and reading back",
    ]
    if made.calibration is not None:
        facts = made.calibration
        lines.append(f"  saw      {facts.samples} windows of {facts.tokens_per_sample} tokens from {facts.source}")
    for serving in made.serve:
        lines.append(f"  serve    {serving.command}")
        lines += [line for note in serving.notes for line in _noted(f"{serving.engine}: {note}")]
    return "\n".join([*lines, *(line for note in made.notes for line in _noted(note))]) + "\n"


def _noted(note: str) -> list[str]:
    return textwrap.wrap(note, 80, initial_indent="  note     ", subsequent_indent=" " * 11, break_on_hyphens=False)
