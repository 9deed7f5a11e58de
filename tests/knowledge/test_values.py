"""A value type is to everybody what a frozen, keyword-only dataclass with slots is."""

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.values import field_names, value


@value
class Point:
    """A point."""

    x: float
    y: float = 0.0
    labels: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")

    @property
    def sum(self) -> float:
        return self.x + self.y


@value
class Single:
    """One field."""

    name: str


@value
class Empty:
    """No field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What `Single` is modelled on."""

    name: str


def test_defaults_are_filled_in_and_factories_called_anew() -> None:
    one, other = Point(x=1.0), Point(x=1.0)
    assert (one.y, one.labels, one.sum) == (0.0, [], 1.0)
    assert one.labels is not other.labels


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Point(), TypeError, "missing the arguments 'x'"),
        (lambda: Point(x=1.0, z=2.0), TypeError, "unexpected argument 'z'"),
        (lambda: Point(x=1.0, y=2.0, labels=[], z=2.0), TypeError, "unexpected argument 'z'"),
        (lambda: Point(1.0), TypeError, "positional"),
        (lambda: Point(x=-1.0), ValueError, "negative"),
        (lambda: setattr(Point(x=1.0), "x", 2.0), FrozenInstanceError, "cannot assign to field 'x'"),
        (lambda: setattr(Point(x=1.0), "z", 2.0), FrozenInstanceError, "cannot assign to field 'z'"),
        (lambda: delattr(Point(x=1.0), "x"), FrozenInstanceError, "cannot delete field 'x'"),
        (lambda: replace(Point(x=1.0), x=-1.0), ValueError, "negative"),
    ],
)
def test_what_is_refused(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


@given(st.floats(0, 9), st.floats(0, 9))
def test_equality_hash_and_copies(x: float, y: float) -> None:
    point = Point(x=x, y=y, labels=["a"])
    for same in (replace(point), copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert (same, hash(same), same.labels) == (point, hash(point), ["a"])
        assert same is not point
    assert (Point(x=x, y=y) == Point(x=y, y=x)) == (x == y)
    assert point == replace(point, labels=[])  # which are no part of the comparison


@given(st.text())
def test_one_field_behaves_as_in_a_dataclass(name: str) -> None:
    mine, model = Single(name=name), Model(name=name)
    assert (hash(mine), repr(mine), asdict(mine)) == (hash(model), repr(model).replace("Model", "Single"), asdict(model))
    assert mine != model
    assert mine != (name,)


def test_no_field() -> None:
    assert Empty() == Empty()
    assert repr(Empty()) == "Empty()"
    assert hash(Empty()) == hash(Empty())


def test_the_machinery_of_dataclasses_sees_one() -> None:
    assert is_dataclass(Point)
    assert field_names(Point) == field_names(Point(x=1.0)) == tuple(one.name for one in fields(Point)) == Point.__slots__
    assert asdict(Point(x=1.0)) == {"x": 1.0, "y": 0.0, "labels": []}
    assert repr(Point(x=1.0)) == "Point(x=1.0, y=0.0, labels=[])"
    assert Point.__dataclass_params__ == inspect.getattr_static(Point, "__dataclass_params__")
    assert Point.__dataclass_params__.frozen
    assert not hasattr(Point(x=1.0), "__dict__")
