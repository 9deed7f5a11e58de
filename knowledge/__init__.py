"""Facts, evidence and rules about quantization; imports no other layer, no torch and, unasked, no network.

Names are loaded on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knowledge.catalogue import find_model
    from knowledge.engines import EngineSpec, find_engine
    from knowledge.errors import QAdvisorError
    from knowledge.hardware import HardwareSpec, find_hardware
    from knowledge.memory import MemoryEstimate, estimate_memory
    from knowledge.models import ModelSpec
    from knowledge.recipes import QuantMethod, QuantRecipe, parse_recipe
    from knowledge.resolve import resolve_model
    from knowledge.rules import Rule, load_rules
    from knowledge.schemes import QuantArgs, QuantScheme, parse_scheme
    from knowledge.store import KnowledgeStore, open_store
    from knowledge.task_catalogue import find_task, resolve_tasks
    from knowledge.tasks import TaskSpec

_PLACES = {
    "EngineSpec": "knowledge.engines",
    "HardwareSpec": "knowledge.hardware",
    "KnowledgeStore": "knowledge.store",
    "MemoryEstimate": "knowledge.memory",
    "ModelSpec": "knowledge.models",
    "QAdvisorError": "knowledge.errors",
    "QuantArgs": "knowledge.schemes",
    "QuantMethod": "knowledge.recipes",
    "QuantRecipe": "knowledge.recipes",
    "QuantScheme": "knowledge.schemes",
    "Rule": "knowledge.rules",
    "TaskSpec": "knowledge.tasks",
    "estimate_memory": "knowledge.memory",
    "find_engine": "knowledge.engines",
    "find_hardware": "knowledge.hardware",
    "find_model": "knowledge.catalogue",
    "find_task": "knowledge.task_catalogue",
    "load_rules": "knowledge.rules",
    "open_store": "knowledge.store",
    "parse_recipe": "knowledge.recipes",
    "parse_scheme": "knowledge.schemes",
    "resolve_model": "knowledge.resolve",
    "resolve_tasks": "knowledge.task_catalogue",
}

__all__ = [
    "EngineSpec",
    "HardwareSpec",
    "KnowledgeStore",
    "MemoryEstimate",
    "ModelSpec",
    "QAdvisorError",
    "QuantArgs",
    "QuantMethod",
    "QuantRecipe",
    "QuantScheme",
    "Rule",
    "TaskSpec",
    "estimate_memory",
    "find_engine",
    "find_hardware",
    "find_model",
    "find_task",
    "load_rules",
    "open_store",
    "parse_recipe",
    "parse_scheme",
    "resolve_model",
    "resolve_tasks",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'knowledge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
