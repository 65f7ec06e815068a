"""Why a source has to be built that nobody asked for: which wheels there are of the version, and that none fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Final

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from klock.words import first_of

__all__ = ["has_wheels", "why_no_wheel"]

_MOST: Final = 8


def why_no_wheel(version: str, file_names: Iterable[str], tags: Sequence[str]) -> str:
    """What of `file_names`, a project's files, keeps `version` from having a wheel for a Python that takes `tags`, best
    first: `has wheels for cp39, cp310 only, not for cp311`. Empty when one fits.
    """
    wheels = list(_wheels(version, file_names))
    if not wheels:
        return "has no wheel"
    accepted = [Tag(*tag.split("-", 2)) for tag in tags]
    if not accepted or any(wheel & set(accepted) for wheel in wheels):
        return ""
    there = {tag for wheel in wheels for tag in wheel}
    best = accepted[0]
    fits = {(tag.interpreter, tag.abi) for tag in accepted}
    left = {tag for tag in there if (tag.interpreter, tag.abi) in fits}
    if left:
        return f"has wheels for {_listed(left, 'platform')} only, not for {best.platform} or older"
    part = "abi" if any(tag.interpreter == best.interpreter for tag in there) else "interpreter"
    return f"has wheels for {_listed(there, part)} only, not for {getattr(best, part)}"


def has_wheels(version: str, file_names: Iterable[str]) -> bool:
    """Whether there is a wheel of `version` among a project's files, for whatever Python."""
    return any(True for _ in _wheels(version, file_names))


def _wheels(version: str, file_names: Iterable[str]) -> Iterable[frozenset[Tag]]:
    for name in file_names:
        try:
            _, found, _, tags = parse_wheel_filename(name)
            if found == Version(version):
                yield tags
        except (InvalidWheelFilename, InvalidVersion):
            continue


def _listed(tags: Iterable[Tag], part: str) -> str:
    return first_of(sorted({getattr(tag, part) for tag in tags}, key=_natural), most=_MOST)


def _natural(text: str) -> tuple[str, int, str]:
    """cp39 before cp310."""
    digits = "".join(takewhile(str.isdigit, text.lstrip("abcdefghijklmnopqrstuvwxyz")))
    return text.rstrip("0123456789"), int(digits or 0), text
