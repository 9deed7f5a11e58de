import csv
import math

import pytest

import advisor
from advisor.predict_table import ADDED, predict_rows, predict_table
from advisor.training import load_training_set
from knowledge.errors import DataError, InvalidRequestError, StoreError
from knowledge.task_catalogue import find_task

ROW = {
    "model": "mistral-7b",
    "method": "rtn",
    "w_bits": 4,
    "w_dtype": "int",
    "w_group": 128,
    "a_bits": 16,
    "kv_bits": 16,
    "task": "mmlu",
}
TEXT = """model,params_b,method,w_bits,w_dtype,w_group,a_bits,kv_bits,task,task_type,remark
llama-2-7b,6.7,rtn,2,int,128,16,16,mmlu,basic-nlp,"first, with a comma"
llama-2-7b,6.7,rtn,16,,,16,16,mmlu,basic-nlp,
zorg-9b,9,rtn,4,int,128,16,16,zorgbench,emergent,nobody knows it
llama-2-7b,6.7,rtn,4,int,128,16,16,wikitext2,language-modeling,nats
llama-2-7b,6.7,rtn,3,int,128,16,16,mmlu,basic-nlp,last
"""


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames, list(reader)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "configurations.csv"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_table_comes_back_in_its_order_with_columns_added(source, tmp_path):
    summary = predict_table(source, tmp_path / "out.csv")
    (header, given), (new_header, found) = table(source), table(tmp_path / "out.csv")
    assert new_header == [*header, *ADDED]
    assert [{name: row[name] for name in header} for row in found] == given
    assert (summary.rows, summary.output) == (5, tmp_path / "out.csv")
    assert summary.direct == sum(row["basis"] == "direct" for row in found)
    assert summary.out_of_support == sum(row["in_support"] == "0" for row in found)
    for row in found:
        loss = float(row["relative_loss"] or row["delta_nll"])
        assert float(row["lower"]) <= loss <= float(row["upper"])
        assert row["level"] == "0.9"


def test_each_row_has_the_loss_of_its_kind(source, tmp_path):
    predict_table(source, tmp_path / "out.csv")
    found = table(tmp_path / "out.csv")[1]
    assert [bool(row["delta_nll"]) for row in found] == [False, False, False, True, False]
    assert [bool(row["relative_loss"]) for row in found] == [True, True, True, False, True]
    assert [found[1][name] for name in ("relative_loss", "lower", "upper")] == ["0", "0", "0"]
    assert float(found[0]["relative_loss"]) > float(found[4]["relative_loss"]) > 0


def test_predicting_a_predicted_table_again_replaces_the_columns(source, tmp_path):
    predict_table(source, tmp_path / "once.csv")
    predict_table(tmp_path / "once.csv", tmp_path / "twice.csv")
    assert (tmp_path / "twice.csv").read_text() == (tmp_path / "once.csv").read_text()


def test_an_empty_table_with_a_header_stays_one(tmp_path):
    (tmp_path / "in.csv").write_text("model,task,scheme\n")
    assert predict_table(tmp_path / "in.csv", tmp_path / "out.csv").rows == 0
    assert (tmp_path / "out.csv").read_text() == ",".join(("model", "task", "scheme", *ADDED)) + "\n"


@pytest.mark.parametrize(
    ("change", "supported"),
    [
        pytest.param({"model": "zorg-7b", "params_b": 7}, True, id="new model"),
        pytest.param({"model": "zorg"}, False, id="new model of unknown size"),
        pytest.param({"task": "zorgbench"}, False, id="new task of unknown type"),
        pytest.param({"task": "zorgbench", "task_type": "emergent"}, True, id="new task"),
        pytest.param({"method": "zorgquant"}, False, id="new method"),
        pytest.param({"w_bits": None, "w_dtype": None, "w_group": None, "scheme": "w4a16-g128"}, True, id="scheme"),
    ],
)
def test_what_nobody_knows_is_predicted_too(change, supported):
    (found,) = predict_rows([{**ROW, **change}])
    assert tuple(found) == ADDED
    assert found["in_support"] is supported
    assert 0 < found["relative_loss"] < 1
    assert found["lower"] <= found["relative_loss"] <= found["upper"]


