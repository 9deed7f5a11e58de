"""The backtest's report as text and JSON; the figures themselves are the business of `test_backtest`."""

import pytest
from helpers import run_cli

from advisor import backtest
from advisor.backtest import OURS, SPLITS, BacktestReport, Score
from advisor.regret import Regret
from advisor.scores import Coverage, Interval


def interval(value: float) -> Interval:
    return Interval(value=value, low=0.9 * value, high=1.1 * value)


def score(split: str, forecast: str, error: float) -> Score:
    names = ("error_usable", "nats", "nats_all", "order", "order_usable", "order_significant", "against_ours")
    return Score(split=split, forecast=forecast, error=interval(error), **dict.fromkeys(names, interval(0.5)))


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> BacktestReport:
    covered = (Coverage(group="all", rows=1000, models=50, share=interval(0.9), width=0.12, judged=True),)
    found = BacktestReport(
        rows=12_345, models=171,
        scores=tuple(score(split, name, 0.031) for split in SPLITS for name in (OURS, "medians by bits, method, task type")),
        coverage=dict.fromkeys(SPLITS, covered), coverage_untuned={},
        regret=Regret(
            choices=321, forecast=interval(0.004), perfect=interval(0.003), excess=interval(0.001), four_bit=interval(0.006),
            highest_bits=interval(0.005),
        ),
        item_noise=0.0123,
    )  # fmt: skip
    monkeypatch.setattr(backtest, "run_backtest", lambda progress: progress("law") or found)
    return found


def test_text_names_splits_baselines_and_intervals(report: BacktestReport) -> None:
    result = run_cli("backtest")
    assert (result.code, result.err) == (0, "qadvisor: law\n")
    assert max(len(line) for line in result.out.splitlines()) <= 80
    for part in (
        "12,345 scores of 171 models",
        "families",
        "medians by bits",
        "3.10 (2.79 to 3.41)",
        "321 choices",
        "12.0 points",
    ):
        assert part in result.out


def test_json_is_the_whole_report(report: BacktestReport) -> None:
    document = run_cli("backtest", "--json").json["backtest"]
    assert document["rows"] == 12_345
    assert len(document["scores"]) == len(report.scores)
