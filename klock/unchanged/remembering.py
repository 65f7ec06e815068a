"""Writes a note of an answer: the stat of all that a command looked at, when nothing else can have had a part in it."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from klock.errors import KlockError
from klock.files.digest_cache import RACY_NANOSECONDS
from klock.image.deterministic import is_deterministic
from klock.image.loading import LoadedImage
from klock.image.local_packages import package_root
from klock.image.steps import Step
from klock.lockfile.model import Lockfile, StepLock
from klock.steps import kind_of, kind_of_image_step
from klock.store import FOLDERS, Store
from klock.unchanged.note import (
    FORMAT,
    LARGEST_READ,
    OF_A_TERMINAL,
    circumstances,
    file_of,
    image_at,
    line_of,
    line_of_tree,
)
from klock.unchanged.watching import Seen
from klock.values import dataclass

__all__ = ["Looked", "looked"]

_MARKS: Final = (
    *("pyproject.toml", "kimage.py", ".git", ".gitignore", ".ktignore", ".klockignore", ".dockerignore"),
    *("setup.py", "setup.cfg", "requirements.txt", "uv.toml"),
)
"""What is looked for in a folder and all above it: a project's root, its settings and those of uv, ignore files, a
package's root."""

_ASKING: Final = (b"environ", b"getenv", *(name for name in OF_A_TERMINAL if len(name) > 1))
"""Words of an image file that may ask for any variable, or for one that is another in each terminal."""

_OF_THE_MACHINE: Final = ("/dev/", "/proc/", "/sys/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a command has looked at so far, as it was then."""

    seen: Seen
    lines: frozenset[bytes]
    store: Store
    every_variable: bool
    """Whether the answer may be another one in another terminal."""

    def remember(
        self,
        answer: str,
        *,
        environment: Iterable[Path] = (),
        settings: Iterable[Path] = (),
        image: tuple[str, str] | None = None,
        is_so: Callable[[], bool] = lambda: True,
        trust_store: bool = False,
    ) -> None:
        """Notes `answer` for the command line.

        What has to stay as it is too: `environment`, files and folders of the store; `settings`, files that may be
        absent; `image`, the socket of an engine and the name of an image there. They are looked at before `is_so` is
        asked whether the answer holds for them. With `trust_store` a tree of the store need only be there.
        """
        with suppress(OSError, ValueError, KlockError, _CannotTell):
            paths = list(environment)
            lines = {*self.lines, *(_line(b"s", path) for path in paths)}
            if not trust_store:
                trees = self.store.root / "trees"
                # They were looked at just now, or else the next command does all of its work.
                lines |= {line_of_tree(os.fsencode(path)) for path in paths if path.parent == trees}
            lines |= {_line(b"s" if path.exists() else b"-", path) for path in settings}
            if image is not None:
                lines.add(_line(b"i", image_at(*map(os.fsencode, image))))
            if is_so():
                self._write(answer, sorted(lines))

    def _write(self, answer: str, lines: list[bytes]) -> None:
        said = os.fsencode(answer.replace("\n", "\r"))
        given = circumstances(self.seen.arguments, every_variable=self.every_variable)
        final = Path(file_of(self.seen.arguments, str(self.store.root)))
        with self.store.temporary_file() as path:
            path.touch(mode=0o600)
            path.write_bytes(b"\n".join([FORMAT, given, said, *lines, b""]))
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)


def looked(seen: Seen | None, *, loaded: LoadedImage, lock: Lockfile, store: Store) -> Looked | None:
    """To be called as soon as the command has found that this image and lockfile agree, before it does anything.

    None where more than files decides (a GPU's driver, an image file that is not deterministic), or where a file is so
    young that another change could have the same time.
    """
    if seen is None or not seen.is_all or any(t.target.accelerator != "cpu" for t in lock.targets):
        return None
    try:
        text = loaded.file.read_bytes()
        if not loaded.is_dockerfile and not is_deterministic(text):
            return None
        paths = _paths(seen, loaded, lock, store)
        lines = frozenset(_line(kind, path, before=seen.started) for kind, path in paths)
    except (OSError, KlockError, _CannotTell):
        return None
    every_variable = any(word in text for word in _ASKING)
    return Looked(seen=seen, lines=lines, store=store, every_variable=every_variable)


