"""Steps: all that klock knows of a kind of step stands in that kind's room.

kind       what the rest of klock may ask of any kind
at         a step where it stands: its lock, its position, what is below
context    what making and replaying steps need around them
keys       a step's key: the digest of its own content and of all it builds on
pip, apt, conda, python, files, shell, variables, service,
and of Dockerfiles copying, settings, workdir, arguments      the rooms
web        what steps fetch by URL
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from klock.image.steps import (
    AddPython,
    AptInstall,
    CondaInstall,
    Configure,
    CopyFiles,
    DeclareArguments,
    FromContext,
    PipInstall,
    RunBash,
    RunCommand,
    SetEnvVars,
    SetWorkingDir,
    SyncPackage,
)
from klock.lockfile.model import (
    AptLock,
    ArgumentsLock,
    CondaLock,
    CopyLock,
    EnvLock,
    FilesLock,
    PipLock,
    PythonLock,
    ServiceLock,
    SettingsLock,
    ShellLock,
    WorkdirLock,
)

if TYPE_CHECKING:
    from klock.image.steps import Step
    from klock.lockfile.model import StepLock
    from klock.steps.kind import Kind

__all__ = ["describe", "kind_of", "kind_of_image_step"]

_ROOMS: Final[dict[type, str]] = {
    AptLock: "apt",
    ArgumentsLock: "arguments",
    CondaLock: "conda",
    CopyLock: "copying",
    EnvLock: "variables",
    FilesLock: "files",
    PipLock: "pip",
    PythonLock: "python",
    ServiceLock: "service",
    SettingsLock: "settings",
    ShellLock: "shell",
    WorkdirLock: "workdir",
}
_ROOMS_OF_THE_IMAGE: Final[dict[type, str]] = {
    AddPython: "python",
    AptInstall: "apt",
    CondaInstall: "conda",
    Configure: "settings",
    CopyFiles: "files",
    DeclareArguments: "arguments",
    FromContext: "copying",
    PipInstall: "pip",
    RunCommand: "shell",
    SetEnvVars: "variables",
    SetWorkingDir: "workdir",
    SyncPackage: "files",
}


def kind_of(step: StepLock) -> Kind[Any, Any]:
    """The kind of a locked step."""
    return _kind(_ROOMS[type(step)])


def kind_of_image_step(step: Step) -> Kind[Any, Any]:
    """The kind that an image's step is locked as: a command that ends in `&` is a service."""
    if isinstance(step, RunBash):
        return _kind("service" if step.is_service else "shell")
    return _kind(_ROOMS_OF_THE_IMAGE[type(step)])


def describe(step: StepLock) -> str:
    """The step in a few words on one line: `pip_install numpy>=1.24 (and 2 more)`."""
    return kind_of(step).describe(step)


@cache
def _kind(room: str) -> Kind[Any, Any]:
    kind: Kind[Any, Any] = import_module(f"klock.steps.{room}").KIND
    return kind
