"""Value types that cost little to define: frozen, keyword-only dataclasses with slots, their methods shared, not compiled.

`dataclasses.dataclass` writes and compiles the source of six methods for every class, half a millisecond each time the program
starts; a hundred value types would be a fifth of a command's time. The methods here are closures over the names of the
fields. To everything else a value type is the dataclass `@dataclass(frozen=True, slots=True, kw_only=True)` would have
made: `fields`, `replace`, `asdict`, equality, hash, `repr`, pickling and type checkers see no difference.
"""

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform

Value = TypeVar("Value")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def value(kind: type[Value]) -> type[Value]:
    """Make a class with annotated fields a value type; `__post_init__` is called where there is one."""
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=True)(kind)
    made.__dataclass_params__.init = made.__dataclass_params__.repr = True
    made.__dataclass_params__.eq = made.__dataclass_params__.frozen = True
    methods = {"__init__": _init(made), "__repr__": _repr, "__setattr__": _refuse_set, "__delattr__": _refuse_delete}
    methods |= _comparison(made) | {"__getstate__": _state, "__setstate__": _restore}
    for name, method in methods.items():
        if name not in made.__dict__ or (name == "__hash__" and made.__dict__[name] is None):
            setattr(made, name, method)
    return made  # type: ignore[no-any-return]


def field_names(item: Any) -> tuple[str, ...]:
    """The names of the fields of a value or value type, in their order."""
    return tuple(item.__dataclass_fields__)


def _init(kind: Any) -> Callable[..., None]:
    """The constructor: one keyword a field."""
    own = fields(kind)
    # Slots are written through their descriptors: the class itself refuses assignment.
    setters = tuple((one.name, getattr(kind, one.name).__set__) for one in own)
    defaults = {one.name: one.default for one in own if one.default is not MISSING}
    factories = {one.name: one.default_factory for one in own if one.default_factory is not MISSING}
    count, prepared = len(setters), hasattr(kind, "__post_init__")

    def __init__(self: Any, /, **given: Any) -> None:
        if len(given) != count:
            given = defaults | {name: make() for name, make in factories.items() if name not in given} | given
            if len(given) != count:
                _complain(kind, given)
        try:
            for name, put in setters:
                put(self, given[name])
        except KeyError:
            _complain(kind, given)
        if prepared:
            self.__post_init__()

    __init__.__qualname__ = f"{kind.__qualname__}.__init__"
    return __init__


def _complain(kind: Any, given: dict[str, Any]) -> NoReturn:
    """Say which argument is wrong, as Python does."""
    names = field_names(kind)
    missing = [repr(name) for name in names if name not in given]
    if missing:
        raise TypeError(f"{kind.__name__}() is missing the arguments {', '.join(missing)}")
    unexpected = next(name for name in given if name not in names)
    raise TypeError(f"{kind.__name__}() got an unexpected argument {unexpected!r}")


def _comparison(kind: Any) -> dict[str, Callable[..., Any]]:
    """Equality and hash over all fields."""
    names = [one.name for one in fields(kind) if one.compare]
    if len(names) > 1:
        read: Callable[[Any], Any] = attrgetter(*names)
    else:  # `attrgetter` of one name gives no tuple
        read = lambda self: tuple(getattr(self, name) for name in names)  # noqa: E731

    def __eq__(self: Any, other: object) -> Any:
        return read(self) == read(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(read(self))

    return {"__eq__": __eq__, "__hash__": __hash__}


def _repr(self: Any) -> str:
    shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({shown})"


def _refuse_set(self: Any, name: str, _: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in field_names(self))


def _restore(self: Any, state: tuple[Any, ...]) -> None:
    for name, content in zip(field_names(self), state, strict=True):
        object.__setattr__(self, name, content)
