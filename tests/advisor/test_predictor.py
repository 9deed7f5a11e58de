import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.arrays import pack, unpack
from advisor.predictor import PACKAGED, digest_of, from_bytes, load_predictor, to_bytes
from knowledge.errors import DataError, StoreError

ROOT = Path(__file__).resolve().parents[2]
KQUANTS = ("gguf:q6_k", "gguf:q5_k_s", "gguf:q4_k_s", "gguf:q3_k_s", "gguf:q2_k")
MISTRAL = {"model": "mistral-7b", "family": "mistral", "params_b": 7.24, "tuned": False, "method": "rtn"}
MMLU = {"task": "mmlu", "task_type": "emergent", "metric": "acc", "baseline": 62.5, "chance": 25.0}
LONGEVAL = {"task": "longeval", "task_type": "long-context", "metric": "acc", "context": 16000}
MISSING = st.sampled_from([None, "", math.nan])


def columns(rows):
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def predict(*rows):
    return load_predictor().predict(columns(rows))


def maybe(values):
    return st.one_of(values, MISSING)


CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "model": maybe(st.sampled_from(["mistral-7b", "llama-2-13b", "qwen2.5-0.5b", "nobody-3b"])),
        "family": maybe(st.sampled_from(["mistral", "llama", "qwen", "nobodies"])),
        "params_b": maybe(st.floats(0.1, 700)),
        "moe": maybe(st.booleans()),
        "tuned": maybe(st.booleans()),
        "gqa_ratio": maybe(st.sampled_from([1, 4, 8])),
        "method": maybe(st.sampled_from(["rtn", "gptq", "awq", "hqq", "smoothquant", "kivi", "newquant"])),
        "task": maybe(st.sampled_from(["mmlu", "gsm8k", "wikitext2", "longeval", "newtask"])),
        "task_type": maybe(st.sampled_from(["basic-nlp", "emergent", "language-modeling", "long-context", "new"])),
        "metric": maybe(st.sampled_from(["acc", "ppl", "em", "score10"])),
        "context": maybe(st.integers(128, 200_000)),
        "baseline": maybe(st.floats(20, 95)),
        "chance": maybe(st.sampled_from([0, 25, 50])),
    },
)
RECIPES = st.fixed_dictionaries(
    {"w_bits": st.sampled_from([2, 3, 4, 8]), "a_bits": st.sampled_from([4, 8, 16]), "kv_bits": st.sampled_from([2, 4, 8, 16])},
    optional={"w_group": st.sampled_from([32, 64, 128, -1]), "w_sym": st.booleans()},
)
INT = {"w_dtype": "int", "a_dtype": "int", "kv_dtype": "int"}
LADDERS = {
    "weight bits": [{"w_bits": bits} for bits in (8, 6, 5, 4, 3, 2)],
    "KV bits": [{"kv_bits": bits} for bits in (16, 8, 4, 3, 2)],
    "activation bits": [{"a_bits": bits} for bits in (16, 8, 6, 4)],
    "weight groups": [{"w_group": group} for group in (32, 64, 128, -1)],
}


def assert_never_better(found):
    """Each row is at least as bad as the one before, in the point and both bounds."""
    for name in ("point", "lower", "upper"):
        values = getattr(found, name)
        assert np.isfinite(values).all()
        assert (np.diff(values) >= -1e-12).all(), (name, values)


@pytest.mark.parametrize("ladder", LADDERS.values(), ids=LADDERS.keys())
@settings(max_examples=60, deadline=None)
@given(context=CONTEXTS, recipe=RECIPES)
def test_coarser_integers_are_never_better(ladder, context, recipe):
    assert_never_better(predict(*({**context, **INT, **recipe, **step} for step in ladder)))


@settings(max_examples=60, deadline=None)
@given(context=CONTEXTS, kv_bits=st.sampled_from([4, 8, 16]))
def test_smaller_k_quants_are_never_better(context, kv_bits):
    cache = {"kv_bits": kv_bits, "kv_dtype": "int"}
    assert_never_better(predict(*({**context, **cache, "scheme": name} for name in KQUANTS)))


