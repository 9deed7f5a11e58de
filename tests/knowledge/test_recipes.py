"""Methods and recipes: names both ways, defaults by file type, refusals."""

import pytest

from knowledge.errors import InvalidSchemeError, UnknownNameError
from knowledge.recipes import METHODS, find_method, parse_recipe


@pytest.mark.parametrize(
    ("text", "name", "scheme", "method"),
    [
        ("none", "none", "w16a16", "none"),
        ("w16a16", "none", "w16a16", "none"),
        ("w4a16-g128", "w4a16-g128", "w4a16-g128", "rtn"),
        ("w4a16-g128:gptq", "w4a16-g128:gptq", "w4a16-g128", "gptq"),
        ("W4A16-G128:AWQ", "w4a16-g128:awq", "w4a16-g128", "awq"),
        ("gguf:q4_k_m", "gguf:q4_k_m", "gguf:q4_k_m", "rtn"),
        ("gguf:q4_k_m:imatrix", "gguf:q4_k_m:imatrix", "gguf:q4_k_m", "imatrix"),
        ("exl2:4.0bpw", "exl2:4.0bpw:exl2", "exl2:4.0bpw", "exl2"),
        ("exl2:4.0bpw:exl2", "exl2:4.0bpw:exl2", "exl2:4.0bpw", "exl2"),
        ("w16a16-kv8", "w16a16-kv8", "w16a16-kv8", "rtn"),
        ("kivi2:kivi", "w16a16-kivi2:kivi", "w16a16-kivi2", "kivi"),
    ],
)
def test_recipe_names(text: str, name: str, scheme: str, method: str) -> None:
    recipe = parse_recipe(text)
    assert (recipe.name, recipe.scheme.name, recipe.method.name) == (name, scheme, method)
    assert parse_recipe(recipe.name) == recipe


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_is_found_and_described(name: str) -> None:
    method = find_method(f" {name.upper()} ")
    assert method.name == name
    assert method.title
    assert 0 <= method.rank <= 3
    assert method.citation or method.rank in (0, 3)


def test_unknown_method_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown method 'gptqq'; did you mean gptq") as caught:
        parse_recipe("w4a16-g128:gptqq")
    assert caught.value.allowed is not None
    assert "gptq" in caught.value.allowed


def test_unreadable_scheme_is_refused() -> None:
    with pytest.raises(InvalidSchemeError, match="cannot read scheme 'w4'"):
        parse_recipe("w4:gptq")
