"""`qadvisor apply`: handed over to the measuring layer, by the way of `qadvisor measure`."""

from advisor.cli.measure import apply_app as app

__all__ = ["app"]
