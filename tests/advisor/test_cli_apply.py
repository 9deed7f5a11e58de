"""`qadvisor apply` as far as it goes without torch: what it refuses before it loads anything, and what it says is missing."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import CliResult, run_cli


def apply(folder: Path, *more: object, scheme: str = "w4a16-g32") -> CliResult:
    return run_cli("apply", "--model", folder / "model", "--scheme", scheme, "--output", folder / "out", *more, "--json")


@pytest.mark.parametrize(
    ("scheme", "more", "code", "message"),
    [
        ("w4a15x", (), 2, "cannot read"),
        ("w4a16:gtpq", (), 2, "did you mean gptq"),
        ("w4a16", ("--method", "gtpq"), 2, "did you mean gptq"),
        ("w4a16:gptq", ("--method", "awq"), 2, "name two methods"),
        ("gguf:q4_k_m", (), 2, "a file of llama.cpp"),
        ("nf4", (), 2, "bitsandbytes quantizes while it loads"),
        ("w4a16", ("--dtype", "float32"), 2, "not written in 'float32'"),
        ("w4a16", ("--method", "hqq"), 2, "does not have HQQ"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_refused_before_anything_is_loaded(tmp_path: Path, scheme: str, more: tuple[str, ...], code: int, message: str) -> None:
    result = apply(tmp_path, *more, scheme=scheme)
    assert (result.code, message in result.json["error"]["message"]) == (code, True), result.out
    assert list(tmp_path.iterdir()) == []


def test_files_of_other_tools_come_with_their_commands(tmp_path: Path) -> None:
    hint = apply(tmp_path, scheme="gguf:q4_k_m").json["error"]["hint"]
    words = hint.split("qadvisor ")[1].replace(str(tmp_path / "model"), "mistral-7b").split()
    shown = run_cli(*words)
    assert shown.code == 0, shown.err
    assert "llama-quantize" in shown.out


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("torch") is not None:
        monkeypatch.setattr("measure.apply.find_spec", lambda name: None)
    result = apply(tmp_path)
    assert result.code == 1
    error = result.json["error"]
    assert error["code"] == "missing_dependency"
    assert error["hint"] == 'pip install "qadvisor[measure]"'
    assert "`qadvisor apply` needs the package 'torch'" in error["message"]


@pytest.mark.parametrize("missing", ["--model", "--scheme", "--output"])
def test_nothing_is_guessed(tmp_path: Path, missing: str) -> None:
    given = {"--model": "m", "--scheme": "w4a16", "--output": str(tmp_path / "out")}
    result = run_cli("apply", *(word for pair in given.items() if pair[0] != missing for word in pair), "--json")
    assert result.code == 2
    assert missing in json.dumps(result.json["error"])
