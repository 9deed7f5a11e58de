"""`qadvisor backtest`: the honest error of the predictor, on figures that it has not seen."""

from typing import TYPE_CHECKING

from advisor.cli import options, output
from advisor.cli.groups import new_app

if TYPE_CHECKING:
    from rich.console import RenderableType

    from advisor.backtest import BacktestReport
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
    """Error, order and coverage by what was left out, then regret."""
    from rich.text import Text

    from advisor.backtest import OURS

    scores = (
        (score.split, score.forecast, _share(score.error), _points(score.nats), _share(score.order_significant))
        for score in report.scores
    )
    covered = (
        (split, _share(entries[0].share), f"{100 * entries[0].width:.1f} points", entries[0].rows)
        for split, entries in report.coverage.items()
    )
    regret = report.regret
    choices = ((OURS, regret.forecast), ("a perfect forecast of noisy scores", regret.perfect),
               ("always 4 bits", regret.four_bit), ("the highest bits that fit", regret.highest_bits))  # fmt: skip
    head = f"{report.rows:,} scores of {report.models} models; item noise alone: {100 * report.item_noise:.2f} points"
    right = ("error, points", "nats", "order, %")
    return [
        Text(head + "\n"),
        output.make_table(("left out", "forecast", *right), scores, right=right),
        Text("\nintervals that hold (level 90 %)"),
        output.make_table(("left out", "hold, %", "mean width", "scores"), covered, right=("hold, %", "mean width", "scores")),
        Text(f"\nregret of {regret.choices:,} choices under a memory budget, points"),
        output.make_table(("chosen by", "regret"), ((name, _share(value)) for name, value in choices), right=("regret",)),
    ]


def _share(value: "Interval") -> str:
    return f"{100 * value.value:.2f} ({100 * value.low:.2f} to {100 * value.high:.2f})"


def _points(value: "Interval") -> str:
    return f"{value.value:.4f}"
