"""A model behind an OpenAI-compatible endpoint that grades answers; used only where the user names one.

The key, if the endpoint wants one, is read from the environment variable `QADVISOR_JUDGE_KEY` and goes nowhere else: not into
records, messages or logs, and not to another host (redirects are refused).
"""

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from knowledge.errors import InvalidRequestError, MissingDependencyError
from measure.errors import JudgeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

KEY_VARIABLE = "QADVISOR_JUDGE_KEY"

_BUSY = (408, 429, 500, 502, 503, 504)
"""Answers after which the same question is worth asking again."""

_ATTEMPTS = 4
_TIMEOUT_SECONDS = 120.0
_MAX_ANSWER_TOKENS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Where the grading model answers, and what it is called there."""

    url: str
    """Base address, `https://host/v1`; `/chat/completions` is added."""
    model: str
    pause_seconds: float = 1.0
    """Wait before the second attempt at a busy endpoint; doubled for each one after."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequestError("the judge has no address", given=self.url, allowed="http(s)://host/v1")
        if parts.username or parts.password or parts.query:
            raise InvalidRequestError(
                "the judge's address holds more than a place", given=f"{parts.scheme}://{parts.hostname}/…",
                allowed="http(s)://host/v1", hint=f"a key goes into the environment variable {KEY_VARIABLE}",
            )  # fmt: skip
        if not self.model:
            raise InvalidRequestError("the judge has no name", given="", hint="--judge-model NAME, as the endpoint calls it")

    def ask(self, messages: "Sequence[Mapping[str, str]]", *, seed: int = 0) -> str:
        """The judge's answer to a conversation, as deterministic as the endpoint can.

        Raises:
            JudgeError: the endpoint cannot be reached, refuses, stays busy, or answers in another form.
            MissingDependencyError: the extra `measure` is not installed.
        """
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingDependencyError.of("httpx", extra="measure", purpose="asking a judge") from error
        body = {
            "model": self.model, "messages": list(messages), "temperature": 0, "seed": seed, "max_tokens": _MAX_ANSWER_TOKENS
        }  # fmt: skip
        key = os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        address = self.url.rstrip("/") + "/chat/completions"
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(self.pause_seconds * 2 ** (attempt - 1))
            try:
                response = httpx.post(address, json=body, headers=headers, timeout=_TIMEOUT_SECONDS)
            except httpx.HTTPError as error:
                trouble = f"{type(error).__name__}: {error}"
                continue
            if response.status_code not in _BUSY:
                return self._read(response)
            trouble = f"status {response.status_code}"
        raise JudgeError(f"no answer after {_ATTEMPTS} attempts: {trouble}", given=self.url, hint="check --judge-url")

    def _read(self, response: "httpx.Response") -> str:
        if response.status_code != 200:
            hint = f"set {KEY_VARIABLE}" if response.status_code in (401, 403) else "check --judge-url and --judge-model"
            raise JudgeError(f"it refused with status {response.status_code}", given=self.url, hint=hint)
        try:
            text = response.json()["choices"][0]["message"]["content"]
        except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
            raise JudgeError(
                "it did not answer in the form of a chat completion", given=self.url, allowed="an OpenAI-compatible endpoint"
            ) from error
        if not isinstance(text, str) or not text.strip():
            raise JudgeError("its answer is empty", given=self.url, hint="try another --judge-model")
        return text
