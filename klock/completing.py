"""What Tab completes without importing the command line: verbs, and names from lockfiles.

Nobody should have to wait for Tab. `klock.commands` completes everything else with the same functions, in four times
the time. The scripts for shells are click's, and so is the form of questions and answers (`click.shell_completion`).
"""

from __future__ import annotations

import os

from klock.verbs import VERBS

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["answer_to_shell", "images", "names"]

ASKS = "_KLOCK_COMPLETE"
"""The variable that a shell sets when it asks. It names the shell."""

_NAMED = ("why", "remove")
_WITH_IMAGE = ("lock", "sync", "check", "status", "outdated", "tree", "logs", "sign")
"""Verbs whose first argument is an image. That of `_NAMED` is a name."""

_USUAL = ("Dockerfile", "Containerfile")
"""Their lockfile is `kimage.lock` if there is no `kimage.py`."""
_QUOTING = "\"'\\$`"
_WRITTEN_BY_KLOCK = b"# Written by klock."
_MARKS = ("pyproject.toml", "kimage.py", ".git")
"""A folder that has one of these is a project's, as in `klock.project`."""


def answer_to_shell() -> str | None:
    """The answer for the shell that asks; None if only the command line has one."""
    shell = os.environ.get(ASKS, "").removesuffix("_complete")
    try:
        asked = _asked(shell, os.environ["COMP_WORDS"], os.environ["COMP_CWORD"])
    except (LookupError, ValueError):
        return None
    if asked is None:
        return None
    words, begun, cut = asked
    if begun.startswith("-"):
        return None
    found: list[tuple[str, str]]
    if not words:
        found = list(VERBS.items())
    elif len(words) == 1 and words[0] in _NAMED:
        found = [(name, "") for name in names(words[0])]
    elif len(words) == 1 and words[0] in _WITH_IMAGE:
        found = [(image, "") for image in images()]
    else:
        return None
    fitting = [(value, text) for value, text in found if value.startswith(begun)]
    # If nothing fits, the word may name something in another folder, or a file.
    return "".join(_line(shell, value.removeprefix(cut), text) for value, text in fitting) or None


def names(verb: str) -> list[str]:
    """The names in the project's lockfiles that a verb takes: `remove` takes only Python packages."""
    found: set[str] = set()
    for file in _lockfiles():
        with open(file, encoding="utf-8", errors="replace") as lines:
            found.update(_named_in(lines, packages_only=verb == "remove"))
    return sorted(found)


def images() -> list[str]:
    """The images that have a lockfile, as users name them; see `klock.image.loading.lockfile_of`."""
    found = set()
    for lockfile in _lockfiles():
        folder, name = os.path.split(lockfile)
        inside = os.listdir(folder)
        locked = name.removesuffix(".lock")
        for file in inside:
            own = file.removesuffix(".py") if "kimage.py" in inside or file not in _USUAL else "kimage"
            object_or_stage = locked.removeprefix(f"{own}.")
            if locked == own:
                found.add(os.path.relpath(os.path.join(folder, file)))
            elif object_or_stage != locked and _is_image(file):
                found.add(f"{os.path.relpath(os.path.join(folder, file))}:{object_or_stage}")
    return sorted(found)


def _is_image(file: str) -> bool:
    return file.endswith(".py") or "Dockerfile" in file or "Containerfile" in file


def _named_in(lines: Iterable[str], *, packages_only: bool) -> Iterator[str]:
    """The names in a lockfile: packages (also Debian's and conda's) and variables. klock wrote its lines."""
    table = values = ""
    for line in lines:
        if line.startswith("["):
            table = line.strip()
        elif line.endswith(" = [\n"):
            values = line.removesuffix(" = [\n")
        elif line.startswith('name = "'):
            if table == "[[packages]]":
                yield line.split('"')[1]
        elif line.startswith('    {name = "') and not packages_only and values != "wheels":
            yield line.split('"')[1]


def _asked(shell: str, written: str, number: str) -> tuple[list[str], str, str] | None:
    """The words before the one that is begun; that word; what of it the shell does not expect in the answer. None if a
    word is quoted."""
    words = written.split()
    if any(sign in written for sign in _QUOTING):
        return None
    if shell == "fish":
        before = words[1:]
        if number and before and before[-1] == number:
            before.pop()
        return before, number, ""
    if shell not in ("bash", "zsh"):
        return None
    at = int(number)
    before, begun = words[1:at], words[at] if at < len(words) else ""
    # bash splits a word at a colon: the colon is a word too.
    if shell == "bash" and begun == ":" and before:
        return before[:-1], f"{before[-1]}:", f"{before[-1]}:"
    if shell == "bash" and len(before) > 1 and before[-1] == ":":
        return before[:-2], f"{before[-2]}:{begun}", f"{before[-2]}:"
    return before, begun, ""


def _line(shell: str, value: str, text: str) -> str:
    if shell == "zsh":
        return f"plain\n{value}\n{text or '_'}\n"
    return f"plain,{value}\t{text}\n" if shell == "fish" and text else f"plain,{value}\n"


def _lockfiles() -> list[str]:
    """Those in the current folder, or else in the nearest folder above that has some, within the project."""
    try:
        return _lockfiles_from(os.getcwd())
    except OSError:  # it is gone, or one above it may not be listed
        return []


def _lockfiles_from(folder: str) -> list[str]:
    while True:
        inside = sorted(os.listdir(folder))
        paths = [os.path.join(folder, name) for name in inside if name.endswith(".lock")]
        found = [path for path in paths if _is_lockfile(path)]
        above = os.path.dirname(folder)
        if found or above == folder or any(mark in inside for mark in _MARKS):
            return found
        folder = above


def _is_lockfile(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(_WRITTEN_BY_KLOCK)) == _WRITTEN_BY_KLOCK
    except OSError:
        return False
