"""`qadvisor measure …`: handed over to the measuring layer, the only edge from advice to it."""

from measure.cli import app

__all__ = ["app"]
