"""Which engines name which architectures: every cell has a list behind it, and nothing is refused that a file format knows."""

import csv

import gguf
import pytest

from knowledge.architectures import MAKERS, architecture_lists, refusing, standing
from knowledge.catalogue import all_models
from knowledge.engines import CATALOG, all_engines
from knowledge.tensors import find_layout

with (CATALOG / "architectures.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))


def test_every_column_is_an_engine_with_a_source() -> None:
    names = list(ROWS[0])[1:]
    assert names == list(architecture_lists())
    assert set(names) <= {engine.name for engine in all_engines()}
    assert all(entry.source and entry.unlisted for entry in architecture_lists().values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["architecture"])
def test_a_cell_says_how_the_architecture_stands(row: dict[str, str]) -> None:
    architecture = row["architecture"]
    for engine, entry in architecture_lists().items():
        assert row[engine] in ("yes", "no", "unlisted")
        assert standing(engine, architecture) == row[engine]
        if row[engine] == "no":
            assert entry.refused, "a refusal has a reason"
    assert refusing(architecture) == tuple(engine for engine in architecture_lists() if row[engine] == "no")


def test_every_architecture_of_the_catalogue_was_looked_up_once() -> None:
    listed = [row["architecture"] for row in ROWS]
    assert listed == sorted(set(listed))
    assert {model.architecture for model in all_models()} - {None} == set(listed)


def test_llama_cpp_refuses_nothing_that_its_file_format_has_a_name_for() -> None:
    known = set(gguf.MODEL_ARCH_NAMES.values())
    for model in all_models():
        layout = find_layout(model)
        if layout and layout.gguf in known:
            assert standing("llama.cpp", model.architecture) != "no", model.name


@pytest.mark.parametrize(
    ("engine", "architecture", "expected"),
    [
        ("llama.cpp", "MPTForCausalLM", "yes"),
        ("llama.cpp", "MptForCausalLM", "yes"),
        ("llama.cpp", "OPTForCausalLM", "no"),
        ("exllamav2", "StableLmForCausalLM", "unlisted"),
        ("vllm", "NobodyKnowsForCausalLM", None),
        ("vllm", None, None),
        ("mlx", "LlamaForCausalLM", None),
    ],
)
def test_what_was_not_looked_up_is_not_known(engine: str, architecture: str | None, expected: str | None) -> None:
    assert standing(engine, architecture) == expected


def test_makers_of_formats_have_a_list() -> None:
    assert set(MAKERS.values()) <= set(architecture_lists())
