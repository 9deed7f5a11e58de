"""Errors that a user may meet, each with what was given, what is allowed and what to do.

    QAdvisorError                     exit 1
    ├── RequestError                  exit 2  the request cannot be understood
    │   ├── UnknownNameError          (LookupError) a model, task, engine, … that nobody knows; lists the nearest
    │   ├── InvalidRequestError       (ValueError)  a size without a unit, a contradiction, a value out of range
    │   ├── InvalidSchemeError        (ValueError)  a scheme name that does not parse, or cannot exist
    │   └── InvalidModelError         (ValueError)  a config.json, model folder or GGUF that cannot be read
    ├── NoAnswerError                 exit 3  understood, but nothing satisfies it
    ├── DataError                     (ValueError)  a table of evidence, a catalogue row or a run record is refused
    ├── RuleError                     (ValueError)  a rule file is refused
    ├── MissingDependencyError        (ImportError) an optional package is needed; names the extra
    ├── HubError                      (OSError)     the network was asked for and did not answer
    └── StoreError                    (OSError)     the knowledge base cannot be opened, built or written

Catch `QAdvisorError` for all of them; those with a builtin in brackets are caught by it as well.
"""

from collections.abc import Sequence


class QAdvisorError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        message: one sentence that says what is wrong.
        given: what the user gave, as text.
        allowed: what would have been accepted (names, a range, a form).
        hint: what to do next.
    """

    code = "error"
    exit_code = 1

    def __init__(
        self, message: str, *, given: str | None = None, allowed: Sequence[str] | str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.given = given
        self.allowed = [allowed] if isinstance(allowed, str) else list(allowed) if allowed is not None else None
        self.hint = hint

    def as_dict(self) -> dict[str, object]:
        """The `error` object of the JSON contract."""
        return {"code": self.code, "message": self.message, "given": self.given, "allowed": self.allowed, "hint": self.hint}


class RequestError(QAdvisorError):
    """The request cannot be understood."""

    code = "bad_request"
    exit_code = 2


class UnknownNameError(RequestError, LookupError):
    """A name that nobody knows; `allowed` holds the nearest known names."""

    code = "unknown_name"

    @classmethod
    def of(cls, kind: str, given: str, known: Sequence[str], *, hint: str | None = None, n: int = 5) -> "UnknownNameError":
        """Build the error for `given`, with the `n` known names nearest to it (all of them when there are few)."""
        from difflib import get_close_matches

        lowered = {name.lower(): name for name in known}
        near = [lowered[name] for name in get_close_matches(given.lower(), lowered, n=n, cutoff=0.5)]
        allowed = near or (list(known) if len(known) <= 3 * n else list(known)[:n])
        text = f"unknown {kind} {given!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
        return cls(text, given=given, allowed=allowed, hint=hint)


class InvalidRequestError(RequestError, ValueError):
    """A value of the request is missing its unit, out of range or contradicts another."""

    code = "invalid_request"


class InvalidSchemeError(RequestError, ValueError):
    """A scheme name that does not parse or describes a format that cannot exist."""

    code = "invalid_scheme"


class InvalidModelError(RequestError, ValueError):
    """A model file or folder that cannot be read as a causal language model."""

    code = "invalid_model"


class NoAnswerError(QAdvisorError):
    """The request was understood, but nothing satisfies it.

    `status` is `nothing_fits`, `nothing_within_loss` or `insufficient_evidence`; `rejected` lists candidates with reasons.
    """

    code = "no_answer"
    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        status: str,
        given: str | None = None,
        allowed: Sequence[str] | str | None = None,
        hint: str | None = None,
        rejected: Sequence[object] = (),
    ) -> None:
        super().__init__(message, given=given, allowed=allowed, hint=hint)
        self.status = status
        self.code = status
        self.rejected = tuple(rejected)


class DataError(QAdvisorError, ValueError):
    """A data row or file is refused; the message names file, row and reason."""

    code = "invalid_data"


class RuleError(QAdvisorError, ValueError):
    """A rule file is refused; the message names file and reason."""

    code = "invalid_rule"


class MissingDependencyError(QAdvisorError, ImportError):
    """An optional package is needed for what was asked."""

    code = "missing_dependency"

    @classmethod
    def of(cls, package: str, *, extra: str, purpose: str) -> "MissingDependencyError":
        """The error for a missing `package`, with the pip line that brings it."""
        return cls(
            f"{purpose} needs the package {package!r}, which is not installed",
            given=package,
            hint=f'pip install "qadvisor[{extra}]"',
        )


class HubError(QAdvisorError, OSError):
    """The network was asked for and did not give an answer."""

    code = "hub"


class StoreError(QAdvisorError, OSError):
    """The knowledge base cannot be opened, built or written."""

    code = "store"