@settings(max_examples=60, deadline=None)
@given(context=CONTEXTS, recipe=RECIPES)
def test_bounds_enclose_the_point(context, recipe):
    found = predict({**context, **INT, **recipe})
    assert found.lower[0] <= found.point[0] <= found.upper[0]
    assert found.point[0] >= 0
    assert found.kind[0] in ("relative", "delta_nll")
    assert found.level == 0.9


@pytest.mark.parametrize(
    "recipe", [{}, {"scheme": "w16a16"}, {"w_bits": 16, "a_bits": 16, "kv_bits": 16}], ids=["unsaid", "scheme", "bits"]
)
@settings(max_examples=20, deadline=None)
@given(context=CONTEXTS)
def test_an_unquantized_recipe_loses_nothing_for_certain(recipe, context):
    found = predict({"model": None, **context, **recipe})
    assert (found.point[0], found.lower[0], found.upper[0], bool(found.in_support[0])) == (0, 0, 0, True)


@pytest.mark.parametrize("missing", [None, "", math.nan])
@pytest.mark.parametrize(
    "name", ["model", "family", "params_b", "tuned", "context", "baseline", "chance", "metric", "method", "w_group"]
)
def test_every_kind_of_missing_is_like_a_column_that_is_not_there(name, missing):
    row = {**MISTRAL, **MMLU, "w_bits": 4, "w_dtype": "int", "w_group": 128}
    without = {key: value for key, value in row.items() if key != name}
    found, expected = predict({**row, name: missing}), predict(without)
    for field in ("point", "lower", "upper", "in_support"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


@pytest.mark.parametrize(
    ("change", "supported"),
    [
        pytest.param({}, True, id="all known"),
        pytest.param({"model": "nobody-7b"}, True, id="new model"),
        pytest.param({"model": "nobody-7b", "family": "nobodies"}, True, id="new family"),
        pytest.param({"task": "newtask"}, True, id="new task of a known type"),
        pytest.param({"task": "newtask", "task_type": "newtype"}, False, id="new type of task"),
        pytest.param({"method": "newquant"}, False, id="new method"),
        pytest.param({"w_dtype": "newcode"}, False, id="new codebook"),
        pytest.param({"params_b": 20_000}, False, id="size beyond all evidence"),
        pytest.param({"params_b": 0.001}, False, id="size below all evidence"),
        pytest.param({"context": 10_000_000}, False, id="longer than all evidence"),
    ],
)
def test_support_tells_what_is_extrapolated(change, supported):
    found = predict({**MISTRAL, **MMLU, "w_bits": 4, "w_dtype": "int", "w_group": 128, **change})
    assert bool(found.in_support[0]) is supported
    assert 0 < found.point[0] <= found.upper[0] < math.inf


def test_equal_rows_get_equal_predictions_wherever_they_stand():
    rows = [{**MISTRAL, **MMLU, "w_bits": bits, "w_dtype": "int", "w_group": 128} for bits in (4, 2, 4, 3, 2)]
    once, again = predict(*rows), predict(*rows)
    backwards = predict(*reversed(rows))
    for field in ("point", "lower", "upper", "n_calibration"):
        np.testing.assert_array_equal(getattr(once, field), getattr(again, field))
        np.testing.assert_array_equal(getattr(once, field), getattr(backwards, field)[::-1])
        np.testing.assert_array_equal(getattr(once, field)[[0, 1]], getattr(once, field)[[2, 4]])


def test_no_rows_give_no_predictions():
    assert len(load_predictor().predict({})) == 0
    assert len(load_predictor().predict({"w_bits": []})) == 0


@pytest.mark.parametrize(
    ("given_columns", "message"),
    [({"w_bits": [4, 3], "task": ["mmlu"]}, "columns differ in length"), ({"w_bits": ["four"]}, "'w_bits': not a number")],
)
def test_columns_that_cannot_be_understood_are_refused(given_columns, message):
    with pytest.raises(DataError, match=message):
        load_predictor().predict(given_columns)


def test_losses_of_mistral_are_in_the_order_that_everybody_measured():
    schemes = ("w8a16-g128", "w4a16-g128", "w3a16-g128", "w2a16-g128")
    loss = predict(*({**MISTRAL, **MMLU, "scheme": scheme} for scheme in schemes)).point
    assert (np.diff(loss) > 0).all(), loss
    assert loss[0] < 0.03
    assert loss[3] > 0.4


def test_on_long_contexts_a_4_bit_cache_costs_more_than_4_bit_weights():
    weights, cache = predict(*({**MISTRAL, **LONGEVAL, "scheme": scheme} for scheme in ("w4a16-g128", "w16a16-kv4"))).point
    assert cache > weights


def of_version(number):
    """The packaged file with another version and a checksum that is right."""
    arrays = {name: array for name, array in unpack(PACKAGED.read_bytes()).items() if name != "digest"}
    facts = json.loads(bytes(arrays["facts"])) | {"format_version": number}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    return pack(arrays | {"digest": np.frombuffer(digest_of(arrays).encode(), dtype=np.uint8)})


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(lambda: b"", "is damaged and was not loaded", id="empty"),
        pytest.param(lambda: b"no archive", "is damaged and was not loaded", id="text"),
        pytest.param(lambda: PACKAGED.read_bytes()[:-100], "is damaged and was not loaded", id="cut off"),
        pytest.param(lambda: PACKAGED.read_bytes()[:1000], "is damaged and was not loaded", id="beginning alone"),
        pytest.param(lambda: pack({"x": np.arange(3)}), "is damaged and was not loaded", id="other arrays"),
        pytest.param(lambda: pack({"digest": np.zeros(64, np.uint8)}), "checksum does not match", id="wrong checksum"),
        pytest.param(lambda: of_version(999), "is of format 999", id="later version"),
    ],
)
def test_a_file_that_is_no_predictor_is_refused(tmp_path, content, message):
    path = tmp_path / "predictor.safetensors"
    path.write_bytes(content())
    with pytest.raises(DataError, match=message) as raised:
        load_predictor(path)
    assert "advisor.fit" in raised.value.hint


