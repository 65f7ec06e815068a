"""What a step is going to replace in the container's root, kept before it begins."""

from __future__ import annotations

import json
import os
from typing import Final

from klock.digests import Digest
from klock.drift import distributions_in
from klock.engines.here.materials import keep_files
from klock.engines.here.state import Doing, StateFolder
from klock.engines.here.tree import Tree
from klock.engines.here.workspace import HereWorkspace
from klock.engines.protocol import Command
from klock.errors import EngineError, KlockError
from klock.lockfile.model import FilesLock, PipLock, TargetLock, WheelArtifact
from klock.plan import describe
from klock.store import Store

__all__ = ["begin"]

_PATHS: Final = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"


def begin(
    lock: TargetLock,
    position: int,
    key: Digest,
    *,
    before: Tree,
    workspace: HereWorkspace,
    folder: StateFolder,
    store: Store,
) -> Doing:
    """Keeps what the step at `position` is going to replace, so that it can be taken back."""
    step = lock.steps[position]
    text = f"step {position + 1} {describe(step)}"
    if isinstance(step, FilesLock):
        destination = os.path.realpath(step.destination)
        roots = [destination]
        replaced = [f"{destination}/{entry.path}".strip("/") for entry in step.entries]
        replaced.append(destination.strip("/"))
        if step.path_file is not None:
            roots.append(os.path.realpath(step.path_file))
            replaced.append(roots[-1].strip("/"))
    elif isinstance(step, PipLock):
        paths = _python_paths(lock, workspace)
        data = paths["data"]
        roots = [paths["purelib"], paths["platlib"], paths["scripts"], paths["include"], f"{data}/share"]
        roots = [*roots, f"{data}/etc", "/.klock-uv-cache"]
        replaced = _replaced_by(lock, step, before, paths, store)
    else:
        return Doing(key=key, text=text, undo=None)
    name, kept = folder.new_undo()
    keep_files(replaced, before, kept)
    # The folders above that do not exist yet are the step's own too.
    roots = [_highest_new(root, before) for root in roots]
    return Doing(key=key, text=text, undo=name, roots=tuple(dict.fromkeys(roots)))


def _replaced_by(lock: TargetLock, step: PipLock, before: Tree, paths: dict[str, str], store: Store) -> list[str]:
    """The files of the distributions that the step's packages replace, and files in the way of the wheels'."""
    import zipfile

    packages = lock.packages_by_pin
    names = {packages[pin].name for pin in step.packages}
    replaced: list[str] = []
    for (above, name), versions in distributions_in(before.manifest).items():
        if name in names:
            for version in versions:
                replaced += _recorded_files(before, above, name, version)
    for pin in step.packages:
        artifact = packages[pin].artifact
        wheel = artifact if isinstance(artifact, WheelArtifact) else artifact.wheel
        blob = store.find_blob(f"sha256:{wheel.sha256}")
        if blob is None:
            continue
        with zipfile.ZipFile(blob) as archive:
            for member in archive.namelist():
                replaced += _destinations(member, paths)
    return [path.strip("/") for path in replaced]


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
        if found[2] == version and found[0].replace("_", "-").replace(".", "-").lower() == name:
            with open(f"/{path}", encoding="utf-8", newline="") as file:
                return [
                    os.path.normpath(f"/{folder}/{row[0]}" if row[0][0] != "/" else row[0])
                    for row in csv.reader(file)
                    if row
                ]
    return []


def _destinations(member: str, paths: dict[str, str]) -> list[str]:
    """Where a wheel's member may go (the binary distribution format): libraries, or what `.data` folders are for."""
    first, _, rest = member.partition("/")
    if not first.endswith(".data"):
        return [f"{paths['purelib']}/{member}", f"{paths['platlib']}/{member}"]
    scheme, _, path = rest.partition("/")
    return [f"{paths[scheme]}/{path}"] if scheme in paths else []


def _highest_new(path: str, before: Tree) -> str:
    parts = path.strip("/").split("/")
    for count in range(1, len(parts) + 1):
        here = "/".join(parts[:count])
        if here not in before:
            return f"/{here}"
    return path
