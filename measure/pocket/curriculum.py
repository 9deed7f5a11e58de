"""The order in which a pocket model meets its skills: short look-ups before long ones, small sums before large ones."""

from collections.abc import Mapping

LENGTHS = (64, 128, 256, 512)
"""Tokens of the sequences of text and look-ups. Attention learns to match names in short records first."""

_LOOK_UPS_LEARNED = 0.85
"""Share of right answer tokens in look-ups at which sequences grow."""
_SUMS_LEARNED = 0.95
"""Share of right answer tokens in sums of numbers up to 99 at which larger numbers join."""
_LARGE = 0.6
"""Share of the sums that then have numbers up to 999."""
_LONGEST_STAGE = 0.4 / 1.5
"""Share of the training after which the next stage comes anyway."""


class Curriculum:
    """The present stage of training.

    Attributes:
        length: tokens of a sequence of text or look-ups.
        large: share of the sums that have numbers up to 999.
        stages: for the record, the step at which each length began.
        large_from: the step from which on sums have numbers up to 999, None before.
    """

    def __init__(self) -> None:
        self.length = LENGTHS[0]
        self.large = 0.0
        self.stages = [(0, LENGTHS[0])]
        self.large_from: int | None = None
        self._entered = 0.0

    def advance(self, step: int, done: float, right: Mapping[str, float]) -> bool:
        """Go on to the next stage if it is time.

        Args:
            step: steps so far.
            done: share of the training that is done.
            right: share of right answer tokens by kind of passage.

        Returns:
            Whether sequences grew, so that what is known about look-ups is out of date.
        """
        if self.large_from is None and (right["sums"] > _SUMS_LEARNED or done > _LONGEST_STAGE):
            self.large, self.large_from = _LARGE, step
        learned = right["look-up"] > _LOOK_UPS_LEARNED or done - self._entered > _LONGEST_STAGE
        if not learned or self.length == LENGTHS[-1]:
            return False
        self.length = LENGTHS[LENGTHS.index(self.length) + 1]
        self.stages.append((step, self.length))
        self._entered = done
        return True
