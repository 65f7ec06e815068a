"""Foresees what a pip step is going to write: from the wheels that it installs, and from what it replaces."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from klock.drift import distributions_in
from klock.errors import EngineError, KlockError
from klock.layers.manifest import Manifest
from klock.lockfile.model import PipLock, TargetLock, WheelArtifact
from klock.project_names import normalised_name
from klock.steps.at import StepAt
from klock.steps.kind import RunningSystem, Writes
from klock.store import Store
from klock.workshop.protocol import Command, Workspace

__all__ = ["writes_of_packages"]

_PATHS: Final = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"
_CACHE: Final = "/.klock-uv-cache"
_SCRIPTS: Final = ("console_scripts", "gui_scripts")


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
    wheels = _wheels(at, store)
    for wheel in wheels:
        if wheel is not None:
            written += _files_of_wheel(wheel, paths)
    whole = [_CACHE, *{folder for path in written if (folder := os.path.dirname(path)).endswith(".dist-info")}]  # noqa: PTH120
    data = paths["data"]
    roots = [paths["purelib"], paths["platlib"], paths["scripts"], paths["include"]]
    roots += [f"{data}/share", f"{data}/etc", f"{data}/include"]
    builds = bool(step.projects) or any(wheel is None for wheel in wheels)
    return Writes(
        paths=written,
        whole=[*whole, *(roots if builds else ())],
        roots=roots,
        replaces_bytecode=True,
        is_all=not builds,
    )


def _wheels(at: StepAt[PipLock], store: Store) -> list[Path | None]:
    """Of each package, None where the store has none: it is built, and what that writes cannot be foreseen."""
    packages = at.lock.packages_by_pin
    artifacts = [packages[pin].artifact for pin in at.step.packages]
    wheels = [artifact if isinstance(artifact, WheelArtifact) else artifact.wheel for artifact in artifacts]
    return [store.find_blob(f"sha256:{wheel.sha256}") for wheel in wheels]


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
    """The files of an installed distribution, as its RECORD names them (the "recording installed projects" format)."""
    import csv

    for path in present:
        if not path.startswith(f"{folder}/") or not path.endswith(".dist-info/RECORD"):
            continue
        found = path.removeprefix(f"{folder}/").partition("/")[0].removesuffix(".dist-info").rpartition("-")
        if found[2] == version and normalised_name(found[0]) == name:
            record = io.StringIO((workspace.read(f"/{path}") or b"").decode("utf-8"), newline="")
            return [
                os.path.normpath(f"/{folder}/{row[0]}" if row[0][0] != "/" else row[0])
                for row in csv.reader(record)
                if row
            ]
    return []


def _files_of_wheel(wheel: Path, paths: Mapping[str, str]) -> list[str]:
    """Where what is in a wheel may go, and the scripts that are made for its entry points."""
    import configparser
    import zipfile

    found: list[str] = []
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if not member.endswith("/"):
                found += _destinations(member, paths)
            if member.endswith(".dist-info/entry_points.txt"):
                points = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
                points.optionxform = str  # type: ignore[assignment,method-assign]
                points.read_string(archive.read(member).decode("utf-8", "replace"))
                scripts = [name for group in _SCRIPTS if points.has_section(group) for name in points.options(group)]
                found += [f"{paths['scripts']}/{name}" for name in scripts]
    return found


def _destinations(member: str, paths: Mapping[str, str]) -> list[str]:
    """Where a wheel's member may go (the binary distribution format): libraries, or what `.data` folders are for."""
    first, _, rest = member.partition("/")
    if not first.endswith(".data"):
        return [f"{paths['purelib']}/{member}", f"{paths['platlib']}/{member}"]
    scheme, _, path = rest.partition("/")
    if scheme == "headers":
        python, project = Path(paths["include"]).name, first.partition("-")[0]
        return [f"{paths['data']}/include/site/{python}/{project}/{path}", f"{paths['include']}/{project}/{path}"]
    return [f"{paths[scheme]}/{path}"] if scheme in paths else []
