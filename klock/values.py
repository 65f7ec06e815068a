"""Frozen values: `@dataclass(frozen=True, slots=True, kw_only=True)`, quicker to define than the standard library's.

It also has their `field` and `replace`, and makes classes of the same kind that are not frozen or have no slots.

`dataclasses` writes the source of six methods for each class and compiles it, which takes half a millisecond a class. A
short command defines two hundred: that would be most of its start. Here the methods are functions that were compiled
with this module, so a class takes a tenth of that. To make an instance takes about a microsecond more:
`klock.layers.manifest.Entry`, of which there are tens of thousands, stays with the standard library.

A value is a dataclass to everybody else: `fields`, `replace` and `is_dataclass` take it. Type checkers see
`dataclasses.dataclass`. Every field is an argument of `__init__`. What `dataclasses` keeps of a class is made when it
asks: importing `dataclasses` takes as long as starting a command in an environment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial, total_ordering
from operator import attrgetter

TYPE_CHECKING = False

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
    from inspect import Signature
    from typing import Any, NoReturn
else:

    def dataclass(**options: bool) -> Callable[[type], type]:
        """As in the standard library, which makes the classes that are not values."""
        made = _KINDS.get(frozenset(options.items()))
        if made is not None:
            return made
        from dataclasses import dataclass as standard

        return standard(**options)

    def field(**options: Any) -> _Given:
        """As in the standard library, for classes that are made here."""
        return _Given(**options)

    def replace(value: Any, /, **changes: Any) -> Any:
        """As in the standard library."""
        every = getattr(type(value), _FIELDS, None)
        if every is None:
            from dataclasses import replace as standard

            return standard(value, **changes)
        return type(value)(**{**{name: getattr(value, name) for name in every}, **changes})


__all__ = ["dataclass", "defaults_of", "field", "is_value", "replace"]

_NONE = object()
"""Stands for no default."""


def defaults_of(cls: type, none: object) -> dict[str, Any]:
    """The fields of a class that is made here, in order, each with its default; `none` for a field without one."""
    every: dict[str, _Field] = getattr(cls, _FIELDS)
    return {field.name: none if field.default is _NONE else field.default for field in every.values()}


def is_value(found: object) -> bool:
    """Whether it is a class that is made here, or an instance of one."""
    return hasattr(found, _FIELDS)


class _Given:
    """What a class's text says of a field."""

    __slots__ = ("compare", "default", "default_factory", "repr")

    def __init__(
        self,
        *,
        default: object = _NONE,
        default_factory: Callable[[], Any] | None = None,
        compare: bool = True,
        repr: bool = True,
    ) -> None:
        self.default, self.default_factory, self.compare, self.repr = default, default_factory, compare, repr

    def standard(self) -> Any:
        """The same as `dataclasses.field` has it."""
        from dataclasses import field

        options: dict[str, Any] = {"compare": self.compare, "repr": self.repr}
        if self.default_factory is not None:
            options["default_factory"] = self.default_factory
        if self.default is not _NONE:
            options["default"] = self.default
        return field(**options)


class _Field:
    """What the methods below need to know of a field."""

    __slots__ = ("compare", "default", "factory", "name", "repr")

    def __init__(self, name: str, given: object) -> None:
        """`given` is what the class's text has for the name: a default, what `field` or `dataclasses.field` returns, or
        _NONE."""
        standard = sys.modules.get("dataclasses")
        self.name = name
        self.default, self.factory = given, None
        self.compare = self.repr = True
        if isinstance(given, _Given):
            self.default, self.factory = given.default, given.default_factory
            self.compare, self.repr = given.compare, given.repr
        elif standard is not None and isinstance(given, standard.Field):
            missing = standard.MISSING
            self.default = _NONE if given.default is missing else given.default
            self.factory = None if given.default_factory is missing else given.default_factory
            self.compare, self.repr = given.compare, given.repr


def _value(cls: type, *, frozen: bool = True, slots: bool = True) -> type[Any]:
    given = cls.__dict__
    if cls.__doc__ is None:
        # Without one the standard library writes a signature, which takes as long as all the rest.
        cls.__doc__ = cls.__name__
    own = {name: given.get(name, _NONE) for name in cls.__annotations__}
    made = _with_slots(cls, own) if slots else _without_defaults(cls, own)
    every = {**_fields_above(cls), **{name: _Field(name, value) for name, value in own.items()}}
    fields = list(every.values())
    names = tuple(every)
    compared = _getter([field.name for field in fields if field.compare])
    methods: dict[str, Any] = {
        "__init__": _initialiser(fields, then=getattr(made, "__post_init__", None)),
        "__repr__": _describer([field.name for field in fields if field.repr]),
        "__eq__": _comparer(compared),
        "__hash__": _hasher(compared) if frozen else None,
        "__replace__": replace,
        "__match_args__": (),
        "__signature__": _SIGNATURE,
        _FIELDS: every,
        **{name: _Asked(name, made, own) for name in ("__dataclass_fields__", "__dataclass_params__")},
    }
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
    if slots:
        methods |= {"__getstate__": _state_of(names), "__setstate__": _setter_of_state(names)}
    for name, method in methods.items():
        # A class that has `__eq__` alone gets a `__hash__` of None from Python.
        if given.get(name) is None:
            setattr(made, name, method)
    return made


