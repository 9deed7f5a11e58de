"""Bad input, one row a case: the exit code, and a message that says what was given, what is allowed, what to do."""

import json
from pathlib import Path

import pytest
from helpers import CliResult, run_cli

ASK = {"--model": "mistral-7b", "--task": "long-context", "--mem": "16GB"}


def recommend(*more: object, **changes: str) -> CliResult:
    """`qadvisor recommend` of a good request with some options changed (`mem="1GB"`) or added."""
    options = ASK | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return run_cli("recommend", *(word for pair in options.items() for word in pair), *more)


@pytest.mark.parametrize(
    ("changes", "message", "given", "allowed"),
    [
        ({"model": "mistrl-7b-v0.1"}, "unknown model 'mistrl-7b-v0.1'", "mistrl-7b-v0.1", "mistral-7b-v0.1"),
        ({"task": "mmul"}, "'mmul'", "mmul", "mmlu"),
        ({"task": "mmlu:x"}, "'mmlu:x' is no number", "x", "above 0"),
        ({"task": "mmlu:-1"}, "'mmlu:-1' must be above 0", "-1", "above 0"),
        ({"engine": "vlm"}, "unknown engine 'vlm'", "vlm", "vllm"),
        ({"hardware": "rtx-4091"}, "unknown hardware 'rtx-4091'", "rtx-4091", "rtx-4090"),
        ({"mem": "16"}, "has no unit", "16", "16GiB"),
        ({"mem": "0GB"}, "is no memory budget", "0GB", "more than 0"),
        ({"mem": "-4GB"}, "is no memory budget", "-4GB", "more than 0"),
        ({"mem": "99999999TB"}, "is no memory budget", "99999999TB", "10000TB"),
        ({"mem": "lots"}, "cannot read the size", "lots", "16GB"),
        ({"context": "0"}, "is no context length", "0", "32k"),
        ({"context": "1.5"}, "is no context length", "1.5", "32k"),
        ({"context": "40k"}, "beyond what mistral-7b-v0.1", "40960", "32768"),
        ({"batch": "0"}, "--batch", "0", "1 … 4096"),
        ({"batch": "many"}, "--batch", "many", "1 … 4096"),
        ({"max_loss": "0"}, "--max-loss", "0", "at most 100"),
        ({"max_loss": "nan"}, "--max-loss", "nan", "at most 100"),
        ({"objective": "cheap"}, "--objective", "cheap", "balanced"),
        ({"top": "0"}, "--top", "0", "1 … 50"),
        ({"exclude_licence": "WTFPL"}, "unknown licence 'WTFPL'", "WTFPL", "MIT"),
        ({"probe": "nowhere.json"}, "nowhere.json", "nowhere.json", ""),
    ],
    ids=lambda value: " ".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else "",
)
def test_requests_that_cannot_be_understood(changes: dict[str, str], message: str, given: str, allowed: str) -> None:
    result = recommend("--json", **changes)
    assert result.code == 2, result.out
    error = result.json["error"]
    assert message in error["message"]
    assert given in str(error["given"])
    assert allowed in " ".join(error["allowed"] or [])
    text = recommend(**changes)
    assert (text.code, text.out) == (2, "")
    assert "Traceback" not in text.err
    assert max(len(line) for line in text.err.splitlines()) <= 80


@pytest.mark.parametrize("left_out", ["--model", "--task", "--mem"])
def test_nothing_is_guessed_for_what_is_missing(left_out: str) -> None:
    result = run_cli(
        "recommend", *(word for name, value in ASK.items() if name != left_out for word in (name, value)), "--json"
    )
    assert result.code == 2
    assert left_out in json.dumps(result.json["error"])


def test_a_budget_below_every_candidate_says_the_smallest_that_fits() -> None:
    result = recommend("--json", mem="1GB")
    assert result.code == 3
    assert result.json["status"] == "nothing_fits"
    assert "the smallest is gguf:" in result.json["error"]["message"]
    assert "expected loss of" in result.json["error"]["message"]
    assert result.json["error"]["allowed"][0].endswith("GB or more")
    assert result.json["rejected"]
    assert "ruled out by memory" in recommend(mem="1GB").err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"engine": "mlx", "hardware": "a100-80gb"}, "mlx runs on apple, not on nvidia"),
        ({"engine": "exllamav2", "model": "opt-6.7b"}, "exllamav2 does not run it: it would load this architecture as Llama"),
    ],
)
def test_an_engine_that_runs_nothing_says_why(options: dict[str, str], reason: str) -> None:
    result = recommend("--json", **options)
    assert (result.code, result.json["status"]) == (3, "nothing_fits")
    assert result.json["error"]["allowed"][0].startswith(reason)


