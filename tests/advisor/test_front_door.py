"""The front door reads a plain `recommend` as Typer does, or leaves it to Typer."""

from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer.main
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.cli import recommend
from advisor.cli.flags import FLAGS, PATHS, REPEATED, SWITCHES
from advisor.cli.front_door import read_recommend

COMMAND = typer.main.get_command(recommend.app)


def typer_reads(args: list[str]) -> dict[str, Any]:
    """What Typer takes a command line for, without what is not given."""
    with COMMAND.make_context("recommend", list(args)) as context:
        return {name: value for name, value in context.params.items() if value not in (None, False, [], ())}


def words() -> st.SearchStrategy[list[str]]:
    """Command lines that are right, nearly right and wrong."""
    flags = st.sampled_from(sorted(flag for flags in FLAGS.values() for flag in flags))
    values = st.sampled_from(
        ["16GB", "mistral-7b", "", "a b", "-1", "--json", "--", "--help", "--mode", "--mem=4GB", "-c4k", "extra"]
    )
    pairs = st.tuples(flags, values).map(list) | flags.map(lambda flag: [flag]) | values.map(lambda value: [value])
    return st.lists(pairs, max_size=5).map(lambda parts: [word for part in parts for word in part])


@given(words())
@settings(deadline=None)
def test_what_the_front_door_reads_typer_reads_alike(args: list[str]) -> None:
    read = read_recommend(["recommend", *args])
    if read is not None:
        assert read == typer_reads(args)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("recommend", {}),
        ("recommend --model m -t t --mem 16GB --json", {"model": "m", "task": "t", "mem": "16GB", "json": True}),
        ("recommend --exclude-licence MIT --exclude-licence mixed", {"exclude_licence": ["MIT", "mixed"]}),
        ("recommend --request file.yaml --markdown", {"request": Path("file.yaml"), "markdown": True}),
        ("recommend --probe p.json", {"probe": Path("p.json")}),
        ("", None),
        ("recomend --model m", None),
        ("explain --model m", None),
        ("--version", None),
        ("recommend --help", None),
        ("recommend --modle m", None),
        ("recommend --mod m", None),
        ("recommend --model=m", None),
        ("recommend --model m --model n", None),
        ("recommend --model", None),
        ("recommend --top -1", None),
        ("recommend m", None),
        ("recommend -- m", None),
    ],
)
def test_what_is_read_and_what_is_left_to_typer(line: str, read: dict[str, Any] | None) -> None:
    assert read_recommend(line.split()) == read


def test_flags_are_those_of_the_command() -> None:
    options = {option.name: option for option in COMMAND.params if option.name != "help"}
    assert {name: tuple(option.opts) for name, option in options.items()} == FLAGS
    assert {name for name, option in options.items() if option.is_flag} == SWITCHES
    assert {name for name, option in options.items() if option.multiple} == REPEATED
    assert {name for name, kind in get_type_hints(recommend.recommend).items() if kind == Path | None} == PATHS
