"""The answer for people: what it says, that it fits, that it is plain where there is no terminal."""

import math
import re

import pytest
from helpers import make_memory, make_option, make_quality, make_recommendation
from hypothesis import given
from hypothesis import strategies as st

from advisor.answer import Estimate
from advisor.report import WIDTH, render, to_text
from advisor.report_markdown import to_markdown
from advisor.report_words import interval, loss_sentence, percent, shares_of, size


@pytest.fixture(scope="module")
def text() -> str:
    return to_text(render(make_recommendation()))


def test_every_line_fits_80_columns_and_ends_clean(text: str) -> None:
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_long_names_still_fit() -> None:
    option = make_option(
        scheme="w4a16-g128-asym-kvq8_0",
        method="smoothquant+gptq",
        engines=("vllm", "sglang", "tensorrt-llm", "transformers", "lmdeploy"),
    )
    answer = make_recommendation(recommendations=(option, make_option(2, scheme="gguf:iq3_xxs-kvq8_0", method="autoround-rtn")))
    assert max(len(line) for line in to_text(render(answer)).splitlines()) <= WIDTH


def test_plain_text_has_no_escape_codes(text: str) -> None:
    assert "\x1b" not in text


def test_the_answer_comes_before_everything_it_rests_on(text: str) -> None:
    order = [
        text.index(part) for part in ("Use w4a16-g128-kv8", "Memory", "Loss", "Why", "Runners-up", "Ruled out", "What would")
    ]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "part",
    [
        "mistral-7b-v0.1 · long-context · 16.00 GB · context 32,768",
        "7.30 GB of 16.00 GB (full cache)",
        "loses 1.2 % of above-chance performance (90 %: 0.1 to 3.0 %)",
        "predicted; no published score of this very model",
        "from 1,834 held-out errors",
        "expected score 40.7, unquantized 41.2",
        "(rule L07)",
        "gguf:q4_k_m-kvq8_0",
        "does not fit the memory: w16a16 – 19.1 GB at this context",
        "with 20GB: w16a16",
        "knowledge 0.1.0+abc1234",
    ],
)
def test_says(text: str, part: str) -> None:
    assert part in text


@pytest.mark.parametrize(
    ("quality", "sentence"),
    [
        ({}, "loses 1.2 % of above-chance performance (90 %: 0.1 to 3.0 %)"),
        (
            {"point": -0.004, "lower": -0.01, "upper": 0.003},
            "loses nothing measurable: -0.4 % of above-chance performance (90 %: -1.0 to 0.3 %)",
        ),
        (
            {"point": math.log(1.021), "lower": math.log(1.004), "upper": math.log(1.04), "kind": "delta_nll"},
            "+2.1 % perplexity (90 %: +0.4 to +4.0 %)",
        ),
    ],
    ids=["loss", "gain", "perplexity"],
)
def test_loss_in_words(quality: dict[str, object], sentence: str) -> None:
    assert loss_sentence(make_quality(**quality)) == sentence


@pytest.mark.parametrize(
    ("loss", "kind", "expected"),
    [
        (0.0, "relative_loss", "0.0"),
        (-0.0001, "relative_loss", "0.0"),
        (0.9, "relative_loss", "90.0"),
        (0.0, "delta_nll", "+0.0"),
    ],
)
def test_percent(loss: float, kind: str, expected: str) -> None:
    assert percent(loss, kind) == expected


def test_interval_names_its_level() -> None:
    assert interval(Estimate(point=0.1, lower=0.05, upper=0.2), 0.8, "relative_loss") == "80 %: 5.0 to 20.0 %"


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 MB"),
        (650_000_000, "650 MB"),
        (999_600_000, "1.00 GB"),
        (16_000_000_000, "16.00 GB"),
        (1_234_000_000_000, "1,234.00 GB"),
    ],
)
def test_size(count: int, expected: str) -> None:
    assert size(count) == expected


@given(width=st.integers(10, 100), counts=st.lists(st.integers(1, 10**12), min_size=1, max_size=5))
def test_a_bar_is_as_wide_as_asked_and_shows_every_part(width: int, counts: list[int]) -> None:
    cells = shares_of(width, counts)
    assert sum(cells) == width
    assert all(cell >= 0 for cell in cells)


def test_a_small_part_is_still_seen() -> None:
    assert shares_of(10, [1, 10_000]) == [1, 9]


def test_memory_bar_is_full_when_nothing_is_free() -> None:
    memory = make_memory(budget_bytes=7_300_000_000)
    text = to_text(render(make_recommendation(recommendations=(make_option(memory=memory),))))
    bar = next(line for line in text.splitlines() if "█▓" in re.sub("█+", "█", line))
    assert "·" not in bar


def test_one_recommendation_has_no_runners_up() -> None:
    assert "Runners-up" not in to_text(render(make_recommendation(recommendations=(make_option(),))))


def test_markdown_tells_the_same() -> None:
    text = to_markdown(make_recommendation())
    assert text.startswith("# mistral-7b-v0.1: w4a16-g128-kv8\n")
    for part in ("loses 1.2 %", "| weights | 4.37 GB |", "| 2 | `gguf:q4_k_m-kvq8_0` | imatrix |", "## Ruled out", "## Why"):
        assert part in text
