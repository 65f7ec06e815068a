"""The form of `kimage.lock`: TOML, one entry a line, sorted where order means nothing, equal bytes for equal locks.

Tables that are equal for all targets stand once; a table that holds for some names them in `targets`, and one of a
stage that files are taken from names it in `of-stage`. Package tables
follow PEP 751 (`name`, `version`, `index`, `dependencies`, `wheels`, `sdist`, `vcs`), what klock adds is in
`packages.tool.klock`. The last line tells a whole file from one that was cut off.
"""

from __future__ import annotations

from typing import Final

from klock.lockfile.model import (
    AptLock,
    ArgumentsLock,
    BaseLock,
    CondaLock,
    CopyLock,
    DebianLock,
    EnvLock,
    FilesLock,
    OciLock,
    PipLock,
    PythonLock,
    ServiceLock,
    SettingsLock,
    ShellLock,
    StepLock,
    WorkdirLock,
)

__all__ = ["BASES", "LAST_LINE", "LOCK_VERSION", "STEPS"]

LOCK_VERSION: Final = "1.0"
LAST_LINE: Final = "# end of the lockfile\n"

BASES: Final[dict[str, type[BaseLock]]] = {"oci": OciLock, "debian": DebianLock}
"""The kinds of bases, by the name that their table has for `kind`."""

STEPS: Final[dict[str, type[StepLock]]] = {
    "set_env_vars": EnvLock,
    "pip_install": PipLock,
    "apt_install": AptLock,
    "copy": FilesLock,
    "run_bash": ShellLock,
    "service": ServiceLock,
    "arguments": ArgumentsLock,
    "settings": SettingsLock,
    "workdir": WorkdirLock,
    "copy_in": CopyLock,
    "add_python": PythonLock,
    "conda_install": CondaLock,
}
"""The kinds of steps, likewise."""
