"""Values to and from plain tables, driven by their annotations, with errors that say where.

    LayerLock(digest="sha256:...", files=3, size=10)  <->  {"digest": "sha256:...", "files": 3, "size": 10}

Keys are the field names with `-` for `_`. A field that has its default is left out; an unknown key is an error. A field
named `mode` is written in octal (`"0644"`), and one typed `Digest` or named `sha256` must look like one.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from klock.digests import is_digest
from klock.documents import shown
from klock.errors import LockfileError
from klock.values import dataclass, defaults_of, is_value

__all__ = ["check_types", "decode", "encode"]

T = TypeVar("T")

_NONE: Final = object()
"""Stands for no default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    name: str
    key: str
    type: Any
    default: Any


_known: Final[dict[type, tuple[_Field, ...]]] = {}


def _fields(cls: type) -> tuple[_Field, ...]:
    if cls not in _known:
        hints = typing.get_type_hints(cls)
        _known[cls] = tuple(
            _Field(name=name, key=name.replace("_", "-"), type=hints[name], default=default)
            for name, default in defaults_of(cls, _NONE).items()
        )
    return _known[cls]


def encode(value: Any) -> dict[str, Any]:
    """The table of a value."""
    table: dict[str, Any] = {}
    for field in _fields(type(value)):
        item = getattr(value, field.name)
        if item is None or (field.default is not _NONE and item == field.default):
            continue
        table[field.key] = f"{item:04o}" if field.name == "mode" else _encode_value(item)
    return table


def _encode_value(item: Any) -> Any:
    if isinstance(item, tuple):
        return [_encode_value(i) for i in item]
    if is_value(item):
        return encode(item)
    return item


def decode(cls: type[T], table: object, where: str) -> T:
    """An instance of `cls` from a table. Raises LockfileError naming the place, such as `steps[2].layer.size`."""
    if not isinstance(table, Mapping):
        raise LockfileError(f"{where}: {_name_of(table)} where a table is expected")
    fields = _fields(cls)
    if unknown := sorted(set(table) - {f.key for f in fields}):
        raise LockfileError(f"{where}: unknown key {shown(unknown[0])}")
    values: dict[str, Any] = {}
    for field in fields:
        place = f"{where}.{field.key}"
        if field.key in table:
            values[field.name] = _decode_field(field, table[field.key], place)
        elif field.default is not _NONE:
            values[field.name] = field.default
        elif type(None) in typing.get_args(field.type):
            values[field.name] = None
        else:
            raise LockfileError(f"{place} is missing")
    return cls(**values)


def check_types(value: Any, place: str) -> None:
    """Raises LockfileError, as `decode` does, for a field that is not of its type in an instance made otherwise."""
    for field in _fields(type(value)):
        item = getattr(value, field.name)
        if is_value(item):
            check_types(item, f"{place}.{field.key}")
        elif item is not None or type(None) not in typing.get_args(field.type):
            _decode_value(field.type, list(item) if isinstance(item, tuple) else item, f"{place}.{field.key}")


def _decode_field(field: _Field, item: object, place: str) -> Any:
    if field.name == "mode":
        if not isinstance(item, str) or not re.fullmatch(r"[0-7]{4}", item):
            raise LockfileError(f'{place}: {shown(item)} is not a mode such as "0644"')
        return int(item, 8)
    value = _decode_value(field.type, item, place)
    if field.name in _DIGEST_FIELDS and isinstance(value, str) and not is_digest(value):
        raise LockfileError(f"{place}: {shown(value)} is not a SHA-256 digest")
    if field.name == "sha256" and not re.fullmatch(r"[0-9a-f]{64}", value):
        raise LockfileError(f"{place}: {shown(value)} is not a SHA-256 in hex")
    return value


_DIGEST_FIELDS = frozenset({"digest", "diff_id", "tree", "index_digest"})


def _decode_value(kind: Any, item: object, place: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in typing.get_args(kind) if a is not type(None))
        return _decode_value(inner, item, place)
    if origin is tuple:
        if not isinstance(item, list):
            raise LockfileError(f"{place}: {_name_of(item)} where an array is expected")
        arguments = typing.get_args(kind)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_decode_value(arguments[0], i, f"{place}[{n}]") for n, i in enumerate(item))
        if len(item) != len(arguments):
            raise LockfileError(f"{place}: {len(item)} items where {len(arguments)} are expected")
        return tuple(_decode_value(a, i, f"{place}[{n}]") for n, (a, i) in enumerate(zip(arguments, item, strict=True)))
    if is_value(kind):
        return decode(typing.cast("type[Any]", kind), item, place)
    if type(item) is not kind:
        raise LockfileError(f"{place}: {_name_of(item)} where {_NAMES.get(kind, kind)} is expected")
    if kind is int and not 0 <= typing.cast(int, item) <= _LARGEST:
        raise LockfileError(f"{place}: {shown(item)} is {'negative' if typing.cast(int, item) < 0 else 'too large'}")
    if kind is str and "\0" in typing.cast(str, item):
        raise LockfileError(f"{place}: {shown(item)} has a NUL character in it")
    return item


_LARGEST: Final = 2**63 - 1
"""What TOML 1.0 lets an integer be."""

_NAMES: dict[Any, str] = {str: "a string", int: "an integer", bool: "a boolean", list: "an array", dict: "a table"}


def _name_of(item: object) -> str:
    return _NAMES.get(type(item), type(item).__name__)
