"""The frame of the command line: help, version, errors of every kind, exit codes, pipes."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT, run_cli

from advisor.answer import Rejection
from advisor.cli import answering
from advisor.cli import main as entry
from advisor.cli.errors import error_document, error_text, exit_code, show_error
from advisor.cli.groups import COMMANDS
from advisor.version import TOOL_VERSION
from knowledge.errors import (
    DataError,
    HubError,
    InvalidModelError,
    InvalidRequestError,
    InvalidSchemeError,
    MissingDependencyError,
    NoAnswerError,
    QAdvisorError,
    RuleError,
    StoreError,
    UnknownNameError,
)


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["bare", "help"])
def test_help_lists_every_command(arguments: list[str]) -> None:
    result = run_cli(*arguments)
    assert result.code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in result.out] == []
    assert max(len(line) for line in result.out.splitlines()) <= 80


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "measure"])
def test_every_command_explains_itself_and_takes_json(command: str) -> None:
    result = run_cli(command, "--help")
    assert result.code == 0
    listing = run_cli(command, "list", "--help").out if "COMMAND [ARGS]" in result.out else result.out
    assert "--json" in listing
    assert max(len(line) for line in result.out.splitlines()) <= 80


@pytest.mark.parametrize("words", [["--version"], ["--debug", "--version"], ["--version", "--version"]], ids=" ".join)
def test_version(words: list[str]) -> None:
    result = run_cli(*words)
    assert result.code == 0
    assert result.out == f"qadvisor {TOOL_VERSION}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownNameError.of("model", "x", ["y"]), 2),
        (InvalidRequestError("x"), 2),
        (InvalidSchemeError("x"), 2),
        (InvalidModelError("x"), 2),
        (NoAnswerError("x", status="nothing_fits"), 3),
        (DataError("x"), 1),
        (RuleError("x"), 1),
        (MissingDependencyError.of("torch", extra="measure", purpose="measuring"), 1),
        (HubError("x"), 1),
        (StoreError("x"), 1),
        (QAdvisorError("x"), 1),
        (RuntimeError("x"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommnd"], "unknown command 'recommnd'; did you mean recommend?"),
        (["recommend", "--modle", "x"], "No such option: --modle"),
        (["recommend", "--top", "3", "extra"], "Got unexpected extra argument(s) (extra)"),
        (["tasks", "lst"], "No such command 'lst'"),
        (["models", "show"], "Missing argument 'MODEL'"),
    ],
    ids=["command", "option", "extra", "subcommand", "argument"],
)
def test_wrong_command_lines_exit_2_in_text_and_json(arguments: list[str], message: str) -> None:
    text = run_cli(*arguments)
    assert (text.code, text.out) == (2, "")
    assert message in text.err
    as_json = run_cli(*arguments, "--json")
    assert as_json.code == 2
    assert message in as_json.json["error"]["message"]
    assert set(as_json.json) == {"schema_version", "status", "error"}
    assert set(as_json.json["error"]) == {"code", "message", "given", "allowed", "hint"}


def test_text_says_what_was_given_what_is_allowed_and_what_to_do() -> None:
    error = InvalidRequestError("the size '16' has no unit", given="16", allowed=["16GB", "16GiB"], hint="add the unit")
    assert error_text(error, error.as_dict()).splitlines() == [
        "qadvisor: the size '16' has no unit",
        "  given   16",
        "  allowed 16GB, 16GiB",
        "  hint    add the unit",
    ]


def test_text_wraps_at_80_columns() -> None:
    error = InvalidRequestError("word " * 60, given="x", allowed=[f"name-{n}" for n in range(60)])
    assert max(len(line) for line in error_text(error, error.as_dict()).splitlines()) <= 80


def test_no_answer_carries_its_status_and_what_was_ruled_out() -> None:
    rejected = [Rejection(scheme="w4a16-g128", method="rtn", reason="4.9 GB", limit="memory")] * 5
    error = NoAnswerError("nothing fits", status="nothing_fits", hint="take 5GB", rejected=rejected)
    document = error_document(error)
    assert (document["status"], document["error"]["code"]) == ("nothing_fits", "nothing_fits")
    assert document["rejected"][0] == {"scheme": "w4a16-g128", "method": "rtn", "reason": "4.9 GB", "limit": "memory"}
    assert "ruled out by memory – w4a16-g128 rtn: 4.9 GB" in error_text(error, document["error"])


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch):
    """Let `recommend` raise what the test wants."""

    def breaks_with(error: BaseException) -> None:
        def answer_command(**options: object) -> int:
            raise error

        monkeypatch.setattr(answering, "answer_command", answer_command)

    return breaks_with


def test_an_unexpected_error_is_one_line_and_names_debug(broken) -> None:
    broken(ZeroDivisionError("division by zero"))
    result = run_cli("recommend")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert result.err.splitlines() == [
        "qadvisor: ZeroDivisionError: division by zero",
        "  hint    run again with --debug for the traceback",
    ]


@pytest.mark.parametrize("arguments", [["--debug", "recommend"], ["recommend", "--debug"]], ids=["before", "behind"])
def test_debug_shows_the_traceback_and_keeps_the_code(broken, arguments: list[str]) -> None:
    broken(StoreError("cannot open"))
    result = run_cli(*arguments)
    assert result.code == 1
    assert "Traceback" in result.err
    assert "qadvisor: cannot open" in result.err


def test_an_unexpected_error_as_json(broken) -> None:
    broken(ZeroDivisionError("division by zero"))
    result = run_cli("recommend", "--json")
    assert result.code == 1
    assert result.json["error"]["code"] == "internal"


def test_interrupt_exits_as_shells_expect(broken) -> None:
    broken(KeyboardInterrupt())
    result = run_cli("recommend")
    assert (result.code, result.err) == (130, "interrupted\n")


def test_debug_behind_two_dashes_is_a_value() -> None:
    assert entry._take_debug(["models", "show", "--", "--debug"]) == (["models", "show", "--", "--debug"], False)


ENTRY = [sys.executable, "-c", "from advisor.cli.main import run; run()"]
"""The console command as its own process."""


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen([*ENTRY, "models", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        _, errors = process.communicate()
    assert errors == b""


@pytest.mark.parametrize(
    ("arguments", "code"), [(["models", "--json"], 0), (["nonsense", "--json"], 2)], ids=["answer", "error"]
)
def test_the_process_writes_all_of_its_output_before_it_ends(arguments: list[str], code: int) -> None:
    done = subprocess.run([*ENTRY, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout == run_cli(*arguments).out


def test_output_in_a_pipe_has_no_colour_and_fits() -> None:
    result = run_cli("tasks")
    assert result.code == 0
    assert "\x1b" not in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 80


def test_json_is_written_to_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(InvalidRequestError("x"), as_json=True, debug=False)
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["message"] == "x"
    assert captured.err == ""
