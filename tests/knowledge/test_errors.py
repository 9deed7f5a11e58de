"""The error tree: exit codes, built-in bases, and messages that help."""

import json

import pytest

from knowledge import errors
from knowledge.errors import MissingDependencyError, NoAnswerError, QAdvisorError, UnknownNameError


@pytest.mark.parametrize(
    ("kind", "base", "code", "exit_code"),
    [
        (errors.QAdvisorError, Exception, "error", 1),
        (errors.RequestError, QAdvisorError, "bad_request", 2),
        (errors.UnknownNameError, LookupError, "unknown_name", 2),
        (errors.InvalidRequestError, ValueError, "invalid_request", 2),
        (errors.InvalidSchemeError, ValueError, "invalid_scheme", 2),
        (errors.InvalidModelError, ValueError, "invalid_model", 2),
        (errors.DataError, ValueError, "invalid_data", 1),
        (errors.RuleError, ValueError, "invalid_rule", 1),
        (errors.MissingDependencyError, ImportError, "missing_dependency", 1),
        (errors.HubError, OSError, "hub", 1),
        (errors.StoreError, OSError, "store", 1),
    ],
)
def test_tree(kind: type[QAdvisorError], base: type[Exception], code: str, exit_code: int) -> None:
    error = kind("it broke", given="x", allowed=("a", "b"), hint="do this")
    assert isinstance(error, base)
    assert isinstance(error, QAdvisorError)
    assert (error.code, error.exit_code, str(error)) == (code, exit_code, "it broke")
    expected = {"code": code, "message": "it broke", "given": "x", "allowed": ["a", "b"], "hint": "do this"}
    assert json.loads(json.dumps(error.as_dict())) == expected


def test_allowed_may_be_one_text() -> None:
    assert QAdvisorError("no", allowed="a size with its unit").allowed == ["a size with its unit"]
    assert QAdvisorError("no").as_dict()["allowed"] is None


def test_no_answer_carries_its_status() -> None:
    error = NoAnswerError("too big", status="nothing_fits", rejected=["w4a16"])
    assert (error.exit_code, error.code, error.status, error.rejected) == (3, "nothing_fits", "nothing_fits", ("w4a16",))


@pytest.mark.parametrize(
    ("given", "known", "allowed"),
    [
        ("mistrl", ["mistral", "llama"], ["mistral"]),
        ("MISTRAL-7B", ["Mistral-7B-v0.1", "llama"], ["Mistral-7B-v0.1"]),
        ("zzz", ["mistral", "llama"], ["mistral", "llama"]),
        ("zzz", [f"model-{number}" for number in range(40)], [f"model-{number}" for number in range(5)]),
    ],
    ids=["typo", "case", "few known", "many known"],
)
def test_unknown_name_lists_what_is_near(given: str, known: list[str], allowed: list[str]) -> None:
    error = UnknownNameError.of("model", given, known)
    assert error.allowed == allowed
    assert given in error.message


def test_missing_dependency_names_the_pip_line() -> None:
    error = MissingDependencyError.of("torch", extra="measure", purpose="measuring")
    assert error.hint == 'pip install "qadvisor[measure]"'
    assert "torch" in error.message
