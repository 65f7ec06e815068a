"""What is left out without being asked: build products, version control, and what ignore files name.

`.gitignore`, `.ktignore` and `.klockignore` are read as git reads them (gitignore(5)): in every folder from the
repository's root down, the deepest file first, the last matching line deciding. A folder that is left out is not
entered, so nothing below it can be brought back. The matching is our own rather than pathspec's, which judges whole
paths: asked about a folder it says yes to `data/**`, and then `!data/keep` is lost.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from klock.errors import ImageError
from klock.files.globs import git_regex
from klock.lockfile.model import FIRST_LINE
from klock.values import dataclass

__all__ = [
    "ALWAYS_LEFT_OUT",
    "IGNORE_FILES",
    "IgnorePattern",
    "IgnoreRules",
    "ignore_rules_above",
    "is_always_left_out",
    "is_own_lockfile",
    "parse_ignore_lines",
]

IGNORE_FILES: Final = (".gitignore", ".ktignore", ".klockignore")
"""Later files decide over earlier ones in the same folder."""

ALWAYS_LEFT_OUT: Final = ("*.pyc", "__pycache__", ".venv", ".git")
"""Only an explicit include in `filter_options` brings these back: a whitelist like `*` and `!*/` in .gitignore must
not."""

_LOCKFILE: Final = re.compile(r".+\.lock(\.[0-9a-f]{12})?")
"""A lockfile's name, or what it has while it is written."""

_ALWAYS: Final = frozenset(name for name in ALWAYS_LEFT_OUT if "*" not in name)


def is_own_lockfile(name: str, path: str) -> bool:
    """Whether the file at `path` is a lockfile of klock's: what holds its own lockfile would change each time."""
    return ".lock" in name and _LOCKFILE.fullmatch(name) is not None and _begins_as_lockfile(path)


def is_always_left_out(name: str, path: str) -> bool:
    """By a file's name, or because the file at `path` is a lockfile of klock's: locking what has its own lockfile in it
    would make it another, each time."""
    if name in _ALWAYS or name.endswith(".pyc"):
        return True
    return is_own_lockfile(name, path)


def _begins_as_lockfile(path: str) -> bool:
    first = FIRST_LINE.encode()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            return file.read(len(first)) == first
    except OSError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnorePattern:
    """One line: what it matches, and whether that leaves a path out or (`!`) brings it back."""

    regex: bytes
    leaves_out: bool
    folders_only: bool
    basename_only: bool


class _IgnoreFolder:
    """The lines of one folder's ignore files. `prefix` is the folder's path and a slash, as in the paths asked
    about."""

    __slots__ = ("_any_name", "_any_path", "_patterns", "prefix")

    def __init__(self, prefix: bytes, patterns: list[IgnorePattern]) -> None:
        self.prefix = prefix
        self._patterns = [(re.compile(p.regex, re.DOTALL), p) for p in reversed(patterns)]
        # Most paths match nothing: two searches say so, whatever the number of lines.
        self._any_name = _union([p.regex for p in patterns if p.basename_only])
        self._any_path = _union([p.regex for p in patterns if not p.basename_only])

    def decide(self, path: bytes, *, is_folder: bool) -> bool | None:
        """True: left out; False: brought back; None: not mentioned."""
        below = path[len(self.prefix) :]
        name = below[below.rfind(b"/") + 1 :]
        if not (self._any_name.fullmatch(name) or self._any_path.fullmatch(below)):
            return None
        for regex, pattern in self._patterns:
            if pattern.folders_only and not is_folder:
                continue
            if regex.fullmatch(name if pattern.basename_only else below):
                return pattern.leaves_out
        return None


class IgnoreRules:
    """The ignore files that apply in one folder, its own first. Immutable: `entered` gives the rules one folder
    deeper."""

    __slots__ = ("_folders",)

    def __init__(self, folders: tuple[_IgnoreFolder, ...] = ()) -> None:
        self._folders = folders

    def leaves_out(self, path: bytes, *, is_folder: bool) -> bool:
        """Whether the last line that matches says so. `path` is absolute; only itself is judged, not its parents."""
        for folder in self._folders:
            decision = folder.decide(path, is_folder=is_folder)
            if decision is not None:
                return decision
        return False

    def entered(self, folder: bytes, ignore_files: list[str], *, where: str) -> IgnoreRules:
        """The rules inside the absolute path `folder`, which holds `ignore_files`."""
        patterns: list[IgnorePattern] = []
        for name in IGNORE_FILES:
            if name in ignore_files:
                patterns += parse_ignore_lines(_read(Path(os.fsdecode(folder)) / name, where))
        if not patterns:
            return self
        return IgnoreRules((_IgnoreFolder(folder.rstrip(b"/") + b"/", patterns), *self._folders))


def ignore_rules_above(source: Path, root: Path, *, where: str) -> IgnoreRules:
    """The rules of the folders above `source`: from its repository's root (the nearest folder with `.git`), else from
    `root`, the image's folder, if the source is in it; else none. Host-wide rules (core.excludesFile) take no part,
    since a lock must not depend on the host."""
    parents = list(source.parents)
    top = next((p for p in (source, *parents) if (p / ".git").exists()), None)
    if top is None:
        top = root if root in parents else source
    rules = IgnoreRules()
    for folder in reversed([p for p in parents if p == top or top in p.parents]):
        present = [name for name in IGNORE_FILES if _is_plain_file(folder / name)]
        rules = rules.entered(os.fsencode(folder), present, where=where)
    return rules


def parse_ignore_lines(content: bytes) -> list[IgnorePattern]:
    """The patterns of an ignore file, in order."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [pattern for line in lines if (pattern := _parse_line(line.removesuffix(b"\r"))) is not None]


def _parse_line(line: bytes) -> IgnorePattern | None:
    if line.startswith(b"#"):
        return None
    line = _without_trailing_spaces(line)
    leaves_out = not line.startswith(b"!")
    pattern = line if leaves_out else line[1:]
    folders_only = pattern.endswith(b"/")
    if folders_only:
        pattern = pattern[:-1]
    if not pattern:
        return None
    return IgnorePattern(
        regex=git_regex(pattern.removeprefix(b"/")),
        leaves_out=leaves_out,
        folders_only=folders_only,
        basename_only=b"/" not in pattern,
    )


def _without_trailing_spaces(line: bytes) -> bytes:
    r"""Trailing spaces do not count unless a backslash stands before them: `a\ ` ends with a space."""
    match = re.fullmatch(rb"((?:\\.|[^\\])*?) *", line, re.DOTALL)
    return match[1] if match else line


def _union(regexes: list[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(regexes) if regexes else b"(?!)", re.DOTALL)


def _is_plain_file(path: Path) -> bool:
    """git does not follow an ignore file that is a symlink, nor do we."""
    return path.is_file() and not path.is_symlink()


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{where}: cannot read {path}: {error.strerror}", hint="make the ignore file readable, or remove it"
        ) from error
