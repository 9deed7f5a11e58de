"""`qadvisor backtest`: the honest error of the predictor, on figures that it has not seen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app

if TYPE_CHECKING:
    from rich.console import RenderableType

    from advisor.backtest import BacktestReport
    from advisor.regret import Regret
    from advisor.scores import Coverage, Interval

app = new_app()

Plots = Annotated[
    Path | None, typer.Option("--plots", metavar="DIR", help="Also draw the plots to this folder, as SVG (extra `plots`).")
]
Groups = Annotated[bool, typer.Option("--groups", help="List the coverage of every group of figures, small ones too.")]


@app.command()
def backtest(plots: Plots = None, groups: Groups = False, json: options.Json = False) -> None:
    """Fit without some cells, models, families or sources, predict those, and compare with simple baselines.

    Takes some minutes; every figure comes with a 90 % bootstrap interval over models.
    """
    from advisor.backtest import run_backtest

    if plots is not None:
        from advisor.plots import require_renderer

        require_renderer()  # better now than after some minutes
    report = run_backtest(progress=output.warn)
    if json:
        output.write_json(output.versioned(backtest=report.as_dict()))
    else:
        output.write_rich(*_tables(report, groups=groups))
    if plots is not None:
        from advisor.plots import draw

        for path in draw(report, plots):
            output.warn(f"wrote {path}")


def _tables(report: "BacktestReport", *, groups: bool) -> list["RenderableType"]:
    """Error and order of every forecast by what was left out, then what limits it, coverage and regret."""
    from rich.text import Text

    parts: list[RenderableType] = [Text(f"{report.rows:,} scores of {report.models} models")]
    for split in dict.fromkeys(score.split for score in report.scores):
        rows = (
            (s.forecast, _share(s.error), f"{s.nats.value:.4f}", _percent(s.order)) for s in report.scores if s.split == split
        )
        columns = ("forecast", "error, points", "nats", "order")
        parts += [Text(f"\n{split} left out"), output.make_table(columns, rows, right=columns[1:])]
    floors = ((_share(f.error), _share(f.ours), f"{f.rows:,}", f.knows) for f in report.floors)
    nats = ((f"{f.error.value:.4f}", f"{f.ours.value:.4f}", f"{f.rows:,}", f.knows) for f in report.floors_nats)
    columns = ("error", "ours on these", "figures", "forecast: …")
    for rows_of, unit in ((floors, "points"), (nats, "perplexities in nats")):
        parts.append(Text(f"\nforecasts that know more than any can, models left out, {unit}"))
        parts.append(output.make_table(columns, rows_of, right=columns[:3]))
    covered = (
        (split, _share(entries[0].share), f"{100 * entries[0].width:.1f} points", entries[0].rows)
        for split, entries in report.coverage.items()
    )
    columns = ("left out", "hold, %", "mean width", "scores")
    parts += [Text("\nintervals that hold (level 90 %)"), output.make_table(columns, covered, right=columns[1:])]
    if groups:
        for split, entries in report.coverage.items():
            parts += [Text(f"\nintervals that hold, {split} left out"), _group_table(entries)]
    for regret, of in ((report.regret, "a model and task"), (report.regret_by_cell, "a model, task, context and language")):
        chosen = ((name, _share(value)) for name, value in _choices(regret))
        parts.append(Text(f"\nregret of {regret.choices:,} choices for {of} under a memory budget, points"))
        parts.append(output.make_table(("chosen by", "regret"), chosen, right=("regret",)))
    return parts


def _group_table(entries: "tuple[Coverage, ...]") -> "RenderableType":
    rows = (
        (_verdict(entry), f"{entry.rows:,}/{entry.models}", _share(entry.share), f"{100 * entry.width:.1f}", entry.group)
        for entry in entries
    )
    columns = ("verdict", "n/models", "hold, %", "width", "group")
    return output.make_table(columns, rows, right=columns[1:4])


def _verdict(entry: "Coverage") -> str:
    """Whether the interval of the coverage contains 90 %; groups too small to be judged say so."""
    if not entry.judged:
        return "small"
    return "holds" if entry.holds else "too wide" if entry.share.low > entry.level else "too narrow"


def _choices(regret: "Regret") -> tuple[tuple[str, "Interval"], ...]:
    return (
        ("qadvisor", regret.forecast),
        ("a perfect forecast of noisy scores", regret.perfect),
        ("qadvisor's excess over it", regret.excess),
        ("always 4 bits", regret.four_bit),
        ("the highest bits that fit", regret.highest_bits),
    )


def _share(value: "Interval") -> str:
    return f"{100 * value.value:.2f} ({100 * value.low:.2f} to {100 * value.high:.2f})"


def _percent(value: "Interval") -> str:
    return f"{100 * value.value:.1f} %"
