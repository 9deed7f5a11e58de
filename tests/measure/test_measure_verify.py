import math

import pytest

from knowledge.recipes import parse_recipe
from measure.errors import QuantizationMismatchError
from measure.presets import PROTOCOLS
from measure.quantizers import Applied, TensorChange
from measure.verify import describe, verify


def change(name="a.weight", **values):
    base = {"elements": 256, "bits": 256 * 4.15625, "group": 128, "squared_error": 1.0, "squared_norm": 100.0}
    return TensorChange(name=name, **(base | values))


def applied(*changes, **values):
    return Applied(model=None, changes=list(changes), **values)


RECIPE = parse_recipe("w4a16-g128-asym")


def test_what_the_recipe_says_passes():
    verify(applied(change()), RECIPE, expected=["a.weight"], logit_change=0.1)
    verify(applied(), parse_recipe("kv4"), expected=[], logit_change=0.1)
    verify(applied(change(squared_error=0.0, constant=True)), RECIPE, expected=["a.weight"], logit_change=0.1)
    verify(applied(change(bits=256 * 4.3, exception="rows of 64")), RECIPE, expected=["a.weight"], logit_change=0.1)


@pytest.mark.parametrize(
    ("found", "expected", "moved", "message"),
    [
        (applied(change()), ["a.weight", "b.weight"], 0.1, "1 of 2 matrices were not quantized, the first is b.weight"),
        (applied(change(), change("head.weight")), ["a.weight"], 0.1, "1 other tensors were quantized"),
        (applied(change(squared_error=0.0)), ["a.weight"], 0.1, "a.weight did not change"),
        (applied(change(squared_error=math.nan)), ["a.weight"], 0.1, "a.weight is not finite"),
        (applied(change(squared_error=500.0)), ["a.weight"], 0.1, "further from its original"),
        (applied(change(bits=256 * 8.0)), ["a.weight"], 0.1, "takes 8.0000 bits a weight, not 4.1562"),
        (applied(change()), ["a.weight"], 0.0, "no logit moved"),
        (applied(change()), ["a.weight"], math.nan, "not finite"),
        (applied(left_out={"a.weight": "rows of 100"}), ["a.weight"], 0.0, "every matrix was left out: rows of 100"),
    ],
    ids=["skipped", "unasked", "no-op", "nan", "broken", "bits", "no effect", "nan logits", "all left out"],
)
def test_mismatch_is_refused(found, expected, moved, message):
    with pytest.raises(QuantizationMismatchError, match=message):
        verify(found, RECIPE, expected=expected, logit_change=moved)


def test_cache_recipe_must_leave_weights_alone():
    with pytest.raises(QuantizationMismatchError, match="leaves weights alone"):
        verify(applied(change()), parse_recipe("kv4"), expected=[], logit_change=0.1)


def test_effective_bits_count_what_stays():
    facts = describe(
        applied(change(bits=256 * 4.0)), RECIPE, PROTOCOLS["default"], expected=["a.weight"], parameters=512, logit_change=0.1
    )
    assert (facts.bits_per_weight, facts.model_bits_per_weight, facts.weight_error) == (4.0, 10.0, 0.1)
