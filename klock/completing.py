"""What Tab completes where nothing of the command line has to be imported for it: verbs, and what lockfiles name.

A Tab must not be felt. All else `klock.commands` completes, in four times the time, by the same functions. What shells
ask and are answered is click's affair (`click.shell_completion`): klock has click write the scripts that ask.
"""

from __future__ import annotations

import os

from klock.verbs import VERBS

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["answer_to_shell", "images", "names"]

ASKS = "_KLOCK_COMPLETE"
"""The variable by which a shell says that it asks, and which it is."""

_NAMED = ("why", "remove")
_WITH_IMAGE = ("lock", "sync", "check", "status", "outdated", "tree", "logs", "sign")
"""The verbs whose first argument is a name, and the image."""

_USUAL = ("Dockerfile", "Containerfile")
"""Their lockfile is `kimage.lock`, where there is no `kimage.py`."""
_QUOTING = "\"'\\$`"
_WRITTEN_BY_KLOCK = b"# Written by klock."
_MARKS = ("pyproject.toml", "kimage.py", ".git")
"""What makes a folder a project's, as `klock.project` has it."""


def answer_to_shell() -> str | None:
    """What the shell that asks is to be told; None where the command line has to be asked."""
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
    # What no lockfile has may be in another folder, or be a file.
    return "".join(_line(shell, value.removeprefix(cut), text) for value, text in fitting) or None


def names(verb: str) -> list[str]:
    """What the lockfiles of the project have that a verb's NAME may be: of `remove` only Python packages."""
    found: set[str] = set()
    for file in _lockfiles():
        with open(file, encoding="utf-8", errors="replace") as lines:
            found.update(_named_in(lines, packages_only=verb == "remove"))
    return sorted(found)


def images() -> list[str]:
    """The images that have a lockfile, as a command line names them; see `klock.image.loading.lockfile_of`."""
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
    """The names in a lockfile, whose text is klock's own: packages, those of Debian and conda, and variables."""
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
    """The words before the one that is begun, that one, and what of it the shell has already; None where a word is
    quoted."""
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
    # bash takes a colon for a word of its own, and what is behind it for another.
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
    """Those in the current folder, or else in the nearest above that has some, within the project."""
    folder = os.getcwd()
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
