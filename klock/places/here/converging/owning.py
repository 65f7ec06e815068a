"""Foresees which paths a step is going to write: from its locked files, or from the wheels that it installs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from klock.drift import distributions_in
from klock.errors import EngineError, KlockError
from klock.layers.rewriting.bytecode import source_of
from klock.lockfile.model import FilesLock, PipLock, ShellLock, TargetLock, WheelArtifact
from klock.places.here.contents import Here
from klock.places.here.own import OwnPaths
from klock.places.here.tree import Tree
from klock.places.here.workspace import HereWorkspace
from klock.project_names import normalised_name
from klock.store import Store
from klock.workshop.protocol import Command

__all__ = ["anchors_of", "builds_something", "kept_archive", "own_paths", "resolved"]

_PATHS: Final = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"
_CACHE: Final = ".klock-uv-cache"
_SCRIPTS: Final = ("console_scripts", "gui_scripts")


def own_paths(lock: TargetLock, position: int, *, before: Tree, here: Here, store: Store) -> OwnPaths | None:
    """None for a step whose command may write anything. The wheels that a pip step does not build are in the store, and
    so is the layer that a step keeps."""
    step = lock.steps[position]
    if isinstance(step, ShellLock) and (archive := kept_archive(step, store)) is not None:
        return OwnPaths(resolved(f"/{path}" for path in here.root.paths_in(archive)))
    if isinstance(step, FilesLock):
        return _of_files(step)
    if isinstance(step, PipLock):
        with here.root.open(before) as workspace:
            paths = _python_paths(lock, workspace)
        return _of_packages(lock, step, before, paths, store)
    return None


def kept_archive(step: ShellLock, store: Store) -> Path | None:
    """Of the layer that the step keeps; None where it is not in the store, and for a step that keeps none."""
    return None if step.kept is None else store.find_blob(f"sha256:{step.kept.sha256}")


def anchors_of(lock: TargetLock, position: int, own: OwnPaths | None) -> list[str]:
    """The paths below which a step may find what it makes: engines make a mount's folders, and programs theirs.

    The image's working directory is one: the first command that needs it makes it, but in a container it is there.
    """
    step = lock.steps[position]
    found = [] if own is None else [*own.roots]
    if isinstance(step, FilesLock):
        found.append(os.path.realpath(step.destination))
        if step.path_file is not None:
            found.append(os.path.realpath(step.path_file))
    return [path for path in (path.strip("/") for path in (*found, lock.base.working_dir)) if path]


def builds_something(lock: TargetLock, step: PipLock, store: Store) -> bool:
    """Whether the step builds a package: what that writes cannot be foreseen."""
    return bool(step.projects) or any(wheel is None for wheel in _wheels(lock, step, store))


def _wheels(lock: TargetLock, step: PipLock, store: Store) -> list[Path | None]:
    """Of each package, None where the store has none."""
    packages = lock.packages_by_pin
    artifacts = [packages[pin].artifact for pin in step.packages]
    wheels = [artifact if isinstance(artifact, WheelArtifact) else artifact.wheel for artifact in artifacts]
    return [store.find_blob(f"sha256:{wheel.sha256}") for wheel in wheels]


def resolved(paths: Iterable[str]) -> set[str]:
    """Where what is written to absolute paths goes, as a manifest's paths: a symlink at the end is replaced."""
    real = cache(os.path.realpath)
    split = (path.rstrip("/").rpartition("/") for path in paths)
    return {f"{real(above or '/')}/{name}".strip("/") for above, _, name in split}


def _of_files(step: FilesLock) -> OwnPaths:
    paths = [f"{step.destination.rstrip('/')}/{entry.path}" for entry in step.entries]
    if step.path_file is not None:
        paths.append(step.path_file)
    return OwnPaths(resolved([*paths, step.destination]))


def _of_packages(lock: TargetLock, step: PipLock, before: Tree, paths: dict[str, str], store: Store) -> OwnPaths:
    packages = lock.packages_by_pin
    names = {packages[pin].name for pin in step.packages} | {project.name for project in step.projects}
    exact = [paths["purelib"], paths["platlib"]]
    if not os.path.isdir(lock.base.working_dir):
        exact.append(lock.base.working_dir)
    for (above, name), versions in distributions_in(before.manifest).items():
        if name in names:
            for version in versions:
                exact += _recorded_files(before, above, name, version)
    for wheel in _wheels(lock, step, store):
        if wheel is not None:
            exact += _files_of_wheel(wheel, paths)
    written = resolved(exact)
    bytecode = [path for path in before if (source := source_of(path)) is not None and source in written]
    whole = {path.rpartition("/")[0] for path in written if path.rpartition("/")[0].endswith(".dist-info")}
    data = paths["data"]
    roots = [paths["purelib"], paths["platlib"], paths["scripts"], paths["include"], f"{data}/share", f"{data}/etc"]
    roots = [os.path.realpath(root).strip("/") for root in [*roots, f"{data}/include"]]
    if builds_something(lock, step, store):
        whole.update(roots)
    return OwnPaths([*written, *bytecode], whole={*whole, _CACHE}, roots=roots)


def _python_paths(lock: TargetLock, workspace: HereWorkspace) -> dict[str, str]:
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


def _recorded_files(tree: Tree, folder: str, name: str, version: str) -> list[str]:
    """The files of an installed distribution, as its RECORD names them (the "recording installed projects" format)."""
    import csv

    for path in tree:
        if not path.startswith(f"{folder}/") or not path.endswith(".dist-info/RECORD"):
            continue
        found = path.removeprefix(f"{folder}/").partition("/")[0].removesuffix(".dist-info").rpartition("-")
        if found[2] == version and normalised_name(found[0]) == name:
            with open(f"/{path}", encoding="utf-8", newline="") as file:
                return [
                    os.path.normpath(f"/{folder}/{row[0]}" if row[0][0] != "/" else row[0])
                    for row in csv.reader(file)
                    if row
                ]
    return []


def _files_of_wheel(wheel: Path, paths: dict[str, str]) -> list[str]:
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


def _destinations(member: str, paths: dict[str, str]) -> list[str]:
    """Where a wheel's member may go (the binary distribution format): libraries, or what `.data` folders are for."""
    first, _, rest = member.partition("/")
    if not first.endswith(".data"):
        return [f"{paths['purelib']}/{member}", f"{paths['platlib']}/{member}"]
    scheme, _, path = rest.partition("/")
    if scheme == "headers":
        python, project = Path(paths["include"]).name, first.partition("-")[0]
        return [f"{paths['data']}/include/site/{python}/{project}/{path}", f"{paths['include']}/{project}/{path}"]
    return [f"{paths[scheme]}/{path}"] if scheme in paths else []
