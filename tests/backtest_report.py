"""A backtest report with made-up figures, for tests of what is done with one."""

from advisor.backtest import OURS, SPLITS, BacktestReport, BitsError, Score
from advisor.noise_floor import Floor
from advisor.regret import Regret
from advisor.scores import Bin, Coverage, Interval

FORECASTS = (OURS, "medians by bits, method, task type")


def interval(value: float) -> Interval:
    return Interval(value=value, low=0.9 * value, high=1.1 * value)


def make_report() -> BacktestReport:
    names = ("error_usable", "nats", "nats_all", "order", "order_usable", "order_significant", "against_ours")
    rest = dict.fromkeys(names, interval(0.5))
    groups = ("all", "tensors and bits: weights <4.5 bits", "task type: emergent")
    covered = tuple(
        Coverage(group=name, rows=1000 - 100 * i, models=50, share=interval(0.9 - 0.05 * i), width=0.12, judged=True)
        for i, name in enumerate(groups)
    )
    tiny = Coverage(group="task type: dialogue", rows=12, models=2, share=interval(0.5), width=0.3, judged=False)
    bins = tuple(
        Bin(
            rows=10,
            predicted=x,
            lower=0.5 * x,
            upper=2 * x,
            measured=x,
            measured_low=0.6 * x,
            measured_high=1.7 * x,
            inside=0.9,
        )
        for x in (0.01, 0.1, 0.6)
    )
    values = ("forecast", "perfect", "excess", "four_bit", "highest_bits")
    regret = Regret(choices=321, **{name: interval(0.004 + 0.001 * i) for i, name in enumerate(values)})
    return BacktestReport(
        rows=12_345, models=171,
        scores=tuple(Score(split=s, forecast=f, error=interval(0.031), **rest) for s in SPLITS for f in FORECASTS),
        coverage=dict.fromkeys(SPLITS, (*covered, tiny)), coverage_untuned={}, regret=regret, regret_by_cell=regret,
        floors=(Floor(knows="the answer", rows=77, models=5, weight=0.4, error=interval(0.02), ours=interval(0.03)),),
        floors_nats=(Floor(knows="a sibling", rows=7, models=3, weight=0.4, error=interval(0.26), ours=interval(0.61)),),
        by_bits=tuple(BitsError(bits=bits, forecast=f, rows=9, error=interval(0.1)) for bits in "48" for f in FORECASTS),
        calibration={"models": bins, "families": bins},
    )  # fmt: skip
