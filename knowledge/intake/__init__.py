"""From files of anyone to rows of evidence: run records, harness output, tables, other knowledge bases.

Files are data: nothing in them is executed or unpickled, sizes and depths are limited, every value is checked. What cannot
be taken is quarantined with its file, row and reason; nothing is dropped in silence, nothing is taken twice.
"""

from knowledge.intake.collect import take_in
from knowledge.intake.result import Intake, Quarantined

__all__ = ["Intake", "Quarantined", "take_in"]