class _CannotTell(Exception):
    """Something cannot be vouched for by its stat."""


def _paths(seen: Seen, loaded: LoadedImage, lock: Lockfile, store: Store) -> Iterator[tuple[bytes, str | Path]]:
    stores = tuple(f"{store.root}{os.sep}{name}{os.sep}" for name in FOLDERS)
    if f"{loaded.root}{os.sep}".startswith(stores):
        raise _CannotTell
    loaded_by_python = set(_files_of_modules())
    # Of these every path has a line of its own, and there may be many.
    sources = [source for step, _ in _steps_with_their_locks(loaded, lock) if (source := _source_of(step)) is not None]
    copied = tuple(f"{source}{os.sep}" for source in sources)
    for path in seen.paths:
        if path.startswith(_OF_THE_MACHINE):
            raise _CannotTell
        if not path.startswith(stores) and path not in loaded_by_python:
            yield b"s" if path.startswith(copied) or not _is_short_file(path) else b"c", path
    for module in list(sys.modules.values()):
        if module.__name__.partition(".")[0] == "klock" and module.__file__:
            yield b"s", module.__file__
    starts = {Path.cwd(), loaded.root}
    for step, locked in _steps_with_their_locks(loaded, lock):
        kind = kind_of_image_step(step)
        source = _source_of(step)
        if locked is not None and kind_of(locked) is kind:
            starts |= {Path(os.path.normpath(loaded.root / folder)) for folder in kind.looks_into(locked)}
        if source is None:
            continue
        if (named := kind.named_path(step)) is None:
            raise _CannotTell  # found among the installed packages, by name
        yield b"s", package_root(loaded.root) / named.expanduser()
        starts |= {source, source.resolve()}
        yield b"s", source
        if locked is None or kind_of(locked) is not kind:
            raise _CannotTell  # --frozen: the image is another one
        for path in kind.copied_paths(locked):
            yield b"l", source / path
    own = (f"{loaded.file.name}.dockerignore",) if loaded.is_dockerfile else ()
    for folder in {folder for start in starts for folder in (start, *start.parents)}:
        for mark in (*_MARKS, *own):
            place = folder / mark
            # What is in it counts where it was read. An ignore file that is a symlink is not.
            yield b"f" if os.path.lexists(place) else b"-", place


def _source_of(step: Step) -> Path | None:
    source = kind_of_image_step(step).source(step)
    return None if source is None else source.absolute()


def _is_short_file(path: str) -> bool:
    status = os.stat(path)
    return stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_READ


def _steps_with_their_locks(loaded: LoadedImage, lock: Lockfile) -> Iterator[tuple[Step, StepLock | None]]:
    """The image's own, and those of the stages that it takes files from."""
    target = lock.targets[0]
    stages = {stage.name: stage.steps for stage in target.stages}
    parts = [(loaded.image.steps, target.steps)]
    parts += [(stage.steps, stages.get(stage.name, ())) for stage in loaded.image.stages]
    for steps, locks in parts:
        yield from zip(steps, itertools.chain(locks, itertools.repeat(None)), strict=False)


def _files_of_modules() -> Iterator[str]:
    """What Python has read to run klock. Its own modules are looked at one by one."""
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        for path in (getattr(module, "__file__", None), getattr(spec, "cached", None)):
            if isinstance(path, str):
                yield path


def _line(kind: bytes, path: str | bytes | Path, *, before: int | None = None) -> bytes:
    """Raises _CannotTell for what is not there, or changed after `before`, as klock may have read it before that."""
    name = os.fsencode(path)
    line = line_of(kind, name)
    if line is None or b"\n" in name:
        raise _CannotTell
    if before is not None and kind in b"slc":
        status = path.lstat() if isinstance(path, Path) and kind == b"l" else os.stat(path)
        if status.st_ctime_ns + RACY_NANOSECONDS >= before:
            raise _CannotTell
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            raise _CannotTell
    return line
