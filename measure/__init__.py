"""Quantize models and record what it costs: plan, run, verify. Running needs the `measure` extra."""

from measure.models import ModelSource, locate_model
from measure.plan import Cell, Plan, make_plan
from measure.presets import PROTOCOLS, Protocol, expand_recipes
from measure.runner import run_plan

__all__ = ["PROTOCOLS", "Cell", "ModelSource", "Plan", "Protocol", "expand_recipes", "locate_model", "make_plan", "run_plan"]
