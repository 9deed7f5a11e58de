"""The backtest's report as text, JSON and plots; the figures themselves are the business of `test_backtest`."""

import builtins

import pytest
from backtest_report import make_report
from helpers import run_cli

from advisor import backtest
from advisor.backtest import BacktestReport


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> BacktestReport:
    found = make_report()
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
        "the answer",
        "a sibling",
        "perplexities in nats",
        "excess over it",
    ):
        assert part in result.out


def test_groups_are_listed_with_their_verdict(report: BacktestReport) -> None:
    shown = run_cli("backtest", "--groups").out
    assert "task type: dialogue" not in run_cli("backtest").out
    for part in ("task type: dialogue", "small", "holds"):
        assert part in shown


def test_json_is_the_whole_report(report: BacktestReport) -> None:
    document = run_cli("backtest", "--json").json["backtest"]
    assert document["rows"] == 12_345
    assert len(document["scores"]) == len(report.scores)
    assert document["floors"][0]["knows"] == "the answer"


def test_plots_are_written_and_named(report: BacktestReport, tmp_path) -> None:
    pytest.importorskip("vl_convert")
    result = run_cli("backtest", "--plots", str(tmp_path / "plots"))
    assert result.code == 0
    assert (tmp_path / "plots" / "error-by-bits.svg").stat().st_size > 1000
    assert "error-by-bits.svg" in result.err


def test_without_the_extra_plots_are_refused_before_any_fit(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    load = builtins.__import__

    def without(name, *rest, **more):
        if name == "vl_convert":
            raise ImportError(name)
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(backtest, "run_backtest", lambda progress: pytest.fail("fitted first"))
    result = run_cli("backtest", "--plots", str(tmp_path))
    assert result.code == 1
    assert 'pip install "qadvisor[plots]"' in result.err
