"""Foresees what a pip step is going to write: from the wheels that it installs, and from what it replaces."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Final

from klock.drift import distributions_in
from klock.errors import EngineError, KlockError
from klock.layers.manifest import Manifest
from klock.lockfile.model import LockedPackage, PipLock, TargetLock
from klock.packages.wheel_install import CACHE
from klock.packages.wheel_paths import paths_in_record, paths_of_wheel
from klock.packages.wheels import wheel_of
from klock.project_names import normalised_name
from klock.steps.at import StepAt
from klock.steps.kind import RunningSystem, Writes
from klock.store import Store
from klock.workshop.protocol import Command, Workspace

__all__ = ["writes_of_packages"]

_PATHS: Final = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"


def writes_of_packages(at: StepAt[PipLock], system: RunningSystem, store: Store) -> Writes:
    """The wheels that the step does not build are in the store. Raises EngineError when the Python does not run."""
    lock, step, packages = at.lock, at.step, at.lock.packages_by_pin
    names = {packages[pin].name for pin in step.packages} | {project.name for project in step.projects}
    present = system.manifest
    with system.open() as workspace:
        paths = _python_paths(lock, workspace)
        written = [paths["purelib"], paths["platlib"]]
        for (folder, name), versions in distributions_in(present).items():
            if name in names:
                for version in versions:
                    written += _recorded_files(present, folder, name, version, workspace)
    if not os.path.isdir(lock.base.working_dir):  # noqa: PTH112
        written.append(lock.base.working_dir)
    of_wheels = [_paths_of_wheel(packages[pin], paths, store) for pin in step.packages]
    for of_wheel in of_wheels:
        written += of_wheel or ()
    whole = [CACHE, *{folder for path in written if (folder := os.path.dirname(path)).endswith(".dist-info")}]  # noqa: PTH120
    data = paths["data"]
    roots = [paths["purelib"], paths["platlib"], paths["scripts"], paths["include"]]
    roots += [f"{data}/share", f"{data}/etc", f"{data}/include"]
    is_all = not step.projects and None not in of_wheels
    return Writes(
        paths=written,
        whole=[*whole, *(() if is_all else roots)],
        roots=roots,
        replaces_bytecode=True,
        is_all=is_all,
    )


def _paths_of_wheel(package: LockedPackage, paths: Mapping[str, str], store: Store) -> list[str] | None:
    """None where nobody can say: the store lacks the wheel, so it is built, and a build may write anything."""
    wheel = wheel_of(package)
    blob = store.find_blob(f"sha256:{wheel.sha256}")
    return None if blob is None else paths_of_wheel(blob, wheel.name, paths)


def _python_paths(lock: TargetLock, workspace: Workspace) -> dict[str, str]:
    if lock.interpreter is None:
        raise KlockError("the lockfile has a pip step and no python table", hint="run `klock lock`")
    ended = workspace.run(Command(argv=(lock.interpreter.path, "-I", "-c", _PATHS), environment={"PATH": os.defpath}))
    if ended.status != 0:
        raise EngineError(
            f"the container's Python at {lock.interpreter.path} does not run: "
            + ended.output.decode("utf-8", "replace").strip(),
            hint="start the container from the locked base image",
        )
    paths: dict[str, str] = json.loads(ended.output)
    return paths


def _recorded_files(present: Manifest, folder: str, name: str, version: str, workspace: Workspace) -> list[str]:
    """The files of an installed distribution, as its RECORD names them."""
    for path in present:
        if not path.startswith(f"{folder}/") or not path.endswith(".dist-info/RECORD"):
            continue
        found = path.removeprefix(f"{folder}/").partition("/")[0].removesuffix(".dist-info").rpartition("-")
        if found[2] == version and normalised_name(found[0]) == name:
            return paths_in_record(workspace.read(f"/{path}") or b"", f"/{folder}")
    return []
