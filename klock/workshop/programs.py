"""Whether a command can start: looks for its program and its working directory in the tree that it will see."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

from klock.workshop.command import Command, Mount
from klock.workshop.overlay import resolve
from klock.workshop.users import User

__all__ = ["has_folder", "problem_with_program"]

# The exit statuses of shells.
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127


def has_folder(root: str, path: str, mounts: Sequence[Mount]) -> bool:
    """Whether a command in the tree at `root` will see a folder at `path`.

    bubblewrap mounts when the command starts, /dev and /proc too, so nothing of that is there to look at.
    """
    inside = resolve(root, path)
    places = [(resolve(root, mount.target), str(mount.source)) for mount in mounts]
    places += [(f"{root}{target}", target) for target in ("/dev", "/proc", "/sys")]
    for target, source in reversed(places):
        if f"{inside}/".startswith(f"{target}/"):
            return os.path.isdir(source + inside.removeprefix(target))
    return os.path.isdir(inside)


def problem_with_program(root: str, command: Command, user: User) -> tuple[int, str] | None:
    """The exit status that a shell would give, and the reason, when the tree at `root` has no program for `command`."""
    name = command.argv[0]
    if "/" in name:
        candidates = [name if name.startswith("/") else f"{command.working_dir}/{name}"]
    else:
        candidates = [f"{folder}/{name}" for folder in command.environment.get("PATH", "").split(":") if folder]
    mounted = tuple(mount.target for mount in command.mounts)
    if any(_is_program(resolve(root, path), user) or path.startswith(mounted) for path in candidates):
        return None
    if any(os.path.exists(resolve(root, path)) for path in candidates):
        return _NOT_EXECUTABLE, "not an executable file"
    return _NOT_FOUND, "no such program"


def _is_program(path: str, user: User) -> bool:
    """Whether it is a file that `user` may execute."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    if user.uid == 0:
        bits = 0o111
    elif user.uid == status.st_uid:
        bits = 0o100
    else:
        bits = 0o010 if status.st_gid in (user.gid, *user.groups) else 0o001
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & bits)
