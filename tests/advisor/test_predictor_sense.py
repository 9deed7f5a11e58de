import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.predictor import load_predictor

NEW = {"model": "no-such-7b", "family": "no-such", "params_b": 7, "task_type": "emergent", "w_dtype": "int", "w_group": 128}
METHODS = st.sampled_from(["rtn", "gptq", "awq", "quarot", "kivi", "no-such-method"])
TASKS = st.sampled_from(["basic-nlp", "emergent", "long-context", "language-modeling", "no-such-type"])


def predict(*rows):
    names = sorted({name for row in rows for name in row})
    return load_predictor().predict({name: [row.get(name) for row in rows] for name in names})


def assert_no_better(found):
    """The second row loses no less than the first, point and bounds."""
    for values in (found.point, found.lower, found.upper):
        assert values[1] >= values[0] - 1e-9


@settings(max_examples=60, deadline=None)
@given(
    task=TASKS, method=METHODS, bits=st.sampled_from([2, 3, 4, 8]), symmetric=st.sampled_from([True, False, None]),
    groups=st.sets(st.sampled_from([16, 32, 64, 128, 256, 1024, -1, 0]), min_size=2, max_size=2),
)  # fmt: skip
def test_longer_groups_never_lose_less(task, method, bits, symmetric, groups):
    """-1 is one scale per channel (4096 elements), 0 one per tensor."""
    shortest_first = sorted(groups, key=lambda group: {-1: 4096, 0: np.inf}.get(group, group))
    fixed = NEW | {"task_type": task, "method": method, "w_bits": bits, "w_sym": symmetric}
    assert_no_better(predict(*(fixed | {"w_group": group} for group in shortest_first)))


@settings(max_examples=80, deadline=None)
@given(
    task=TASKS, method=METHODS, w_bits=st.sampled_from([4, 8]), kind=st.sampled_from(["a", "kv"]),
    bits=st.sets(st.sampled_from([2, 3, 4, 6, 8, 16]), min_size=2, max_size=2),
)  # fmt: skip
def test_fewer_bits_of_activations_or_cache_never_lose_less(task, method, w_bits, kind, bits):
    fixed = NEW | {"task_type": task, "method": method, "w_bits": w_bits, f"{kind}_dtype": "int"}
    assert_no_better(predict(*(fixed | {f"{kind}_bits": b} for b in sorted(bits, reverse=True))))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"w_bits": 4, "method": "gptq"}, {"w_bits": 4, "method": "rtn"}),
        ({"w_bits": 3, "method": "gptq"}, {"w_bits": 3, "method": "rtn"}),
        ({"w_bits": 3, "method": "awq"}, {"w_bits": 3, "method": "rtn"}),
        ({"w_bits": 4, "params_b": 70}, {"w_bits": 4, "params_b": 1}),
        ({"w_bits": 8}, {"w_bits": 4}),
        ({"w_bits": 4, "kv_bits": 8}, {"w_bits": 4, "kv_bits": 4}),
    ],
    ids=["gptq at 4", "gptq at 3", "awq at 3", "size", "bits", "cache"],
)
def test_what_every_table_says(better, worse):
    found = predict(NEW | {"method": "rtn"} | better, NEW | {"method": "rtn"} | worse)
    assert found.point[0] < found.point[1]


def test_a_new_model_of_a_known_size_is_in_support():
    assert predict(NEW | {"w_bits": 4, "method": "gptq"}).in_support[0]
