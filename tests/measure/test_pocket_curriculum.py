"""When sequences and sums grow in training."""

import pytest

pytest.importorskip("torch")

from measure.pocket.curriculum import LENGTHS, Curriculum

pytestmark = pytest.mark.measure

NOTHING = {"look-up": 0.0, "sums": 0.0}


def test_sequences_grow_one_stage_each_time_look_ups_are_learned():
    curriculum = Curriculum()
    assert [curriculum.advance(step, 0.0, {"look-up": 0.9, "sums": 0.0}) for step in range(5)] == [True] * 3 + [False] * 2
    assert curriculum.stages == [(0, 64), (0, 128), (1, 256), (2, 512)]
    assert curriculum.length == LENGTHS[-1]
    assert (curriculum.large, curriculum.large_from) == (0.0, None)


def test_sums_grow_once_they_are_learned_and_stay_large():
    curriculum = Curriculum()
    for step, right in enumerate((0.5, 0.96, 0.5)):
        assert not curriculum.advance(step, 0.0, {"look-up": 0.0, "sums": right})
    assert curriculum.large > 0
    assert curriculum.large_from == 1
    assert curriculum.length == LENGTHS[0]


def test_what_is_not_learned_does_not_hold_up_the_rest():
    curriculum = Curriculum()
    grown = [step for step in range(100) if curriculum.advance(step, step / 100, NOTHING)]
    assert len(grown) == len(LENGTHS) - 1 == 3
    assert curriculum.large_from is not None
    assert curriculum.large_from < 50
