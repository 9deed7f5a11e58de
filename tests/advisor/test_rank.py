import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from advisor.rank import BROKEN_LOSS, Scores, distinct, rank, undominated


def scores(rows: list[dict[str, float]]) -> Scores:
    """Scores of candidates given as dicts; what is left out is 0."""

    def column(name: str, dtype: type) -> np.ndarray:
        return np.array([row.get(name, 0) for row in rows], dtype=dtype)

    return Scores(
        loss=column("loss", float),
        upper=column("upper", float),
        extrapolated=column("extrapolated", bool),
        engines=column("engines", int),
        total_bytes=column("total", int),
        moved_bytes=column("moved", float),
        slow_kernel=column("slow", bool),
        strong_avoid=column("strong", bool),
        weak_avoid=column("weak", int),
        prefer=column("prefer", int),
    )


BIG = {"loss": 0.0, "total": 16, "moved": 16e9}
MIDDLE = {"loss": 0.004, "total": 8, "moved": 8e9}
SMALL = {"loss": 0.03, "total": 4, "moved": 4e9}


@pytest.mark.parametrize(
    ("objective", "rows", "expected"),
    [
        ("quality", [SMALL, MIDDLE, BIG], [2, 1, 0]),
        ("memory", [BIG, MIDDLE, SMALL], [2, 1, 0]),
        ("speed", [BIG, MIDDLE, SMALL], [2, 1, 0]),
        ("speed", [BIG, SMALL | {"slow": 1}], [0, 1]),
        ("balanced", [BIG, MIDDLE, SMALL], [1, 0, 2]),
        ("balanced", [BIG, MIDDLE | {"weak": 1}, SMALL], [0, 1, 2]),
        ("balanced", [BIG, MIDDLE | {"strong": 1}, SMALL], [0, 2, 1]),
        ("balanced", [MIDDLE, MIDDLE | {"prefer": 1}], [1, 0]),
        ("quality", [BIG | {"strong": 1}, SMALL], [1, 0]),
        ("quality", [BIG | {"extrapolated": 1}, SMALL], [1, 0]),
        ("quality", [SMALL | {"extrapolated": 1}, BIG | {"strong": 1}], [1, 0]),
        ("quality", [BIG | {"strong": 1}, SMALL | {"loss": 0.3}], [0, 1]),
        ("balanced", [MIDDLE | {"upper": 0.4}, MIDDLE | {"upper": 0.1, "moved": 8.01e9}], [1, 0]),
        ("balanced", [MIDDLE | {"engines": 1}, MIDDLE | {"engines": 4}], [1, 0]),
    ],
)
def test_order(objective: str, rows: list[dict[str, float]], expected: list[int]) -> None:
    assert rank(scores(rows), np.ones(len(rows), bool), objective, noise_floor=0.0).tolist() == expected


def test_a_larger_noise_floor_lets_the_smaller_recipe_win() -> None:
    rows = [BIG, SMALL | {"loss": 0.015}]
    everything = np.ones(2, bool)
    assert rank(scores(rows), everything, "balanced", noise_floor=0.01)[0] == 0
    assert rank(scores(rows), everything, "balanced", noise_floor=0.02)[0] == 1


def test_noise_gives_no_leave_to_lose_more_than_the_largest_tolerance() -> None:
    assert rank(scores([BIG, SMALL]), np.ones(2, bool), "balanced", noise_floor=0.5)[0] == 0


def test_only_allowed_candidates_are_ranked() -> None:
    assert rank(scores([BIG, MIDDLE]), np.array([True, False]), "balanced", noise_floor=0.0).tolist() == [0]
    assert rank(scores([BIG]), np.array([False]), "balanced", noise_floor=0.0).tolist() == []


points = hnp.arrays(float, st.integers(1, 30), elements=st.floats(0, 1).map(lambda x: round(x, 2)))


@given(points, st.sampled_from(["balanced", "quality", "speed", "memory"]), st.randoms())
def test_every_allowed_candidate_is_ranked_once(loss: np.ndarray, objective: str, random) -> None:
    rows = [
        {"loss": x, "total": random.randint(1, 9), "moved": random.randint(1, 9), "strong": random.random() < 0.3} for x in loss
    ]
    allowed = np.array([random.random() < 0.7 for _ in rows])
    table = scores(rows)
    order = rank(table, allowed, objective, noise_floor=0.01)
    assert sorted(order.tolist()) == np.flatnonzero(allowed).tolist()
    strong = table.strong_avoid[order][table.loss[order] < BROKEN_LOSS]
    assert not np.any(strong[:-1] & ~strong[1:]), "a recipe that a strong rule advises against stands before one it does not"


@given(points, st.randoms())
def test_pareto_front_against_the_definition(loss: np.ndarray, random) -> None:
    total = np.array([random.randint(1, 9) for _ in loss])
    moved = np.array([float(random.randint(1, 9)) for _ in loss])
    allowed = np.array([random.random() < 0.8 for _ in loss])
    table = np.column_stack([loss, total, moved])
    for i in range(len(loss)):
        beaten = any(allowed[j] and np.all(table[j] <= table[i]) and np.any(table[j] < table[i]) for j in range(len(loss)))
        assert undominated(i, loss, total, moved, allowed) == (not beaten)


def test_runners_up_differ_in_kind() -> None:
    assert distinct(np.array([4, 3, 2, 1, 0]), ["c", "b", "b", "a", "a"].__getitem__, 2) == [4, 2]
