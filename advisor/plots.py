"""The backtest's plots: Vega-Lite specifications, drawn to SVG without a browser (vl-convert, extra `plots`)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from advisor.backtest import BacktestReport
from advisor.scores import Interval
from knowledge.errors import MissingDependencyError, StoreError

Spec = dict[str, Any]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_VERSION = "5.21"
_LOOK: Spec = {
    "background": "white",
    "config": {
        "font": "sans-serif", "axis": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"},
        "legend": {"labelFontSize": 11, "labelLimit": 300, "title": None, "orient": "top", "columns": 3},
        "view": {"stroke": "#ccc"},
    },
}  # fmt: skip
_GREY, _BLUE, _ORANGE = "#8a8a8a", "#1f5fa8", "#d9741a"
_FEWEST_FOR_A_POINT = 300


def draw(report: BacktestReport, folder: Path) -> tuple[Path, ...]:
    """Write every plot of a backtest to `folder` as SVG, and say where.

    Raises:
        MissingDependencyError: the extra `plots` is not installed.
        StoreError: the folder cannot be written.
    """
    render, written = require_renderer(), []
    for name, spec in specifications(report):
        path = folder / f"{name}.svg"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(render(spec, vl_version=_VERSION) + "\n", encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"cannot write the plot {path}: {error.strerror}", given=str(path), hint="name a folder that you may write to"
            ) from error
        written.append(path)
    return tuple(written)


def require_renderer() -> Callable[..., str]:
    """The function that turns a Vega-Lite specification into SVG.

    Raises:
        MissingDependencyError: the extra `plots` is not installed.
    """
    try:
        from vl_convert import vegalite_to_svg
    except ImportError as error:
        raise MissingDependencyError.of("vl-convert-python", extra="plots", purpose="drawing plots") from error
    draw: Callable[..., str] = vegalite_to_svg
    return draw


def specifications(report: BacktestReport) -> Iterator[tuple[str, Spec]]:
    """Name and Vega-Lite specification of each plot."""
    for split in report.calibration:
        yield f"calibration-{split}", _calibration(report, split)
    yield "error-by-bits", _error_by_bits(report)
    for split in report.calibration:
        yield f"coverage-{split}", _coverage(report, split)


def _calibration(report: BacktestReport, split: str) -> Spec:
    """Measured against predicted losses: medians and central 90 % of what was measured, mean bounds of what was said."""
    rows = [
        {
            "predicted": bin.predicted, "lower": bin.lower, "upper": bin.upper, "measured": bin.measured,
            "low": bin.measured_low, "high": bin.measured_high, "inside": f"{100 * bin.inside:.0f} %",
        }
        for bin in report.calibration[split]
    ]  # fmt: skip
    x = {
        "field": "predicted", "type": "quantitative", "title": "predicted loss (share of above-chance performance)",
        "scale": {"type": "symlog", "constant": 0.01, "domain": [0, 1]},
        "axis": {"values": [0, 0.01, 0.03, 0.1, 0.3, 1], "format": "~g"},
    }  # fmt: skip
    y = {"type": "quantitative", "title": "measured loss"}
    layers = [
        {
            "mark": {"type": "area", "color": _BLUE, "opacity": 0.18},
            "encoding": {"y": y | {"field": "lower"}, "y2": {"field": "upper"}},
        },
        {"mark": {"type": "line", "color": _GREY, "strokeDash": [4, 3]}, "encoding": {"y": y | {"field": "predicted"}}},
        {"mark": {"type": "rule", "color": _ORANGE}, "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}}},
        {"mark": {"type": "point", "filled": True, "color": _ORANGE, "size": 50}, "encoding": {"y": y | {"field": "measured"}}},
        {
            "mark": {"type": "text", "dy": -8, "color": "#444", "fontSize": 10},
            "encoding": {"y": y | {"field": "high"}, "text": {"field": "inside"}},
        },
    ]  # fmt: skip
    title = [
        f"{split} left out, twelve bins of equal weight",
        "points and bars: median and central 90 % of measured losses; band: mean bounds; figures: share within its bounds",
    ]
    return _plot(rows, title) | {"width": 560, "height": 320, "encoding": {"x": x}, "layer": layers}


def _error_by_bits(report: BacktestReport) -> Spec:
    """Errors of every forecast by weight bits, with models left out."""
    rows = [{"bits": entry.bits, "forecast": entry.forecast} | _interval(entry.error) for entry in report.by_bits if entry.rows]
    bits = list(dict.fromkeys(entry.bits for entry in report.by_bits))
    forecasts = list(dict.fromkeys(entry.forecast for entry in report.by_bits))
    encoding = {
        "x": {"field": "bits", "type": "nominal", "sort": bits, "title": "bits per weight", "axis": {"labelAngle": 0}},
        "xOffset": {"field": "forecast", "sort": forecasts},
        "color": {"field": "forecast", "type": "nominal", "sort": forecasts, "scale": {"scheme": "tableau10"}},
    }
    y = {"type": "quantitative", "title": "mean absolute error of the share lost"}
    layers = [
        {"mark": {"type": "bar"}, "encoding": {"y": y | {"field": "value"}}},
        {
            "mark": {"type": "rule"},
            "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}, "color": {"value": "#222"}},
        },
    ]
    title = ["models left out", "lines: 90 % bootstrap intervals over models; at 16 bits activations or cache are quantized"]
    return _plot(rows, title) | {"width": 560, "height": 300, "encoding": encoding, "layer": layers}


def _coverage(report: BacktestReport, split: str) -> Spec:
    """Coverage of every group that is large enough to be judged."""
    judged = [entry for entry in report.coverage[split] if entry.judged and entry.rows >= _FEWEST_FOR_A_POINT]
    rows: list[Mapping[str, Any]] = [
        {"group": entry.group, "width": f"width {entry.width:.2f}"} | _interval(entry.share) for entry in judged
    ]
    y = {
        "field": "group",
        "type": "nominal",
        "sort": [entry.group for entry in judged],
        "title": None,
        "axis": {"labelLimit": 330},
    }
    x = {
        "type": "quantitative",
        "title": "share of measured figures within their bounds",
        "scale": {"domain": [0.75, 1], "zero": False},
    }
    layers: list[Spec] = [
        {"mark": {"type": "rule", "color": _GREY, "strokeDash": [4, 3]}, "encoding": {"x": x | {"datum": 0.9}}},
        {"mark": {"type": "rule", "color": _BLUE}, "encoding": {"y": y, "x": x | {"field": "low"}, "x2": {"field": "high"}}},
        {
            "mark": {"type": "point", "filled": True, "color": _BLUE, "size": 45},
            "encoding": {"y": y, "x": x | {"field": "value"}},
        },
        {
            "mark": {"type": "text", "align": "left", "fontSize": 10, "color": "#444"},
            "encoding": {"y": y, "x": x | {"datum": 0.755}, "text": {"field": "width"}},
        },
    ]
    title = [f"{split} left out", "lines: 90 % bootstrap intervals over models; groups of at least 300 figures of 8 models"]
    return _plot(rows, title) | {"width": 420, "height": {"step": 20}, "layer": layers}


def _plot(rows: Sequence[Mapping[str, Any]], title: list[str]) -> Spec:
    head = {"text": title[0], "subtitle": title[1], "anchor": "start", "subtitleColor": "#555", "fontSize": 13}
    return {"$schema": _SCHEMA, "data": {"values": list(rows)}, "title": head} | _LOOK


def _interval(value: Interval) -> dict[str, float]:
    return {"value": value.value, "low": value.low, "high": value.high}
