"""`qadvisor backtest`: the honest error of the predictor, on figures that it has not seen."""

from typing import TYPE_CHECKING

from advisor.cli import options, output
from advisor.cli.groups import new_app

if TYPE_CHECKING:
    from rich.console import RenderableType

    from advisor.backtest import BacktestReport
    from advisor.regret import Regret
    from advisor.scores import Interval

app = new_app()


@app.command()
def backtest(json: options.Json = False) -> None:
    """Fit without some cells, models, families or sources, predict those, and compare with simple baselines.

    Takes some minutes; every figure comes with a 90 % bootstrap interval over models.
    """
    from advisor.backtest import run_backtest

    report = run_backtest(progress=output.warn)
    if json:
        output.write_json(output.versioned(backtest=report.as_dict()))
    else:
        output.write_rich(*_tables(report))


def _tables(report: "BacktestReport") -> list["RenderableType"]:
    """Error and order of every forecast by what was left out, then coverage and regret."""
    from rich.text import Text

    parts: list[RenderableType] = [
        Text(f"{report.rows:,} scores of {report.models} models; item noise alone: {100 * report.item_noise:.2f} points")
    ]
    for split in dict.fromkeys(score.split for score in report.scores):
        rows = (
            (s.forecast, _share(s.error), f"{s.nats.value:.4f}", _percent(s.order)) for s in report.scores if s.split == split
        )
        columns = ("forecast", "error, points", "nats", "order")
        parts += [Text(f"\n{split} left out"), output.make_table(columns, rows, right=columns[1:])]
    covered = (
        (split, _share(entries[0].share), f"{100 * entries[0].width:.1f} points", entries[0].rows)
        for split, entries in report.coverage.items()
    )
    columns = ("left out", "hold, %", "mean width", "scores")
    parts += [Text("\nintervals that hold (level 90 %)"), output.make_table(columns, covered, right=columns[1:])]
    chosen = ((name, _share(value)) for name, value in _choices(report.regret))
    parts.append(Text(f"\nregret of {report.regret.choices:,} choices under a memory budget, points"))
    return [*parts, output.make_table(("chosen by", "regret"), chosen, right=("regret",))]


def _choices(regret: "Regret") -> tuple[tuple[str, "Interval"], ...]:
    return (
        ("qadvisor", regret.forecast),
        ("a perfect forecast of noisy scores", regret.perfect),
        ("always 4 bits", regret.four_bit),
        ("the highest bits that fit", regret.highest_bits),
    )


def _share(value: "Interval") -> str:
    return f"{100 * value.value:.2f} ({100 * value.low:.2f} to {100 * value.high:.2f})"


def _percent(value: "Interval") -> str:
    return f"{100 * value.value:.1f} %"
