"""The commands that show what is known: what they list, what they find, that text and JSON agree."""

import json
from pathlib import Path

import pytest
from helpers import run_cli

LISTS = {
    "models": ("models", "mistral-7b-v0.1"),
    "tasks": ("tasks", "mmlu"),
    "hardware": ("hardware", "rtx-4090"),
    "engines": ("engines", "llama.cpp"),
    "schemes": ("schemes", "w4a16-g128"),
    "rules": ("rules", "li2024-27"),
    "evidence": ("evidence", "llama-2-7b"),
}


@pytest.mark.parametrize("command", LISTS)
def test_lists_fit_80_columns(command: str) -> None:
    result = run_cli(command)
    assert (result.code, result.err) == (0, "")
    assert max(len(line) for line in result.out.splitlines()) <= 80
    assert not any(line.endswith(" ") for line in result.out.splitlines())


@pytest.mark.parametrize(("command", "key"), [("models", "name"), ("tasks", "name"), ("hardware", "name"), ("rules", "id")])
def test_names_are_shown_whole_so_that_they_can_be_copied(command: str, key: str) -> None:
    shown = set(run_cli(command).out.split())
    assert [row[key] for row in run_cli(command, "--json").json[LISTS[command][0]] if row[key] not in shown] == []


@pytest.mark.parametrize("command", LISTS)
def test_lists_as_json_carry_the_contract_version(command: str) -> None:
    document = run_cli(command, "--json").json
    assert document["schema_version"] == 1
    assert document[LISTS[command][0]]


