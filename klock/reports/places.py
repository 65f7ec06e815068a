"""Where a finding is shown: a file of the repository, and a line of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from klock.findings import Finding
from klock.values import dataclass

__all__ = ["Checks", "Place", "Places"]

_LOCATION: Final = re.compile(r"(?P<file>.+):(?P<line>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`path` is from the root of the repository, with slashes; `line` counts from 1."""

    path: str
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """`folder` is the image file's, which locations start at; findings without one are shown at `lockfile`."""

    folder: Path
    lockfile: Path

    @property
    def root(self) -> Path:
        """The root of the repository that the folder is in; without one, the folder itself."""
        folder = self.folder.absolute()
        return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), folder)

    def of(self, finding: Finding) -> Place:
        match = _LOCATION.fullmatch(finding.location or "")
        if match is None:
            return Place(path=self._inside(self.lockfile))
        return Place(path=self._inside(self.folder / match["file"]), line=int(match["line"]))

    def _inside(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What was compared, in the words of `Code.kind`, all findings of that, and which kinds of them are failures."""

    compared: Sequence[str]
    findings: Sequence[Finding]
    fatal: frozenset[str]

    def is_failure(self, finding: Finding) -> bool:
        return finding.code.kind in self.fatal