def test_a_loss_that_nothing_keeps_says_the_least() -> None:
    result = recommend("--json", mem="3GB", context="2k", max_loss="0.01")
    assert result.code == 3
    assert result.json["status"] in ("nothing_within_loss", "nothing_fits")
    assert result.json["error"]["hint"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "config.json"),
        ("config.json", b"[]", "config.json"),
        ("config.json", b'{"model_type": "bert"}', "config.json"),
        ("config.json", b"\xff\xfe", "config.json"),
        ("model.gguf", b"", "model.gguf"),
        ("model.gguf", b"GGUF\x03\x00\x00\x00", "model.gguf"),
        ("model.gguf", b"not a model" * 100, "model.gguf"),
    ],
    ids=["cut", "list", "no causal model", "not text", "empty", "header only", "something else"],
)
def test_broken_model_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = recommend("--json", model=str(tmp_path / name))
    assert (result.code, result.json["error"]["code"]) == (2, "invalid_model")
    assert message in result.json["error"]["message"] + str(result.json["error"]["given"])


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    result = recommend("--json", model=str(tmp_path / "nowhere"))
    assert result.code == 2
    assert str(tmp_path) in str(result.json["error"]["given"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: [", "cannot read the request file"),
        ("", "holds no request"),
        ("- 1", "holds no request"),
        ("model: mistral-7b\ntask: mmlu\nmem: 16\n", "has no unit"),
        ("model: mistral-7b\ntask: mmlu\nmemory_gb: 16\n", "unknown field 'memory_gb'"),
    ],
    ids=["no YAML", "empty", "no mapping", "no unit", "unknown field"],
)
def test_broken_request_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "request.yaml"
    path.write_text(content)
    result = run_cli("recommend", "--request", path, "--json")
    assert result.code == 2
    assert message in result.json["error"]["message"]


def test_a_request_file_stands_alone(tmp_path: Path) -> None:
    result = recommend("--request", tmp_path / "request.yaml", "--json")
    assert result.code == 2
    assert "--request stands alone" in result.json["error"]["message"]


def test_a_home_that_cannot_be_written_warns_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QADVISOR_HOME", str(tmp_path / "file" / "home"))
    result = recommend("--json")
    assert result.code == 0
    assert result.json["recommendations"]
    rebuilt = run_cli("doctor", "--rebuild", "--json")
    assert rebuilt.code == 1
    assert rebuilt.json["error"]["hint"] == "set QADVISOR_HOME to a writable folder"


def test_a_read_only_home_warns_and_answers(read_only_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QADVISOR_HOME", str(read_only_folder))
    assert recommend("--json").code == 0


def test_a_missing_home_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QADVISOR_HOME", str(tmp_path / "not" / "yet"))
    assert recommend("--json").code == 0
    assert (tmp_path / "not" / "yet" / "current").is_file()


@pytest.mark.parametrize("damage", ["cut", "overwritten", "gone", "pointer"])
def test_a_broken_store_is_rebuilt(fresh_home: Path, damage: str) -> None:
    before = recommend("--json").out
    (snapshot,) = [path for path in (fresh_home / "snapshots").iterdir() if path.name in (fresh_home / "current").read_text()]
    if damage == "cut":
        snapshot.write_bytes(snapshot.read_bytes()[:4096])
    elif damage == "overwritten":
        snapshot.write_bytes(b"x" * 1000)
    elif damage == "gone":
        snapshot.unlink()
    else:
        (fresh_home / "current").write_text("{")
    after = recommend("--json")
    assert (after.code, after.out) == (0, before)


@pytest.mark.parametrize("where", ["folder", "missing/out.csv", "file/out.csv"])
def test_an_output_that_cannot_be_written_fails_before_the_work(tmp_path: Path, where: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    result = run_cli("predict", "--input", tmp_path / "no-such-input.csv", "--output", tmp_path / where, "--json")
    assert result.code == 2
    assert "cannot write" in result.json["error"]["message"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no-such.csv"),
        ("", "input.csv"),
        ("model,w_bits\nmistral-7b,x\n", "x"),
        ("model,wbits\nmistral-7b,4\n", "wbits"),
    ],
    ids=["missing", "empty", "no number", "unknown column"],
)
def test_broken_prediction_tables(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / ("input.csv" if content is not None else "no-such.csv")
    if content is not None:
        path.write_text(content)
    result = run_cli("predict", "--input", path, "--output", tmp_path / "out.csv", "--json")
    assert result.code in (1, 2)
    assert message in json.dumps(result.json["error"])
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memory", "-m", "mistral-7b", "-s", "w4b16"], "cannot read scheme 'w4b16'"),
        (["memory", "-m", "mistral-7b", "-s", "gguf:q9_k"], "cannot read scheme"),
        (["memory", "-m", "mistral-7b", "-s", "nf4", "--engine", "vlm"], "unknown engine"),
        (["memory", "-m", "mistral-7b", "-s", "nf4", "-b", "0"], "is no number of sequences"),
        (["explain", *(w for p in ASK.items() for w in p), "--scheme", "w4b16"], "cannot read scheme"),
        (["rules", "show", "nope"], "unknown rule 'nope'"),
        (["tasks", "show", "mmul"], "unknown task 'mmul'"),
        (["tasks", "--type", "long"], "unknown task type 'long'"),
        (["engines", "show", "vlm"], "unknown engine 'vlm'"),
        (["evidence", "--limit", "0"], "--limit must be at least 1"),
        (["evidence", "--source", "li2023"], "unknown source 'li2023'"),
        (["recipe", "-s", "nf4"], "--model is missing"),
        (["recipe", "-m", "mistral-7b", "-s", "w4a16-g128:gptqq"], "unknown method 'gptqq'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_other_commands_refuse_alike(arguments: list[str], message: str) -> None:
    result = run_cli(*arguments, "--json")
    assert result.code == 2, result.out
    assert message in result.json["error"]["message"]