def test_nothing_is_unpickled(tmp_path):
    trace = tmp_path / "ran"
    np.savez(tmp_path / "bomb.npz", allow_pickle=True, facts=np.array([Bomb(trace)], dtype=object))
    (tmp_path / "bomb.pickle").write_bytes(pickle.dumps(Bomb(trace)))
    for name in ("bomb.npz", "bomb.pickle"):
        with pytest.raises(DataError, match="is damaged and was not loaded"):
            load_predictor(tmp_path / name)
    assert not trace.exists()


@settings(max_examples=80, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_changes_a_prediction(place, bit):
    """It is either noticed, or in a part of the archive (a time stamp) that nothing depends on."""
    content = bytearray(PACKAGED.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    try:
        predictor = from_bytes(bytes(content), "changed")
    except DataError as error:
        assert "changed is damaged" in error.message  # noqa: PT017 - both outcomes are right
    else:
        assert to_bytes(predictor) == to_bytes(load_predictor())


@pytest.mark.parametrize("path", ["missing.safetensors", "."], ids=["missing", "folder"])
def test_a_file_that_cannot_be_read(tmp_path, path):
    with pytest.raises(StoreError, match="cannot read the fitted predictor"):
        load_predictor(tmp_path / path)


def test_what_is_written_is_read_back():
    content = to_bytes(load_predictor())
    assert to_bytes(from_bytes(content, "copy")) == content


def test_the_packaged_file_is_small():
    assert PACKAGED.stat().st_size < 5_000_000


def test_predicting_needs_neither_scikit_learn_nor_scipy():
    program = (
        "import sys; from advisor.predictor import load_predictor; load_predictor().predict({'w_bits': [4]});"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'sklearn', 'scipy', 'pandas', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
