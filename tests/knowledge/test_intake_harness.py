"""Output of lm-evaluation-harness on its way into evidence: which run is compared with which, and when none is."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness_files import MODEL, make_old_results, make_results, write_results

from knowledge.errors import InvalidRequestError
from knowledge.evidence import BATCH_COLUMNS
from knowledge.intake import Intake, take_in

NF4 = "load_in_4bit=True,bnb_4bit_quant_type=nf4"


def rows_of(intake: Intake, **wanted: object) -> list[dict[str, Any]]:
    rows = [dict(zip(BATCH_COLUMNS, values, strict=True)) for values in intake.rows]
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def quantized_rows(intake: Intake) -> list[dict[str, Any]]:
    return [row for row in rows_of(intake) if row["method"] != "none"]


@pytest.mark.parametrize("make", [make_results, make_old_results], ids=["0.4", "0.3"])
def test_a_run_that_quantizes_while_loading_is_compared_with_the_plain_one(tmp_path: Path, make: Any) -> None:
    write_results(tmp_path / "base.json", make(acc=0.75))
    write_results(tmp_path / "nf4.json", make(acc=0.74, arguments=NF4))
    intake = take_in([tmp_path])
    assert intake.read == {"harness output": 2}
    assert list(intake.quarantined) == []
    (row,) = [row for row in quantized_rows(intake) if row["metric"] == "acc"]
    expected = {
        "source": "own:lm-eval", "own": True, "model": "llama-2-7b", "family": "llama", "scheme": "nf4", "method": "rtn",
        "task": "hellaswag", "score": 74.0, "baseline": 75.0, "items": 10042, "shots": 0, "learnable": True,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["loss"] == pytest.approx(0.02)
    assert row["checkpoint"] == f"{MODEL} load_in_4bit=True"
    assert json.loads(row["key"])["harness"] == {make_results: "lm_eval 0.4.7", make_old_results: "lm_eval 0.3"}[make]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"versions": {"hellaswag": 2}}, "task_version differ"),
        ({"n-shot": {"hellaswag": 5}}, "shots, seed differ"),
        ({"chat_template": "{{x}}", "chat_template_sha": "abc"}, "chat_template_hash differ"),
        ({"system_instruction": "Be brief."}, "chat_template_hash differ"),
        ({"lm_eval_version": "0.4.2"}, "harness differ"),
        ({"config": make_results()["config"] | {"limit": 100.0, "model_args": f"pretrained={MODEL},{NF4}"}}, "limit differ"),
        ({"configs": {"hellaswag": {"doc_to_text": "{{other}}", "output_type": "multiple_choice"}}}, "metric_version differ"),
        ({"task_hashes": {"hellaswag": "one"}}, ""),
    ],
    ids=["version", "shots", "template", "system", "harness", "limit", "prompt", "documents of one alone"],
)
def test_other_conditions_never_become_a_comparison(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    write_results(tmp_path / "base.json", make_results())
    write_results(tmp_path / "nf4.json", make_results(acc=0.74, arguments=NF4, **change))
    intake = take_in([tmp_path])
    assert len(quantized_rows(intake)) == (0 if named else 2)
    assert [named in item.reason and item.file.endswith("nf4.json") for item in intake.quarantined] == [True] * (
        2 if named else 0
    )


def test_other_documents_never_become_a_comparison(tmp_path: Path) -> None:
    write_results(tmp_path / "base.json", make_results(task_hashes={"hellaswag": "one"}))
    write_results(tmp_path / "nf4.json", make_results(arguments=NF4, task_hashes={"hellaswag": "two"}))
    assert ["data_hash differ" in item.reason for item in take_in([tmp_path]).quarantined] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "scheme", "method"),
    [
        ("load_in_8bit=True", "w8a8", "llm.int8"),
        (NF4, "nf4", "rtn"),
        (f"{NF4},bnb_4bit_use_double_quant=True", "nf4-dq", "rtn"),
        ("load_in_4bit=True", "fp4", "rtn"),
        ("kv_cache_dtype=fp8_e5m2", "w16a16-kvfp8", "rtn"),
        (f"{NF4},kv_cache_dtype=fp8", "nf4-kvfp8", "rtn"),
    ],
)
def test_what_options_quantize(tmp_path: Path, arguments: str, scheme: str, method: str) -> None:
    write_results(tmp_path / "base.json", make_results())
    write_results(tmp_path / "quantized.json", make_results(arguments=arguments))
    found = quantized_rows(take_in([tmp_path]))
    assert {(row["scheme"], row["method"]) for row in found} == {(scheme, method)}


@pytest.mark.parametrize(
    ("model", "arguments", "reason"),
    [
        ("TheBloke/Llama-2-7B-GPTQ", "", "cannot tell whether, and how, 'TheBloke/Llama-2-7B-GPTQ' is quantized"),
        ("lab/unheard-of", "", "cannot tell whether"),
        (MODEL, "peft=lab/adapter", "peft changes the weights"),
        (MODEL, "kv_cache_dtype=int4", "kv_cache_dtype int4 has no name here"),
        ("/data/somewhere/llama-2-7b-awq", "", "cannot tell whether"),
        ("TheBloke/Llama-2-7B-GPTQ", NF4, "cannot tell whether"),
    ],
)
def test_what_is_not_stated_is_not_guessed(tmp_path: Path, model: str, arguments: str, reason: str) -> None:
    write_results(tmp_path / "base.json", make_results())
    write_results(tmp_path / "other.json", make_results(model, arguments=arguments))
    intake = take_in([tmp_path])
    assert quantized_rows(intake) == []
    assert [reason in item.reason and "--map FILE" in item.reason for item in intake.quarantined] == [True, True]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.csv", "model,base,scheme,method\n*-GPTQ,llama-2-7b,w4a16-g128,gptq\n"),
        ("map.csv", "file,base,scheme\nother.json,meta-llama/Llama-2-7b-hf,w4a16-g128:gptq\n"),
        ("map.yaml", "- {model: TheBloke/*, base: llama-2-7b, scheme: w4a16-g128, method: gptq}\n"),
    ],
    ids=["by model", "by file", "yaml"],
)
def test_a_table_says_what_the_run_does_not(tmp_path: Path, name: str, text: str) -> None:
    runs = tmp_path / "runs"
    write_results(runs / "base.json", make_results())
    write_results(runs / "other.json", make_results("TheBloke/Llama-2-7B-GPTQ", acc=0.7))
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = quantized_rows(take_in([runs], mapping=tmp_path / name))
    assert {(row["scheme"], row["method"], row["model"]) for row in found} == {("w4a16-g128", "gptq", "llama-2-7b")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,colour\na,b\n", "unknown column colour"),
        ("base,scheme\na,nf4\n", "neither file nor model"),
        ("model,scheme\na,w99z\n", "w99z"),
        ("model,scheme,method\na,nf4,magic\n", "unknown method"),
    ],
)
def test_a_table_that_cannot_be_understood_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "map.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=message):
        take_in([write_results(tmp_path / "base.json", make_results())], mapping=tmp_path / "map.csv")


def save_checkpoint(folder: Path, *, quantized: bool = True, files: dict[str, str] | None = None) -> Path:
    """The configuration of a small model, as llm-compressor leaves it."""
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64,
        "vocab_size": 384, "num_attention_heads": 4, "intermediate_size": 128,
    }  # fmt: skip
    if quantized:
        weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
        config["quantization_config"] = {
            "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
            "config_groups": {"group_0": {"weights": weights, "targets": ["Linear"]}},
        }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, text in (files or {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


GPTQ_RECIPE = "default_stage:\n  default_modifiers:\n    GPTQModifier: {scheme: W4A16}\n"


@pytest.mark.parametrize(
    ("files", "method"),
    [
        ({"qadvisor.json": '{"base_model": "little", "method": "awq"}'}, "awq"),
        ({"recipe.yaml": GPTQ_RECIPE, "README.md": "---\nbase_model: lab/little\n---\n# Card\n"}, "gptq"),
        ({"recipe.yaml": GPTQ_RECIPE, "README.md": "---\nbase_model: [lab/little]\n---\n"}, "gptq"),
    ],
    ids=["apply", "llm-compressor and card", "card with a list"],
)
def test_a_checkpoint_says_what_it_was_made_from(tmp_path: Path, files: dict[str, str], method: str) -> None:
    base = save_checkpoint(tmp_path / "models" / "little", quantized=False)
    made = save_checkpoint(tmp_path / "models" / "little-w4", files=files)
    write_results(tmp_path / "runs" / "base.json", make_results(str(base)))
    write_results(tmp_path / "runs" / "w4.json", make_results(str(made), acc=0.7))
    intake = take_in([tmp_path / "runs"])
    assert list(intake.quarantined) == []
    found = quantized_rows(intake)
    assert {(row["model"], row["scheme"], row["method"]) for row in found} == {("little", "w4a16-g32-sym", method)}


def test_baseline_names_the_model_of_checkpoints_that_do_not(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "models" / "little", quantized=False)
    made = save_checkpoint(tmp_path / "models" / "little-w4", files={"recipe.yaml": GPTQ_RECIPE})
    file = write_results(tmp_path / "base.json", make_results(str(base)))
    runs = write_results(tmp_path / "runs" / "w4.json", make_results(str(made), acc=0.7))
    (refused, _) = take_in([runs]).quarantined
    assert "--baseline FILE" in refused.reason
    intake = take_in([runs], baseline=file)
    assert {row["model"] for row in quantized_rows(intake)} == {"little"}
    assert list(intake.quarantined) == []


@pytest.mark.parametrize(
    "files",
    [
        {"recipe.yaml": "a: &a [x]\nb: *a\nGPTQModifier: 1\n"},
        {"recipe.yaml": "!!python/object/apply:os.system ['true']"},
        {"qadvisor.json": "{" * 5000},
        {"recipe.yaml": "SpinQuantModifier: {}\nGPTQModifier: {}\n"},
    ],
    ids=["anchors", "objects", "broken", "a method nobody knows"],
)
def test_hostile_files_beside_a_checkpoint_say_nothing(tmp_path: Path, files: dict[str, str]) -> None:
    base = save_checkpoint(tmp_path / "little", quantized=False)
    made = save_checkpoint(tmp_path / "little-w4", files=files)
    write_results(tmp_path / "runs" / "base.json", make_results(str(base)))
    write_results(tmp_path / "runs" / "w4.json", make_results(str(made)))
    assert ["by which method is not stated" in item.reason for item in take_in([tmp_path / "runs"]).quarantined] == [True, True]


def test_a_baseline_must_be_harness_output(tmp_path: Path) -> None:
    file = write_results(tmp_path / "base.json", {"hello": "world"})
    with pytest.raises(InvalidRequestError, match="baseline"):
        take_in([write_results(tmp_path / "run.json", make_results())], baseline=file)


def test_a_baseline_must_be_unquantized(tmp_path: Path) -> None:
    file = write_results(tmp_path / "base.json", make_results(arguments=NF4))
    with pytest.raises(InvalidRequestError, match="is itself quantized: nf4, rtn"):
        take_in([write_results(tmp_path / "run.json", make_results())], baseline=file)


def test_subjects_beside_their_group_are_left_out(tmp_path: Path) -> None:
    def group(acc: float, arguments: str = "") -> dict[str, Any]:
        document = make_results(task="mmlu_unheard_of", acc=acc, arguments=arguments)
        document["groups"] = {"mmlu": {"alias": "mmlu", "acc,none": acc}}
        document["group_subtasks"] = {"mmlu": ["mmlu_unheard_of"]}
        return document

    write_results(tmp_path / "base.json", group(0.5))
    write_results(tmp_path / "nf4.json", group(0.49, NF4))
    intake = take_in([tmp_path])
    assert [(row["task"], row["score"]) for row in quantized_rows(intake)] == [("mmlu", 49.0)]
    assert intake.left_out == {"part of mmlu": 4}
    assert list(intake.quarantined) == []


def test_unknown_tasks_are_refused_with_the_way_to_add_one(tmp_path: Path) -> None:
    write_results(tmp_path / "base.json", make_results(task="zebra-1"))
    assert {item.reason for item in take_in([tmp_path]).quarantined} == {
        "unknown task 'zebra-1': a row of the task catalogue says what it measures"
    }


def test_truthfulqa_of_harness_0_3_is_two_tasks(tmp_path: Path) -> None:
    for name, arguments, mc1 in (("base", "", 0.4), ("nf4", NF4, 0.35)):
        document = make_old_results(task="truthfulqa_mc", arguments=arguments)
        document["results"]["truthfulqa_mc"] = {"mc1": mc1, "mc1_stderr": 0.01, "mc2": mc1 + 0.1, "mc2_stderr": 0.01}
        write_results(tmp_path / f"{name}.json", document)
    found = quantized_rows(take_in([tmp_path]))
    assert {(row["task"], row["metric"], round(row["score"], 9)) for row in found} == {
        ("truthfulqa_mc1", "acc", 35.0), ("truthfulqa_mc2", "acc", 45.0),
    }  # fmt: skip


@pytest.mark.parametrize(("folder", "rows"), [(".__pocket", 2), ("..__pocket", 2), (".cache", 0)])
def test_output_about_a_relative_path_is_no_hidden_file(tmp_path: Path, folder: str, rows: int) -> None:
    write_results(tmp_path / folder / "results_2026.json", make_results())
    assert len(take_in([tmp_path]).rows) == rows


def test_the_same_output_is_taken_once_wherever_it_lies(tmp_path: Path) -> None:
    write_results(tmp_path / "a" / "base.json", make_results())
    write_results(tmp_path / "b" / "copy.json", make_results())
    intake = take_in([tmp_path])
    assert (len(intake.rows), intake.known) == (2, 2)
