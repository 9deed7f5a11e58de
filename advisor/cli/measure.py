"""`qadvisor measure …` and `qadvisor apply`: handed over to the measuring layer, the only edge from advice to it."""

from measure.cli import app, apply_app

__all__ = ["app", "apply_app"]
