"""Advice on quantization: the public interface.

>>> from advisor import recommend
>>> answer = recommend(model="mistral-7b", task="long-context", memory="16GB")
>>> answer.best.scheme, answer.best.quality.loss.point

Names are loaded on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advisor.answer import Option, Quality, Recommendation
    from advisor.api import estimate_memory, explain, predict, recommend
    from advisor.explanation import Explanation
    from advisor.request import AdviceRequest
    from knowledge.errors import NoAnswerError, QAdvisorError, RequestError

_PLACES = {
    "AdviceRequest": "advisor.request",
    "Explanation": "advisor.explanation",
    "NoAnswerError": "knowledge.errors",
    "Option": "advisor.answer",
    "QAdvisorError": "knowledge.errors",
    "Quality": "advisor.answer",
    "Recommendation": "advisor.answer",
    "RequestError": "knowledge.errors",
    "estimate_memory": "advisor.api",
    "explain": "advisor.api",
    "predict": "advisor.api",
    "recommend": "advisor.api",
}

__all__ = [
    "AdviceRequest",
    "Explanation",
    "NoAnswerError",
    "Option",
    "QAdvisorError",
    "Quality",
    "Recommendation",
    "RequestError",
    "estimate_memory",
    "explain",
    "predict",
    "recommend",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'advisor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
