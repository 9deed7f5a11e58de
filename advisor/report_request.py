"""What was understood and what was ruled out, in words."""

from collections.abc import Mapping
from typing import Any

from advisor.answer import Recommendation, Rejection
from advisor.report_words import size

_LIMITS = {
    "memory": "does not fit the memory",
    "max_loss": "loses more than tolerated",
    "rule": "refused by a rule",
    "engine": "no engine runs it",
    "hardware": "the hardware cannot run it",
    "stored": "more bits than the checkpoint has",
}
_EXAMPLES = 2


def request_line(request: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """The request as it was understood: which model, task, memory, context; defaults are filled in."""
    parts = [str(model.get("name") or request.get("model")), str(request.get("task"))]
    if request.get("memory") is not None:
        parts.append(size(request["memory"]))
    if request.get("context") is not None:
        parts.append(f"context {request['context']:,}")
    parts.append(f"batch {request.get('batch', 1)}")
    parts += [f"{request[name]}" for name in ("hardware", "engine") if request.get(name)]
    if request.get("max_loss") is not None:
        parts.append(f"at most {request['max_loss']:g} % loss")
    if request.get("objective"):
        parts.append(f"{request['objective']}")
    return " · ".join(parts)


def ruled_out(answer: Recommendation) -> list[str]:
    """One line for each limit: how many groups it ruled out, and the first of them with their reasons."""
    by_limit: dict[str, list[Rejection]] = {}
    for rejection in answer.rejected:
        by_limit.setdefault(rejection.limit, []).append(rejection)
    lines = []
    for limit, items in by_limit.items():
        examples = "; ".join(_example(item) for item in items[:_EXAMPLES])
        more = f"; and {len(items) - _EXAMPLES} more" if len(items) > _EXAMPLES else ""
        lines.append(f"{_LIMITS.get(limit, limit)}: {examples}{more}")
    return lines


def _example(rejection: Rejection) -> str:
    name = " ".join(part for part in (rejection.scheme, rejection.method) if part not in ("", "none"))
    return f"{name} – {rejection.reason}" if name else rejection.reason


def speed_sentence(speed: Mapping[str, Any] | None) -> str | None:
    """How much memory a generated token moves, and the speed that follows where the device's bandwidth is known."""
    if not speed:
        return None
    parts = []
    if speed.get("bytes_per_token") is not None:
        parts.append(f"reads {size(speed['bytes_per_token'])} per generated token")
    if speed.get("tokens_per_s") is not None:
        parts.append(f"at most {speed['tokens_per_s']:.3g} tokens/s")
    if speed.get("kernel") == "slow":
        parts.append("on a kernel known to be slow")
    return "; ".join(parts) or None