@pytest.mark.parametrize(
    ("arguments", "key", "names"),
    [
        (["models", "list", "mixtral-8x7b"], "models", ["mixtral-8x7b", "mixtral-8x7b-instruct-v0.1"]),
        (["tasks", "list", "gsm8k"], "tasks", ["gsm8k"]),
        (["hardware", "4090"], "hardware", ["rtx-4090", "rtx-4090-laptop"]),
        (["engines", "list", "llama-server"], "engines", ["llama.cpp"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_searching(arguments: list[str], key: str, names: list[str]) -> None:
    found = [row["name"] for row in run_cli(*arguments, "--json").json[key]]
    assert set(names) <= set(found)
    assert len(found) < 10


@pytest.mark.parametrize("search", ["MISTRAL-7B", "mistral-7b"])
def test_searching_does_not_mind_case(search: str) -> None:
    assert "mistral-7b-v0.1" in [row["name"] for row in run_cli("models", "list", search, "--json").json["models"]]


def test_filters_narrow() -> None:
    rows = run_cli("evidence", "--task", "longeval", "--kv-bits", "4", "--learnable", "--limit", "5", "--json").json["evidence"]
    assert 0 < len(rows) <= 5
    assert {row["task"] for row in rows} == {"longeval"}
    assert all(row["learnable"] and row["loss"] is not None for row in rows)


def test_sources_say_how_many_rows_and_which_licence() -> None:
    sources = run_cli("evidence", "--sources", "--json").json["sources"]
    assert all(source["licence"] for source in sources)
    assert sum(source["n_accuracy"] for source in sources) > 20_000


def test_licences_can_be_left_out() -> None:
    everything = run_cli("evidence", "--sources", "--json").json["sources"]
    fewer = run_cli("evidence", "--sources", "--exclude-licence", "none stated", "--json").json["sources"]
    assert [source["id"] for source in fewer] == [source["id"] for source in everything if source["licence"] != "none stated"]


def test_a_model_says_what_it_was_taken_for() -> None:
    model = run_cli("models", "show", "mistralai/Mistral-7B-v0.1", "--json").json["model"]
    assert (model["name"], model["params_total"]) == ("mistral-7b-v0.1", 7_241_732_096)
    assert model["attention.window"] == 4096
    assert "hf_id              mistralai/Mistral-7B-v0.1" in run_cli("models", "show", "mistral-7b").out


def test_a_model_can_be_a_config(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 688,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000,
        "max_position_embeddings": 2048, "tie_word_embeddings": False,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "config.json"):
        model = run_cli("models", "show", path, "--json").json["model"]
        assert (model["layers"], model["kv_heads"]) == (4, 2)


def test_a_task_says_its_chance_level_and_items() -> None:
    task = run_cli("tasks", "show", "mmlu", "--json").json["task"]
    assert (task["chance"], task["metric"]) == (25.0, "acc")
    assert task["items"] > 10_000


def test_an_engine_says_what_it_runs_and_where_that_was_read() -> None:
    engine = run_cli("engines", "show", "vllm", "--json").json["engine"]
    assert engine["source"]
    assert all(row["source"] for row in (*engine["formats"], *engine["kv"]))
    assert "--kv-cache-dtype" in json.dumps(engine)
    assert run_cli("engines", "show", "vllm").code == 0


def test_a_rule_shows_condition_reason_and_citation() -> None:
    text = run_cli("rules", "show", "li2024-27").out
    for part in ("kv_bits < 8", "2402.18158", "LongEval", "why"):
        assert part in text
    rule = run_cli("rules", "show", "li2024-27", "--json").json["rule"]
    assert rule["claim"]["bound"] == ">= 0.75"


def test_rules_are_recomputed_on_own_and_other_sources() -> None:
    checks = run_cli("rules", "check", "--json").json["checks"]
    assert {check["status"] for check in checks} <= {"supported", "contradicted", "no data"}
    assert sum(check["status"] == "supported" for check in checks) > len(checks) / 2
    assert all({"value", "n", "status"} == set(check["own"]) for check in checks)
    text = run_cli("rules", "check").out
    assert "supported" in text.splitlines()[-1]


def test_rules_can_be_held_against_the_predictor() -> None:
    table, _, listed = run_cli("rules", "check", "--against-predictor").out.partition("\npredictor: ")
    tally, *disagreements = listed.splitlines()
    assert "agrees" in tally
    named = [line.split(":")[0] for line in disagreements if line and not line.startswith(" ")]
    assert named == [line.split()[0] for line in table.splitlines() if line.endswith(" disagrees")]
    assert any("measured" in line and "predicted" in line for line in disagreements)


def test_memory_adds_up_and_names_formulas() -> None:
    memory = run_cli("memory", "-m", "mistral-7b", "-s", "gguf:q4_k_m", "-c", "8k", "--engine", "llama.cpp", "--json").json[
        "memory"
    ]
    assert sum(part["bytes"] for part in memory["parts"]) == memory["total_bytes"]
    assert all(part["formula"] for part in memory["parts"])
    text = run_cli("memory", "-m", "mistral-7b", "-s", "gguf:q4_k_m", "-c", "8k").out
    assert text.startswith("mistral-7b-v0.1 gguf:q4_k_m · context 8,192 · batch 1")


def test_memory_grows_with_batch() -> None:
    def total(batch: str) -> int:
        return run_cli("memory", "-m", "mistral-7b", "-s", "nf4", "-b", batch, "--json").json["memory"]["kv_cache_bytes"]

    assert total("4") == 4 * total("1")


def test_schemes_name_their_engines() -> None:
    rows = run_cli("schemes", "--engine", "mlx", "--json").json["schemes"]
    assert rows
    assert all("mlx" in row["engines"] for row in rows)


def test_doctor_reports_version_rows_and_missing_extras() -> None:
    report = run_cli("doctor", "--json").json
    assert report["rows"]["evidence"] > 20_000
    assert len(report["knowledge_version"]) == 16
    assert set(report["extras"]) == {"measure", "plots", "ray"}
    assert "knowledge" in run_cli("doctor").out


def test_doctor_rebuilds(fresh_home: Path) -> None:
    before = run_cli("doctor", "--json").json
    after = run_cli("doctor", "--rebuild", "--json").json
    assert after["knowledge_version"] == before["knowledge_version"]
    assert Path(after["snapshot"]).is_relative_to(fresh_home)


def test_recipe_prints_commands_that_can_be_copied() -> None:
    result = run_cli("recipe", "-m", "mistral-7b", "-s", "gguf:q4_k_m", "--engine", "llama.cpp", "-c", "32k")
    assert result.code == 0
    assert "\nllama-server -m Mistral-7B-v0.1-q4_k_m.gguf -c 32768\n" in result.out
    steps = run_cli("recipe", "-m", "mistral-7b", "-s", "gguf:q4_k_m", "--json").json["recipe"]
    assert all(step["source"] for step in (*steps["make"], *steps["serve"]))


def test_recipe_refuses_what_no_engine_runs() -> None:
    result = run_cli("recipe", "-m", "mistral-7b", "-s", "nf4", "--engine", "llama.cpp")
    assert result.code == 2
    assert "llama.cpp does not run nf4" in result.err
    assert "vllm: bitsandbytes" in result.err
