"""Where a Python has what is installed. With the wheel it decides what `klock.packages.wheel_layout` lays out."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from klock.errors import LockfileError
from klock.lockfile.model import InstallFolders, Interpreter
from klock.values import dataclass

if TYPE_CHECKING:
    from installer.utils import Scheme as SchemeName

__all__ = ["LAYOUT", "Scheme"]

LAYOUT: Final = 1
"""The version of these rules: others may lay out other files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Where a Python has installed files. `python` is what scripts are run by; the rest is `Interpreter`'s."""

    python: str
    folders: InstallFolders
    links: Mapping[str, str]

    @classmethod
    def of(cls, interpreter: Interpreter) -> Scheme:
        """Raises LockfileError when the lockfile does not say, as it was written by an older klock."""
        if interpreter.folders is None:
            raise LockfileError("the lockfile does not say where its Python has packages", hint="run `klock lock`")
        return cls(python=interpreter.path, folders=interpreter.folders, links=dict(interpreter.links))

    def key(self) -> list[object]:
        """What the layout of a wheel depends on, beside the wheel."""
        return [LAYOUT, self.python, asdict(self.folders), sorted(self.links.items())]

    def folder(self, name: str, *, project: str) -> str:
        found: str = getattr(self.folders, name)
        return f"{found}/{project}" if name == "headers" else found

    def path_of(self, name: SchemeName, path: str, *, project: str) -> str:
        """The path, relative to the root, of a file that a wheel of `project` has for the folder `name`.

        Raises ValueError for a path that leads out of that folder.
        """
        folder = self.folder(name, project=project)
        found = posixpath.normpath(f"{folder}/{path}")
        if not found.startswith(folder.rstrip("/") + "/") or "\0" in path:
            raise ValueError(f"{path!r} leads out of the folder that it is for")
        for link, target in self.links.items():
            if found.startswith(link + "/"):
                found = posixpath.normpath(target + found[len(link) :])
        return found.lstrip("/")
