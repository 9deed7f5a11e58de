import pytest

from knowledge.errors import InvalidRequestError, InvalidSchemeError, UnknownNameError
from measure.presets import PROTOCOLS, RECIPE_LISTS, expand_recipes


def names(*texts, **options):
    return [(recipe.name, protocol.name) for recipe, protocol in expand_recipes(texts, **options)]


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("w4a16", "w4a16-g128-asym"),
        ("w4a16-g32", "w4a16-g32-asym"),
        ("w4a16-channel-sym", "w4a16-channel-sym"),
        ("w8a8", "w8a8-channel-sym"),
        ("w4a8", "w4a8-g128-asym"),
        ("w4a16:gptq", "w4a16-g128-asym:gptq"),
        ("w8a8:smoothquant", "w8a8-channel-sym:smoothquant"),
        ("w8a16:quanto", "w8a16-channel-sym:quanto"),
        ("fp8", "fp8-channel"),
        ("mxint8", "mxint8-g32"),
        ("nf4", "nf4"),
        ("kv4", "w16a16-kv4"),
        ("w4a16-kivi2", "w4a16-g128-asym-kivi2"),
    ],
)
def test_recipes_are_fully_stated(text, stated):
    assert names(text) == [("none", "default"), (stated, "default")]


def test_the_study_keeps_groups_for_integer_activations():
    assert ("w8a8-g128-asym", "li2024") in names("w8a8", protocol="li2024")


@pytest.mark.parametrize("name", sorted(RECIPE_LISTS))
def test_lists_expand_with_their_protocol(name):
    protocol, members = RECIPE_LISTS[name]
    found = names(name)
    assert found[0] == ("none", "default")
    assert len(found) == len(members) + 1
    assert {used for _, used in found[1:]} == {protocol}


def test_each_recipe_comes_once_and_the_baseline_first():
    assert names("w4a16", "w4a16-g128-asym", "none", "W4A16") == [("none", "default"), ("w4a16-g128-asym", "default")]


def test_recipes_from_a_file(tmp_path):
    file = tmp_path / "recipes.txt"
    file.write_text("# weights\nnf4\n\nw3a16  # a cliff\n")
    assert [name for name, _ in names(f"@{file}")] == ["none", "nf4", "w3a16-g128-asym"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("gguf:q4_k_m", InvalidRequestError, "made by their own tools"),
        ("@/no/such/file", InvalidRequestError, "cannot read the recipe file"),
        ("w4a16:gtpq", UnknownNameError, "did you mean gptq"),
        ("w4b16", InvalidSchemeError, "cannot read scheme"),
    ],
    ids=["file type", "missing file", "method", "scheme"],
)
def test_bad_recipes(text, error, message):
    with pytest.raises(error, match=message):
        expand_recipes([text])


def test_unknown_protocol():
    with pytest.raises(UnknownNameError, match="unknown protocol"):
        expand_recipes(["nf4"], protocol="li2042")


def test_protocols_state_their_source():
    assert all(protocol.source and protocol.name == name for name, protocol in PROTOCOLS.items())
