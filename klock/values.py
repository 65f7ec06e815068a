"""Frozen values: `@dataclass(frozen=True, slots=True, kw_only=True)`, quicker to define than the standard library's.

`dataclasses` writes the source of six methods for each class and compiles it, which takes half a millisecond a class. A
short command defines two hundred, and that was most of what starting cost. Here the methods are functions that were
compiled with this module, so a class takes a tenth of that. To make an instance takes about a microsecond more:
`klock.layers.manifest.Entry`, of which there are tens of thousands, stays with the standard library.

A value is a dataclass to everybody else: `fields`, `replace` and `is_dataclass` take it. Type checkers see
`dataclasses.dataclass`. Every field is an argument of `__init__`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field
from functools import total_ordering
from operator import attrgetter

TYPE_CHECKING = False

if TYPE_CHECKING:
    from dataclasses import dataclass
    from inspect import Signature
    from typing import Any, NoReturn
else:

    def dataclass(**options: bool) -> Callable[[type], type]:
        """As in the standard library, which makes the classes that are not values."""
        return _KINDS.get(frozenset(options.items())) or dataclasses.dataclass(**options)


__all__ = ["dataclass"]


def _value(cls: type) -> type[Any]:
    given = cls.__dict__
    if cls.__doc__ is None:
        # Without one the standard library writes a signature, which takes as long as all the rest.
        cls.__doc__ = cls.__name__
    made: type[Any] = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=True)(cls)
    fields = dataclasses.fields(made)
    compared = _getter([field.name for field in fields if field.compare])
    methods: dict[str, Any] = {
        "__init__": _initialiser(fields, then=getattr(made, "__post_init__", None)),
        "__repr__": _describer([field.name for field in fields if field.repr]),
        "__eq__": _comparer(compared),
        "__hash__": _hasher(compared),
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
        "__getstate__": _state,
        "__setstate__": _set_state,
        "__signature__": _SIGNATURE,
    }
    for name, method in methods.items():
        # A class that has `__eq__` alone gets a `__hash__` of None from Python.
        if given.get(name) is None:
            setattr(made, name, method)
    return made


def _ordered(cls: type) -> type[Any]:
    """A value that can be sorted by its fields, in their order."""
    made = _value(cls)
    key = _getter([field.name for field in dataclasses.fields(made) if field.compare])

    def less(self: object, other: object) -> bool:
        return key(self) < key(other) if other.__class__ is self.__class__ else NotImplemented

    setattr(made, "__lt__", less)  # noqa: B010
    return total_ordering(made)


_KINDS = {
    frozenset({("frozen", True), ("slots", True), ("kw_only", True)}): _value,
    frozenset({("frozen", True), ("slots", True), ("kw_only", True), ("order", True)}): _ordered,
}


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    match names:
        case []:
            return lambda _: ()
        case [name]:
            return lambda value: (getattr(value, name),)
        case _:
            return attrgetter(*names)


# -- the methods


def _initialiser(fields: tuple[Field[Any], ...], then: Callable[[Any], None] | None) -> Callable[..., None]:
    names = tuple(field.name for field in fields)
    defaults = {field.name: field.default for field in fields if field.default is not MISSING}
    factories = [(field.name, field.default_factory) for field in fields if field.default_factory is not MISSING]
    put = object.__setattr__

    def initialise(self: Any, /, **given: Any) -> None:
        values = {**defaults, **given}
        for name, make in factories:
            if name not in values:
                values[name] = make()
        if len(values) != len(names):
            raise TypeError(_complaint(type(self), names, values))
        try:
            for name in names:
                put(self, name, values[name])
        except KeyError:
            raise TypeError(_complaint(type(self), names, values)) from None
        if then is not None:
            then(self)

    return initialise


def _complaint(cls: type, names: tuple[str, ...], values: dict[str, Any]) -> str:
    """What Python would say of a function with these parameters."""
    call = f"{cls.__qualname__}.__init__()"
    unknown = [name for name in values if name not in names]
    if unknown:
        return f"{call} got an unexpected keyword argument {unknown[0]!r}"
    missing = [repr(name) for name in names if name not in values]
    return (
        f"{call} missing {len(missing)} required keyword-only argument{'s'[: len(missing) - 1]}: {', '.join(missing)}"
    )


def _describer(names: list[str]) -> Callable[[Any], str]:
    def described(self: Any) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return described


def _comparer(compared: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any, object], bool]:
    def equals(self: Any, other: object) -> bool:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    return equals


def _hasher(compared: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], int]:
    def hashed(self: Any) -> int:
        return hash(compared(self))

    return hashed


def _refuse_to_set(self: object, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


class _Signature:
    """`inspect.signature` of a value's class, worked out when somebody asks, such as `help` or a notebook."""

    def __get__(self, instance: object, owner: type) -> Signature:
        from inspect import Signature

        return Signature(list(_parameters(owner)))


def _parameters(owner: type[Any]) -> Iterator[Any]:
    from inspect import Parameter

    for field in dataclasses.fields(owner):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        default = field.default if field.default is not MISSING else ... if has_default else Parameter.empty
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=field.type)


_SIGNATURE = _Signature()
