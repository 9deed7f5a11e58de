"""Plots of a backtest: what is drawn are the figures of the report."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from backtest_report import make_report

from advisor.plots import draw, specifications
from knowledge.errors import StoreError

pytest.importorskip("vl_convert")

NAMES = ["calibration-models", "calibration-families", "error-by-bits", "coverage-models", "coverage-families"]


@pytest.fixture
def report():
    return make_report()


def test_every_plot_is_an_svg_with_its_words(tmp_path, report):
    paths = draw(report, tmp_path / "new" / "folder")
    assert [path.stem for path in paths] == NAMES
    for path, words in zip(paths, ("measured loss", "measured loss", "bits per weight", "bounds", "bounds"), strict=True):
        tree = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        assert tree.tag == "{http://www.w3.org/2000/svg}svg"
        assert words in "".join(tree.itertext())


def test_equal_reports_give_equal_files(tmp_path, report):
    first, second = (draw(report, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_groups_that_are_too_small_are_not_drawn(report):
    entries = tuple(replace(entry, judged=False) for entry in report.coverage["models"][1:])
    small = replace(report, coverage={**report.coverage, "models": (report.coverage["models"][0], *entries)})
    rows = dict(specifications(small))["coverage-models"]["data"]["values"]
    assert [row["group"] for row in rows] == ["all"]


def test_errors_are_those_of_the_report(report):
    rows = dict(specifications(report))["error-by-bits"]["data"]["values"]
    assert [(row["bits"], row["forecast"], row["value"]) for row in rows] == [
        (entry.bits, entry.forecast, entry.error.value) for entry in report.by_bits
    ]


def test_a_folder_that_cannot_be_written_is_said(tmp_path, report):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the plot"):
        draw(report, tmp_path / "file")
