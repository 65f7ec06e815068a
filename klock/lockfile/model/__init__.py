"""The lockfile as values: for each target a base, an interpreter, the steps in order, and every artifact with its hash.

Frozen, compared by value, without clock, host path or secret. In the file, tables that are equal for several targets
stand once (`klock.lockfile.format`). What can be computed from the rest (step keys, the fingerprint) is not stored, so
that two branches that touch different steps merge without a conflict.
"""

from __future__ import annotations

from typing import Final

from klock.lockfile.model.bases import (
    DEBIAN_RECIPE,
    BaseLock,
    DebianLock,
    DebPackage,
    Distribution,
    InstallFolders,
    Interpreter,
    OciBlob,
    OciLayer,
    OciLock,
)
from klock.lockfile.model.files import (
    UNNAMED_TEXT,
    CopiedFile,
    CopiedText,
    CopyLock,
    DownloadedFile,
    FetchedRepository,
    FileEntry,
    FilesLock,
    MountLock,
)
from klock.lockfile.model.layers import KeptLayer, LayerLock, LockedVariable
from klock.lockfile.model.packages import LockedPackage, SdistArtifact, VcsArtifact, WheelArtifact
from klock.lockfile.model.settings import HealthLock, SettingsLock
from klock.lockfile.model.steps import (
    AptLock,
    ArgumentsLock,
    CondaLock,
    CondaPackage,
    EnvLock,
    LocalProject,
    LockedFile,
    LockedRequest,
    PipLock,
    PythonLock,
    ServiceLock,
    ShellLock,
    StepLock,
    WorkdirLock,
    is_forced,
    kept_layer_of,
    layer_of,
    with_layer,
)
from klock.lockfile.model.targets import ImageLock, Lockfile, OciImage, StageLock, TargetLock, Triggers

__all__ = [
    "DEBIAN_RECIPE",
    "FIRST_LINE",
    "UNNAMED_TEXT",
    "AptLock",
    "ArgumentsLock",
    "BaseLock",
    "CondaLock",
    "CondaPackage",
    "CopiedFile",
    "CopiedText",
    "CopyLock",
    "DebPackage",
    "DebianLock",
    "Distribution",
    "DownloadedFile",
    "EnvLock",
    "FetchedRepository",
    "FileEntry",
    "FilesLock",
    "HealthLock",
    "ImageLock",
    "InstallFolders",
    "Interpreter",
    "KeptLayer",
    "LayerLock",
    "LocalProject",
    "LockedFile",
    "LockedPackage",
    "LockedRequest",
    "LockedVariable",
    "Lockfile",
    "MountLock",
    "OciBlob",
    "OciImage",
    "OciLayer",
    "OciLock",
    "PipLock",
    "PythonLock",
    "SdistArtifact",
    "ServiceLock",
    "SettingsLock",
    "ShellLock",
    "StageLock",
    "StepLock",
    "TargetLock",
    "Triggers",
    "VcsArtifact",
    "WheelArtifact",
    "WorkdirLock",
    "is_forced",
    "kept_layer_of",
    "layer_of",
    "with_layer",
]

FIRST_LINE: Final = "# Written by klock. To change it, change the image and run `klock lock`.\n"
"""Of every lockfile, by which it can be told from those of other tools."""
