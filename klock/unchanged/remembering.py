"""Writes a note of an answer: the stat of all that a command looked at, when nothing else can have had a part in it."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from klock.errors import KlockError
from klock.files.destination import source_path
from klock.files.known import RACY_NANOSECONDS
from klock.image.loading import LoadedImage
from klock.image.plain import is_plain
from klock.image.steps import CopyFiles, SyncPackage
from klock.lockfile.model import FilesLock, Lockfile
from klock.store import Store
from klock.unchanged.note import FORMAT, circumstances, file_of, line_of
from klock.unchanged.watching import Seen

__all__ = ["remember"]

_MARKS: Final = (
    *("pyproject.toml", "kimage.py", ".git", ".gitignore", ".ktignore", ".klockignore"),
    *("setup.py", "setup.cfg", "requirements.txt"),
)
"""What is looked for in a folder and all above it: a project's root, its settings, ignore files, a package's root."""

_OF_THE_MACHINE: Final = ("/dev/", "/proc/", "/sys/")
_KLOCK: Final = str(Path(__file__).parents[1]) + os.sep
_PYTHONS: Final = (os.path.dirname(os.__file__) + os.sep, f"{os.sep}site-packages{os.sep}")


def remember(
    seen: Seen | None,
    answer: str,
    *,
    loaded: LoadedImage,
    lock: Lockfile,
    store: Store,
    environment: Iterable[Path] = (),
) -> None:
    """Notes `answer` for the command line that has `seen` this image and lockfile, and found that they agree.

    `environment`: files and folders of the store that have to stay as they are too. Nothing is noted where more than
    files decides (a GPU's driver, an image file that is not plain), or where a file is so young that another change
    could have the same time.
    """
    if seen is None or not seen.is_all or any(t.target.accelerator != "cpu" for t in lock.targets):
        return
    with contextlib.suppress(OSError, KlockError, _CannotTell):
        if not is_plain(loaded.file.read_bytes()):
            return
        lines = {_line(b"s", path) for path in environment}
        for kind, path in _paths(seen, loaded, lock, store):
            lines.add(_line(kind, path, before=seen.started))
        _write(seen, answer, sorted(lines), store)


class _CannotTell(Exception):
    """Something cannot be vouched for by its stat."""


def _paths(seen: Seen, loaded: LoadedImage, lock: Lockfile, store: Store) -> Iterator[tuple[bytes, str | Path]]:
    inside = f"{store.root}{os.sep}"
    for path in seen.paths:
        if path.startswith(_OF_THE_MACHINE):
            raise _CannotTell
        if not path.startswith(inside) and not _is_installed(path):
            yield b"s", path
    for module in list(sys.modules.values()):
        if module.__name__.partition(".")[0] == "klock" and module.__file__:
            yield b"s", module.__file__
    starts = {Path.cwd(), loaded.root}
    for position, step in enumerate(loaded.image.steps):
        if isinstance(step, SyncPackage):
            if "/" not in step.package:
                raise _CannotTell  # found among the installed packages, by name
            source = Path(step.path)
            yield b"s", loaded.root / Path(step.package).expanduser()
        elif isinstance(step, CopyFiles):
            source = source_path(step).absolute()
        else:
            continue
        starts |= {source, source.resolve()}
        yield b"s", source
        locked = lock.targets[0].steps[position]
        assert isinstance(locked, FilesLock)
        for entry in locked.entries:
            yield b"l", source / entry.path
    for folder in {folder for start in starts for folder in (start, *start.parents)}:
        for mark in _MARKS:
            yield b"e" if os.path.lexists(folder / mark) else b"-", folder / mark


def _is_installed(path: str) -> bool:
    """Whether Python itself reads it to run klock; klock's own modules are looked at one by one."""
    return any(part in path + os.sep for part in _PYTHONS) or path.startswith(_KLOCK)


def _line(kind: bytes, path: str | Path, *, before: int | None = None) -> bytes:
    """Raises _CannotTell for what is not there, or changed after `before`, as klock may have read it before that."""
    name = os.fsencode(path)
    line = line_of(kind, name)
    if line is None or b"\n" in name:
        raise _CannotTell
    if before is not None and kind in b"sl":
        status = path.lstat() if isinstance(path, Path) and kind == b"l" else os.stat(path)
        if status.st_ctime_ns + RACY_NANOSECONDS >= before:
            raise _CannotTell
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            raise _CannotTell
    return line


def _write(seen: Seen, answer: str, lines: list[bytes], store: Store) -> None:
    content = b"\n".join([FORMAT, circumstances(seen.arguments), os.fsencode(answer), *lines, b""])
    final = Path(file_of(seen.arguments, str(store.root)))
    with store.temporary_file() as path:
        path.touch(mode=0o600)
        path.write_bytes(content)
        final.parent.mkdir(parents=True, exist_ok=True)
        path.replace(final)
