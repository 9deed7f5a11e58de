"""Recommending, explaining and predicting from the command line: what goes in, what comes out, in every form."""

import csv
import json
from pathlib import Path

import pytest
from helpers import run_cli

ASK = ["--model", "mistral-7b", "--task", "long-context", "--mem", "16GB"]
CONTRACT = {"schema_version", "tool_version", "knowledge_version", "status", "request", "model", "recommendations", "rejected"}
OPTION = {
    "rank", "scheme", "method", "format", "engines", "bits_per_weight", "memory", "quality", "speed", "pareto", "rules",
    "evidence", "reasons", "cautions",
}  # fmt: skip


@pytest.fixture(scope="module")
def document() -> dict:
    result = run_cli("recommend", *ASK, "--json")
    assert (result.code, result.err) == (0, "")
    return result.json


def test_the_document_is_the_contract(document: dict) -> None:
    assert set(document) >= CONTRACT
    assert document["status"] == "ok"
    best = document["recommendations"][0]
    assert set(best) >= OPTION
    assert set(best["memory"]) >= {
        "weights_bytes",
        "kv_cache_bytes",
        "state_bytes",
        "buffers_bytes",
        "total_bytes",
        "budget_bytes",
    }
    assert set(best["quality"]) >= {
        "relative_loss",
        "unit",
        "lower",
        "upper",
        "level",
        "basis",
        "n_evidence",
        "in_support",
        "by_task",
    }


def test_the_request_is_echoed_with_defaults_filled_in(document: dict) -> None:
    request = document["request"]
    assert (request["memory"], request["context"], request["batch"]) == (16_000_000_000, 32768, 1)
    assert document["model"]["hf_id"] == "mistralai/Mistral-7B-v0.1"


def test_the_same_request_gives_the_same_bytes(document: dict) -> None:
    again = run_cli("recommend", *ASK, "--json")
    assert json.loads(again.out) == document
    assert run_cli("recommend", *ASK, "--json").out == again.out


def test_text_and_json_agree(document: dict) -> None:
    text = run_cli("recommend", *ASK).out
    best = document["recommendations"][0]
    assert f"Use {best['scheme']}" in text
    assert f"knowledge {document['knowledge_version']}" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_markdown(document: dict) -> None:
    text = run_cli("recommend", *ASK, "--markdown").out
    assert text.startswith("# mistral-7b-v0.1: ")
    assert f"`{document['recommendations'][0]['scheme']}`" in text


@pytest.mark.parametrize("top", ["1", "5"])
def test_top_says_how_many(top: str) -> None:
    assert len(run_cli("recommend", *ASK, "--top", top, "--json").json["recommendations"]) == int(top)


@pytest.mark.parametrize(
    ("more", "seen"),
    [
        (["--engine", "llama.cpp"], lambda best: best["engines"] == ["llama.cpp"]),
        (["--context", "4k"], lambda best: best["memory"]["kv_cache_bytes"] > 0),
        (["--hardware", "rtx-4090"], lambda best: best["speed"]["tokens_per_s"] > 0),
        (["--objective", "memory"], lambda best: best["memory"]["total_bytes"] < 8_000_000_000),
        (["--exclude-licence", "none stated"], lambda best: best["rank"] == 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_reach_the_answer(more: list[str], seen) -> None:
    result = run_cli("recommend", *ASK, *more, "--json")
    assert result.code == 0, result.out
    assert seen(result.json["recommendations"][0])


def test_hardware_gives_the_memory() -> None:
    document = run_cli("recommend", "--model", "mistral-7b", "--task", "mmlu", "--hardware", "rtx-4090", "--json").json
    assert document["recommendations"][0]["memory"]["budget_bytes"] <= 24 * 2**30


def test_a_request_can_be_a_file(tmp_path: Path, document: dict) -> None:
    path = tmp_path / "request.yaml"
    path.write_text("model: mistral-7b\ntask: long-context\nmem: 16GB\n")
    assert run_cli("recommend", "--request", path, "--json").json == document
    path.write_text("[{model: mistral-7b, task: long-context, mem: 16GB}]")
    assert run_cli("recommend", "--request", path, "--json").json == document


def test_many_requests_are_answered_each(tmp_path: Path, document: dict) -> None:
    path = tmp_path / "requests.yaml"
    ask = "{model: mistral-7b, task: long-context, mem: 16GB}"
    path.write_text(f"- {ask}\n- {ask.replace('16GB', '1GB')}\n- {ask.replace('mistral-7b', 'nobody')}\n")
    result = run_cli("recommend", "--request", path, "--json")
    assert result.code == 3, "that of the first that failed"
    first, second, third = result.json
    assert first == document
    assert (second["status"], third["error"]["code"]) == ("nothing_fits", "unknown_name")
    text = run_cli("recommend", "--request", path)
    assert text.code == 3
    assert "Use " in text.out
    assert "unknown model 'nobody'" in text.err


def test_explain_says_where_a_candidate_stands(document: dict) -> None:
    found = run_cli("explain", *ASK, "--scheme", "gguf:q4_k_m", "--json").json
    assert found["option"]["scheme"].startswith("gguf:q4_k_m")
    assert found["verdict"]
    assert found["best"].startswith(document["recommendations"][0]["scheme"])
    text = run_cli("explain", *ASK, "--scheme", "gguf:q4_k_m").out
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("Memory", "quantized weights", "Loss", "predicted", "Nearest evidence", found["verdict"][:30]):
        assert part in text


@pytest.mark.parametrize("arguments", [["--scheme", "w4a16-g128:gptq"], ["--scheme", "w4a16-g128", "--method", "gptq"]])
def test_explain_takes_the_method_either_way(arguments: list[str]) -> None:
    option = run_cli("explain", *ASK, *arguments, "--json").json["option"]
    assert (option["scheme"], option["method"]) == ("w4a16-g128", "gptq")


def test_explain_says_why_a_candidate_is_ruled_out() -> None:
    found = run_cli("explain", "-m", "mistral-7b", "-t", "mmlu", "--mem", "6GB", "--scheme", "w16a16", "--json").json
    assert found["position"] is None
    assert "does not fit" in found["verdict"]


def test_predict_adds_its_columns(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        "model,scheme,method,task\nmistral-7b,w4a16-g128,gptq,mmlu\nllama-2-7b,w3a16-g128,rtn,wikitext2\n"
    )
    result = run_cli("predict", "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--json")
    assert (result.code, result.json["rows"]) == (0, 2)
    with (tmp_path / "out.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["lower"]) <= float(first["relative_loss"]) <= float(first["upper"])
    assert float(second["delta_nll"]) > 0
    assert first["scheme"] == "w4a16-g128"
    assert "2 rows written" in run_cli("predict", "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv").out


def test_recipe_of_the_best_candidate(document: dict) -> None:
    steps = run_cli("recipe", *ASK, "--json").json["recipe"]
    best = document["recommendations"][0]
    assert (steps["scheme"], steps["method"], steps["format"]) == (best["scheme"], best["method"], best["format"])
    assert "32768" in steps["serve"][0]["command"]