_FIELDS = "__fields_of_value__"


def _with_slots(cls: type, own: dict[str, object]) -> type[Any]:
    """The class again, with slots for its own fields."""
    taken = {name for base in cls.__mro__[1:] for name in base.__dict__.get("__slots__", ())}
    left_out = {"__dict__", "__weakref__", *own}
    body = {name: value for name, value in cls.__dict__.items() if name not in left_out}
    body["__slots__"] = tuple(name for name in own if name not in taken)
    made: type[Any] = type(cls)(cls.__name__, cls.__bases__, body)
    made.__qualname__ = cls.__qualname__
    return made


def _without_defaults(cls: type, own: dict[str, object]) -> type[Any]:
    """The class itself. A `field` in its text goes: instances would find it as a default."""
    for name, given in own.items():
        if isinstance(given, _Given):
            delattr(cls, name)
    return cls


def _fields_above(cls: type) -> dict[str, _Field]:
    found: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:]):
        if (values := base.__dict__.get(_FIELDS)) is not None:
            found.update(values)
        elif (standard := base.__dict__.get("__dataclass_fields__")) is not None:
            found.update((name, _Field(name, field)) for name, field in standard.items())
    return found


class _Asked:
    """What `dataclasses` keeps of a class under `name`. Its own code makes it when it asks, from a class with the same
    text."""

    def __init__(self, name: str, made: type, own: dict[str, object]) -> None:
        self._name, self._made, self._own = name, made, own

    def __get__(self, instance: object, owner: type) -> Any:
        from dataclasses import dataclass as standard

        made = self._made
        kept = {name: value for name, value in vars(made).items() if name in ("__module__", "__orig_bases__")}
        defaults = {
            name: value.standard() if isinstance(value, _Given) else value
            for name, value in self._own.items()
            if value is not _NONE
        }
        annotations = {"__annotations__": dict(made.__annotations__), "__doc__": made.__doc__}
        text = type(made)(made.__name__, made.__bases__, {**kept, **defaults, **annotations})
        noted = getattr(standard(init=False, repr=False, eq=False, kw_only=True)(text), self._name)
        setattr(made, self._name, noted)
        return noted


def _ordered(cls: type) -> type[Any]:
    """A value that can be sorted by its fields, in their order."""
    made = _value(cls)
    key = _getter([field.name for field in vars(made)[_FIELDS].values() if field.compare])

    def less(self: object, other: object) -> bool:
        return key(self) < key(other) if other.__class__ is self.__class__ else NotImplemented

    setattr(made, "__lt__", less)  # noqa: B010
    return total_ordering(made)


_KINDS = {
    frozenset({("frozen", True), ("slots", True), ("kw_only", True)}): _value,
    frozenset({("frozen", True), ("kw_only", True)}): partial(_value, slots=False),
    frozenset({("slots", True), ("kw_only", True)}): partial(_value, frozen=False),
    frozenset({("kw_only", True)}): partial(_value, frozen=False, slots=False),
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


def _initialiser(fields: list[_Field], then: Callable[[Any], None] | None) -> Callable[..., None]:
    names = tuple(field.name for field in fields)
    defaults = {field.name: field.default for field in fields if field.default is not _NONE}
    factories = [(field.name, field.factory) for field in fields if field.factory is not None]
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
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state_of(names: tuple[str, ...]) -> Callable[[Any], list[Any]]:
    def state(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    return state


def _setter_of_state(names: tuple[str, ...]) -> Callable[[Any, list[Any]], None]:
    def set_state(self: Any, state: list[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return set_state


class _Signature:
    """`inspect.signature` of a value's class, worked out when somebody asks, such as `help` or a notebook."""

    def __get__(self, instance: object, owner: type) -> Signature:
        from inspect import Signature

        return Signature(list(_parameters(owner)))


def _parameters(owner: type[Any]) -> Iterator[Any]:
    from dataclasses import MISSING, fields
    from inspect import Parameter

    for field in fields(owner):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        default = field.default if field.default is not MISSING else ... if has_default else Parameter.empty
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=field.type)


_SIGNATURE = _Signature()
