import csv

import pytest

from advisor.predict_table import ADDED, predict_rows, predict_table
from knowledge.errors import DataError, InvalidRequestError, StoreError

ROW = {"model": "mistral-7b-v0.1", "params_b": "7", "family": "mistral", "method": "gptq", "w_bits": "4", "w_dtype": "int"}
ROW |= {"w_group": "128", "a_bits": "16", "kv_bits": "16", "task": "mmlu", "metric": "acc"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def one(row, home):
    return predict_rows([row], home=home)[0]


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_table_keeps_its_columns_and_gains_the_predictions(tmp_path, home):
    rows = [ROW, ROW | {"task": "wikitext2", "metric": "ppl"}]
    summary = predict_table(write(tmp_path / "in.csv", rows), tmp_path / "out.csv", home=home)
    with (tmp_path / "out.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert summary.rows == len(found) == 2
    assert list(found[0]) == [*ROW, *ADDED]
    assert found[0]["relative_loss"]
    assert not found[0]["delta_nll"]
    assert found[1]["delta_nll"]
    assert not found[1]["relative_loss"]
    assert {row["level"] for row in found} == {"0.9"}
    assert {row["in_support"] for row in found} <= {"0", "1"}


@pytest.mark.parametrize("missing", list(ROW))
def test_any_column_may_be_missing(missing, home):
    found = one({name: value for name, value in ROW.items() if name != missing}, home)
    assert found["lower"] <= found["relative_loss"] <= found["upper"]


@pytest.mark.parametrize(
    "change",
    [{"model": "no-such-7b"}, {"family": "no-such"}, {"method": "no-such"}, {"task": "no-such", "task_type": "emergent"}],
    ids=["model", "family", "method", "task"],
)
def test_unseen_names_are_predicted(change, home):
    found = one(ROW | change, home)
    assert found["basis"] in ("predicted", "direct")
    assert found["lower"] <= found["relative_loss"] <= found["upper"]


def test_evidence_for_the_very_cell_is_used(home):
    cell = {"model": "llama-2-7b", "scheme": "w4a16-g128-asym", "method": "rtn", "task": "lambada_openai", "metric": "acc"}
    assert one(cell, home)["basis"] == "direct"
    assert one(cell | {"scheme": "w4a16-g64-sym"}, home)["basis"] == "predicted"


def test_facts_of_the_catalogue_fill_in(home):
    bare = {"model": "mistral-7b-v0.1", "scheme": "w3a16-g128", "method": "gptq", "task": "piqa"}
    full = bare | {
        "params_b": 7.241732096,
        "family": "mistral",
        "task_type": "basic-nlp",
        "ability": "commonsense",
        "metric": "acc",
    }
    assert one(bare, home)["relative_loss"] == pytest.approx(one(full, home)["relative_loss"])


def test_the_unquantized_model_loses_nothing(home):
    found = one(ROW | {"method": "none", "w_bits": "16", "w_dtype": "", "w_group": ""}, home)
    assert (found["relative_loss"], found["lower"], found["upper"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("change", "match"),
    [({"params_b": "seven"}, "row 2.*params_b"), ({"context": "long"}, "row 2.*context")],
    ids=["size", "context"],
)
def test_a_cell_that_is_no_number_is_named(change, match, home):
    with pytest.raises(DataError, match=match):
        predict_rows([ROW, ROW | change], home=home)


def test_a_row_that_says_nothing_of_its_format_is_named(home):
    with pytest.raises(DataError, match=r"row 1.*quantized"):
        predict_rows([{"model": "mistral-7b-v0.1", "task": "mmlu", "method": "no-such"}], home=home)


def test_no_rows(home):
    assert predict_rows([], home=home) == []


def test_a_table_without_usable_columns_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match="none of the columns"):
        predict_table(write(tmp_path / "in.csv", [{"a": "1"}]), tmp_path / "out.csv")


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match="cannot read"):
        predict_table(tmp_path / "none.csv", tmp_path / "out.csv")


def test_an_unwritable_output_is_refused(tmp_path, home):
    with pytest.raises(StoreError, match="cannot write"):
        predict_table(write(tmp_path / "in.csv", [ROW]), tmp_path / "no-folder" / "out.csv", home=home)
