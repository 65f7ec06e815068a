"""The user a command runs as, found in the environment's own files (passwd(5), group(5), OCI image-spec `User`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from klock.errors import ImageError
from klock.values import dataclass
from klock.workshop.overlay import resolve
from klock.workshop.regular_files import read_regular

__all__ = ["Read", "User", "find_owner", "find_user", "give_streams", "reading"]

Read: TypeAlias = "Callable[[str], bytes | None]"
"""Gives the bytes of a file at an absolute path, or None when there is none."""


_DIGITS: Final = 10
_NO_ID: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def find_user(root: str, text: str) -> User:
    """The user `text` of the tree at `root`; see `_find`."""
    return _find(reading(root), text)


def _find(read: Read, text: str) -> User:
    """`name`, `uid`, `name:group` or `uid:gid` in what `read` gives of a tree; "" is root. Raises ImageError.

    As container runtimes do: a number is an id, whatever accounts are called, and needs no entry (its group is 0 then);
    a group that is given is the only one.
    """
    name, _, group = text.partition(":")
    name = name or "0"
    known = next((f for f in _fields(read, "/etc/passwd", 4) if _is_meant(name, f)), None)
    if known:
        uid, gid = int(known[2]), int(known[3])
    elif _is_id(name):
        uid, gid = int(name), 0
    elif name == "root":
        uid, gid = 0, 0
    else:
        raise ImageError(
            f"the environment has no user {name!r} in its /etc/passwd", hint="name another user in the base image"
        )
    if group:
        return User(uid=uid, gid=_find_group(read, group))
    members = [f for f in _fields(read, "/etc/group", 4) if known and known[0] in f[3].split(",")]
    return User(uid=uid, gid=gid, groups=tuple(sorted({int(f[2]) for f in members} - {gid})))


def find_owner(read: Read, text: str) -> tuple[int, int]:
    """The ids of the owner and the group that files of `text`, as `find_user` reads it, get. An id alone is the group's
    too. A colon without a group means root's."""
    if _is_id(text):
        return int(text), int(text)
    name, colon, group = text.partition(":")
    if _is_id(name) and _is_id(group):
        return int(name), int(group)
    user = _find(read, text)
    return user.uid, user.gid if group or not colon else 0


def reading(root: str) -> Read:
    """What reads the files of the tree at `root`."""

    def read(path: str) -> bytes | None:
        try:
            return read_regular(resolve(root, path))
        except OSError:  # symlinks without end
            return None

    return read


def _is_meant(text: str, fields: list[str]) -> bool:
    return int(text) == int(fields[2]) if _is_id(text) else text == fields[0]


def _find_group(read: Read, group: str) -> int:
    for fields in _fields(read, "/etc/group", 3):
        if _is_meant(group, fields):
            return int(fields[2])
    if _is_id(group):
        return int(group)
    raise ImageError(
        f"the environment has no group {group!r} in its /etc/group", hint="name another group in the base image"
    )


def _fields(read: Read, path: str, least: int) -> Iterator[list[str]]:
    content = read(path) or b""
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and _is_id(fields[2]) and (path != "/etc/passwd" or _is_id(fields[3])):
            yield fields


def _is_id(text: str) -> bool:
    """Whether it is a number that an account may have: other digits than ASCII's are a name, as are larger numbers."""
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) < _NO_ID


def give_streams(user: User) -> None:
    """Lets `user` open this process's pipes again, as /dev/stdout: they belong to who made them. runc does the same.

    Files and terminals keep their owner.
    """
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if user.uid != 0 and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                os.fchown(descriptor, user.uid, -1)
