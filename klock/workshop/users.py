"""The user a command runs as, found in the environment's own files (passwd(5), group(5), OCI image-spec `User`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from klock.errors import ImageError
from klock.workshop.overlay import resolve

__all__ = ["User", "find_user", "give_streams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def find_user(root: str, text: str) -> User:
    """Reads `name`, `uid`, `name:group` or `uid:gid` against the tree at `root`; "" is root. Raises ImageError.

    As container runtimes do: a number is an id, whatever accounts are called, and needs no entry (its group is 0 then);
    a group that is given is the only one.
    """
    name, _, group = text.partition(":")
    name = name or "0"
    known = next((f for f in _fields(root, "/etc/passwd", 4) if _is_meant(name, f)), None)
    if known:
        uid, gid = int(known[2]), int(known[3])
    elif name.isdigit():
        uid, gid = int(name), 0
    elif name == "root":
        uid, gid = 0, 0
    else:
        raise ImageError(
            f"the environment has no user {name!r} in its /etc/passwd", hint="name another user in the base image"
        )
    if group:
        return User(uid=uid, gid=_find_group(root, group))
    members = [f for f in _fields(root, "/etc/group", 4) if known and known[0] in f[3].split(",")]
    return User(uid=uid, gid=gid, groups=tuple(sorted({int(f[2]) for f in members} - {gid})))


def _is_meant(text: str, fields: list[str]) -> bool:
    return int(text) == int(fields[2]) if text.isdigit() else text == fields[0]


def _find_group(root: str, group: str) -> int:
    for fields in _fields(root, "/etc/group", 3):
        if _is_meant(group, fields):
            return int(fields[2])
    if group.isdigit():
        return int(group)
    raise ImageError(
        f"the environment has no group {group!r} in its /etc/group", hint="name another group in the base image"
    )


def _fields(root: str, path: str, least: int) -> Iterator[list[str]]:
    try:
        with open(resolve(root, path), encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) >= least and fields[2].isdigit() and (path != "/etc/passwd" or fields[3].isdigit()):
            yield fields


def give_streams(user: User) -> None:
    """Lets `user` open this process's pipes again, as /dev/stdout: they belong to who made them. runc does the same.

    Files and terminals keep their owner.
    """
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if user.uid != 0 and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                os.fchown(descriptor, user.uid, -1)