@pytest.mark.parametrize("missing", [None, ""])
def test_empty_cells_are_cells_that_are_not_there(missing):
    assert predict_rows([{**ROW, "context": missing, "baseline": missing, "family": missing}]) == predict_rows([ROW])


def test_gaps_are_filled_from_the_catalogues_and_what_is_said_is_believed():
    said, unsaid, other = predict_rows([{**ROW, "task_type": find_task("mmlu").type}, ROW, {**ROW, "params_b": 1}])
    assert said == unsaid
    assert other["relative_loss"] != unsaid["relative_loss"]


@pytest.mark.parametrize("name", ["params_b", "context", "baseline", "chance"])
def test_a_number_that_is_none_is_refused_with_its_row(name):
    with pytest.raises(DataError, match=f"row 2: column '{name}' is not a number") as raised:
        predict_rows([ROW, {**ROW, name: "many"}])
    assert raised.value.given == "many"


@pytest.mark.parametrize("name", ["w_bits", "kv_bits", "w_group", "tuned"])
def test_other_numbers_that_are_none_are_refused(name):
    with pytest.raises(DataError, match=f"column '{name}'"):
        predict_rows([ROW, {**ROW, name: "many"}])


def test_a_scheme_that_cannot_be_read_is_refused():
    with pytest.raises(DataError, match="cannot read scheme 'nonsense'"):
        predict_rows([{"model": "mistral-7b", "task": "mmlu", "scheme": "nonsense"}])


def test_a_row_without_a_recipe_is_refused_with_its_number():
    with pytest.raises(DataError, match="row 3: nothing says how the model is quantized"):
        predict_rows([ROW, ROW, {"model": "mistral-7b", "task": "mmlu", "method": "gptq"}])


def test_a_cell_with_evidence_rests_on_it():
    data = load_training_set()
    columns = ("model", "method", "scheme", "task", "context")
    rows = [{name: data.columns[name][i] for name in columns} for i in range(0, len(data), 100)]
    rows = [{**row, "context": None if math.isnan(row["context"]) else float(row["context"])} for row in rows]
    known, strange = predict_rows(rows), predict_rows([{**row, "method": "zorgquant"} for row in rows])
    assert {row["basis"] for row in strange} == {"predicted"}
    assert sum(row["basis"] == "direct" for row in known) > len(rows) / 2


@pytest.mark.parametrize("folder", ["missing/out.csv", "."], ids=["missing folder", "a folder"])
def test_an_output_that_cannot_be_written(source, tmp_path, folder):
    with pytest.raises(StoreError, match="cannot write"):
        predict_table(source, tmp_path / folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot read the table", id="no file"),
        pytest.param(b"\xff\xfe\x00", "cannot read the table", id="not UTF-8"),
        pytest.param(b"", "none of the columns", id="empty"),
        pytest.param(b"a,b\n1,2\n", "none of the columns", id="other columns"),
        pytest.param(b"model,task\nllama-2-7b,mmlu\n", "none of the columns", id="no recipe"),
    ],
)
def test_an_input_that_is_no_table(tmp_path, content, message):
    if content is not None:
        (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(InvalidRequestError, match=message):
        predict_table(tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


class Frame:
    """What a data frame offers."""

    def __init__(self, rows):
        self.rows = rows

    def to_dict(self, orient):
        assert orient == "records"
        return self.rows


def test_the_interface_takes_mappings_and_data_frames():
    rows = [ROW, {**ROW, "w_bits": 3}]
    found = advisor.predict(rows)
    assert found == predict_rows(rows) == advisor.predict(Frame(rows)) == advisor.predict(iter(rows))
    assert found[0]["relative_loss"] < found[1]["relative_loss"]
    assert advisor.predict([]) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("w_bits", "-4"),
        ("w_bits", "nan"),
        ("params_b", "inf"),
        ("params_b", "-3"),
        ("chance", "inf"),
        ("context", "-1"),
        ("kv_bits", "99"),
    ],
)
def test_impossible_numbers_are_refused_with_their_row(column: str, value: str) -> None:
    row = {"model": "mistral-7b", "task": "mmlu", "method": "rtn", "w_bits": "4", "a_bits": "16", "kv_bits": "16"}
    with pytest.raises(DataError, match=f"row 2: column '{column}' is out of range"):
        predict_rows([row, row | {column: value}])
