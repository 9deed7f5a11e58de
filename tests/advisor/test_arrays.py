import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.arrays import pack, unpack
from advisor.predictor import PACKAGED

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.builds(
        lambda kind, shape: np.arange(int(np.prod(shape))).astype(kind).reshape(shape),
        st.sampled_from(["bool", "uint8", "uint16", "int32", "int64", "float64"]),
        st.lists(st.integers(0, 4), max_size=3).map(tuple),
    ),
    max_size=4,
)


@given(arrays=ARRAYS)
def test_what_is_packed_is_unpacked(arrays):
    content = pack(arrays)
    found = unpack(content)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.aligned
    assert pack(dict(reversed(arrays.items()))) == content


def test_other_programs_read_it():
    load = pytest.importorskip("safetensors.numpy").load
    content = PACKAGED.read_bytes()
    ours, theirs = unpack(content), load(content)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


def changed(**facts):
    """A file of one array whose header says something else."""
    entry = {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]} | facts
    text = json.dumps({"x": {name: fact for name, fact in entry.items() if fact is not None}}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04 no such file", id="another form"),
        pytest.param(changed()[:-1], id="cut off"),
        pytest.param(changed(dtype="F8"), id="unknown type"),
        pytest.param(changed(shape=[3]), id="shape beyond its place"),
        pytest.param(changed(shape=[-2]), id="negative shape"),
        pytest.param(changed(shape=3), id="shape is no list"),
        pytest.param(changed(data_offsets=[-16, 0]), id="before the beginning"),
        pytest.param(changed(data_offsets=[8, 24]), id="beyond the end"),
        pytest.param(changed(shape=None), id="no shape"),
    ],
)
def test_what_is_no_such_file_is_refused(content):
    with pytest.raises((ValueError, KeyError, TypeError)):
        unpack(content)
    assert unpack(changed())["x"].tolist() == [0.0, 0.0]
