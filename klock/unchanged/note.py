"""A note of a command's answer, and whether it still holds.

One file for each folder and command line, `records/unchanged/<name>` in the store. Lines end with a line feed:

    klock-unchanged 3
    <digest of the process's circumstances>
    <the answer, for stderr; a carriage return ends each of its lines but the last>
    <kind> <what is so> NUL <what it is so of>        any number of them

Kinds: `c` the content of a file, whoever wrote it and when; `s` a path's stat, through symlinks; `l` its own; `f`
whether it is a file, a folder or a symlink; `-` that it does not exist; `i` the id of an image of podman's or docker's,
where `<socket> NUL <name>` leads to it (`image_at`); `t` that a folder of the store's trees is as it was made.
"""

import os
import sys

# Imported in every start of klock, so it imports next to nothing. The module that hashlib takes blake2b from:
from _blake2 import blake2b

from klock.store_folder import store_folder

__all__ = ["FORMAT", "LARGEST_READ", "answer", "circumstances", "file_of", "image_at", "line_of", "line_of_tree"]

FORMAT = b"klock-unchanged 3"

LARGEST_READ = 1 << 20
"""Bytes. Of what is larger the stat has to do: reading it would take longer than the answer may."""

OF_A_TERMINAL = (
    *(b"COLUMNS", b"ITERM_SESSION_ID", b"LINES", b"OLDPWD", b"SHLVL", b"SSH_CLIENT", b"SSH_CONNECTION", b"SSH_TTY"),
    *(b"TERM_SESSION_ID", b"TMUX_PANE", b"WINDOWID", b"XDG_SESSION_ID", b"_"),
)
"""Variables that are others in each terminal, and that klock does not ask for."""

_TYPE, _FILE = 0o170000, 0o100000
"""Of a mode (inode(7)). The module stat is not imported here."""


def file_of(arguments: list[str], store: str) -> str:
    """Where the note of a command line is, for the current folder."""
    name = _digest([os.fsencode(os.getcwd()), *map(os.fsencode, arguments)])
    return os.path.join(store, "records", "unchanged", name.decode())


def circumstances(arguments: list[str], *, every_variable: bool) -> bytes:
    """The digest of all that a process is given: variables, folder, user, machine, Python and klock.

    Without `every_variable` those do not count that tell one terminal from another.
    """
    given = sorted(os.environb.items())
    variables = [name + b"=" + value for name, value in given if every_variable or name not in OF_A_TERMINAL]
    facts = [os.getcwd(), sys.executable, sys.version, __file__, os.uname().machine, str(os.geteuid())]
    return _digest([*map(os.fsencode, facts), b"", *map(os.fsencode, arguments), b"", *variables])


def _digest(parts: list[bytes]) -> bytes:
    hasher = blake2b(digest_size=16)
    for part in parts:
        hasher.update(b"%d:" % len(part))
        hasher.update(part)
    return hasher.hexdigest().encode()


def answer(arguments: list[str]) -> str | None:
    """The noted answer to a command line, if everything behind it is as it was."""
    try:
        with open(file_of(arguments, store_folder()), "rb") as file:
            lines = file.read().split(b"\n")
        if len(lines) < 4 or lines[-1] != b"" or lines[0] != FORMAT:
            return None
        if lines[1] not in [circumstances(arguments, every_variable=every) for every in (False, True)]:
            return None
        for line in lines[3:-1]:
            if line_of(line[:1], line[line.index(b"\0") + 1 :]) != line:
                return None
    except (OSError, ValueError):
        return None
    return os.fsdecode(lines[2]).replace("\r", "\n")


def image_at(socket: bytes, name: bytes) -> bytes:
    """What a line of kind `i` is about: the image of a name, in the engine that listens on a socket."""
    return socket + b"\0" + name


def line_of_tree(path: bytes) -> bytes:
    """What a note says of a folder of the store's trees."""
    return b"t \0" + path


def line_of(kind: bytes, path: bytes) -> bytes | None:
    """What a note says of a path now, or None when that cannot be said: it is not there, or there against `-`.

    Raises OSError or ValueError when an engine does not answer.
    """
    if kind == b"i":
        from klock.unchanged.asking import image_id

        socket, _, name = path.partition(b"\0")
        found = image_id(socket, name)
        return None if found is None else b"i " + found + b" \0" + path
    if kind == b"t":
        from klock.tree_stats import is_as_noted

        return line_of_tree(path) if is_as_noted(os.fsdecode(path), may_move=True) else None
    if kind == b"c":
        found = _content_of(path)
        return None if found is None else b"c " + found + b" \0" + path
    try:
        status = os.lstat(path) if kind in b"lf-" else os.stat(path)
    except OSError:
        return b"- \0" + path if kind == b"-" else None
    match kind:
        case b"s" | b"l":
            fields = b"%d %d %d %d %d %d" % (
                status.st_dev,
                status.st_ino,
                status.st_mode,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
            return kind + b" " + fields + b" \0" + path
        case b"f":
            return b"f %o \0" % (status.st_mode & _TYPE) + path
    return None


def _content_of(path: bytes) -> bytes | None:
    """The digest of a regular file's bytes. Raises OSError for one that cannot be read."""
    status = os.stat(path)
    if status.st_mode & _TYPE != _FILE or status.st_size > LARGEST_READ:
        return None
    with open(path, "rb") as file:
        return blake2b(file.read(LARGEST_READ + 1), digest_size=32).hexdigest().encode()
