"""Home folders, from `/etc/passwd` inside an environment, as container engines set HOME from it."""

from __future__ import annotations

__all__ = ["home_of", "is_root"]


def is_root(user: str) -> bool:
    """Whether a config's `User` (`name`, `uid`, either with `:group`, or nothing) is the superuser."""
    return user.partition(":")[0] in ("", "root", "0")


def home_of(user: str, passwd: bytes) -> str:
    """The home folder of `user` (as in an OCI config); `/` for one that has no entry, as runc and crun have it."""
    name = user.partition(":")[0] or "root"
    for line in passwd.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) >= 7 and (fields[0] == name or (name.isdigit() and fields[2] == name)):
            return fields[5] or "/"
    return "/root" if is_root(user) else "/"
