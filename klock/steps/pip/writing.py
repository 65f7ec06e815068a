"""Foresees what a pip step is going to write: from the wheels that it installs, and from what it replaces."""

from __future__ import annotations

import os

from klock.drift import distributions_in
from klock.errors import KlockError
from klock.layers.manifest import Manifest
from klock.lockfile.model import PipLock
from klock.packages.records import paths_in_record
from klock.packages.scheme import Scheme
from klock.packages.wheel_trees import files_of_wheels
from klock.packages.wheels import wheel_of
from klock.project_names import normalised_name
from klock.steps.at import StepAt
from klock.steps.kind import RunningSystem, Writes
from klock.store import Store
from klock.workshop.protocol import Workspace

__all__ = ["writes_of_packages"]


def writes_of_packages(at: StepAt[PipLock], system: RunningSystem, store: Store) -> Writes:
    """The wheels that the step does not build are in the store."""
    lock, step, packages = at.lock, at.step, at.lock.packages_by_pin
    if lock.interpreter is None:
        raise KlockError("the lockfile has a pip step and no python table", hint="run `klock lock`")
    scheme = Scheme.of(lock.interpreter)
    folders = scheme.folders
    names = {packages[pin].name for pin in step.packages} | {project.name for project in step.projects}
    present = system.manifest
    written = [folders.purelib, folders.platlib]
    with system.open() as workspace:
        for (folder, name), versions in distributions_in(present).items():
            if name in names:
                for version in versions:
                    written += _recorded_files(present, folder, name, version, workspace)
    if not os.path.isdir(lock.base.working_dir):  # noqa: PTH112
        written.append(lock.base.working_dir)
    wheels = [(packages[pin].name, wheel_of(packages[pin])) for pin in step.packages]
    here = [wheel for wheel in wheels if store.find_blob(f"sha256:{wheel[1].sha256}") is not None]
    for manifest in files_of_wheels(here, scheme, store=store, leave_out=step.leave_out):
        written += [f"/{path}" for path in manifest]
    whole = [folder for path in written if (folder := os.path.dirname(path)).endswith(".dist-info")]  # noqa: PTH120
    roots = [folders.purelib, folders.platlib, folders.scripts, folders.headers]
    roots += [f"{folders.data}/{name}" for name in ("share", "etc", "include")]
    # Nobody can say what is built: a build may bring anything.
    is_all = not step.projects and len(here) == len(wheels)
    return Writes(
        paths=written,
        whole=[*sorted(set(whole)), *(() if is_all else roots)],
        roots=roots,
        replaces_bytecode=True,
        is_all=is_all,
    )


def _recorded_files(present: Manifest, folder: str, name: str, version: str, workspace: Workspace) -> list[str]:
    """The files of an installed distribution, as its RECORD names them."""
    for path in present:
        if not path.startswith(f"{folder}/") or not path.endswith(".dist-info/RECORD"):
            continue
        found = path.removeprefix(f"{folder}/").partition("/")[0].removesuffix(".dist-info").rpartition("-")
        if found[2] == version and normalised_name(found[0]) == name:
            return paths_in_record(workspace.read(f"/{path}") or b"", f"/{folder}")
    return []
