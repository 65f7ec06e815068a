"""What of /tmp and /var/tmp lasts from one instruction to a later one: in an environment these folders are empty."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Final

from klock.image.dockerfile.parsing import Instruction
from klock.image.steps import SetWorkingDir, Step

__all__ = ["kept_for", "kept_here"]

_KEPT_PLACES: Final = re.compile(r"(?<![\w.-])/(?:var/)?tmp/[^\s'\"`;&|<>()]*")
_TEMPORARY: Final = re.compile(r"(?P<place>/(?:var/)?tmp)(?:/(?P<first>[^/$]+)(?:/[^$]*)?)?")
_STOP: Final = re.compile(r"[$\\{}]")
# Where something is mounted, a command does not see what an earlier step left there.
_MOUNT: Final = re.compile(r"--mount=\S+")


def kept_for(later: Sequence[Instruction]) -> tuple[str, ...]:
    """What of /tmp and /var/tmp a later instruction names: those folders are empty in an environment, and layers leave
    them out, but between two steps a Dockerfile may hand on a file there."""
    found: set[str] = set()
    for instruction in later:
        texts = (instruction.rest, *(text.content for text in instruction.texts))
        for path in (path for text in texts for path in _KEPT_PLACES.findall(_MOUNT.sub("", text))):
            place = "/var/tmp" if path.startswith("/var/") else "/tmp"
            first = path.removeprefix(f"{place}/").partition("/")[0]
            known = _STOP.split(first)[0]
            found.add(posixpath.join(place, first if known == first else f"{known}*"))
    return tuple(sorted(pattern for pattern in found if pattern.rpartition("/")[2]))


def kept_here(before: Sequence[Step], later: Sequence[Instruction]) -> Iterator[str]:
    """What of /tmp and /var/tmp a later command may find without naming it, since it begins there (WORKDIR)."""
    here = "/"
    for step in before:
        if isinstance(step, SetWorkingDir):
            here = posixpath.normpath(posixpath.join(here, step.path))
    match = _TEMPORARY.fullmatch(here)
    if match is not None and any(each.name == "RUN" for each in later):
        yield f"{match['place']}/{match['first'] or '*'}"
