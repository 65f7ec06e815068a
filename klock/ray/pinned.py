"""A lockfile on a node: which image it is of, whether Ray's Python fits, and a copy that nobody edits.

Workers start at any time of a cluster's life, and all must be in the environment that the first one was in. So a node
keeps a copy of each lockfile under its digest, in klock's store. Its environment is named by the copy.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klock.digests import Digest, digest_of_bytes, hex_of
from klock.errors import KlockError, LockfileError
from klock.image.loading import ImageReference, lockfile_of

if TYPE_CHECKING:
    from klock.api import Project
    from klock.lockfile.model import TargetLock

__all__ = ["Pinned", "Versions", "image_of", "pin", "project_of", "refuse_other_versions"]

_FOLDER: Final = "ray"
_NAMES: Final = ("kimage.py", "Dockerfile", "Containerfile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Of the Python (`3.11.2`) and the Ray that a node's raylet runs on."""

    python: str
    ray: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """`lockfile` is the node's copy, of this `digest`; `image` names the file that it was made of, if that is here."""

    lockfile: str
    digest: Digest
    image: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def image_of(lockfile: Path) -> str | None:
    """`FILE:NAME` of the image beside a lockfile; None when only the lockfile is here."""
    file, _, name = lockfile.name.removesuffix(".lock").partition(".")
    # A Dockerfile with another name, such as gpu.Dockerfile, has the lockfile gpu.Dockerfile.lock.
    candidates = [(each, name) for each in dict.fromkeys((f"{file}.py", *_NAMES))]
    candidates += [(lockfile.name.removesuffix(".lock"), "")]
    for candidate, of_stage in candidates:
        reference = ImageReference(file=lockfile.with_name(candidate), name=of_stage or "image")
        if reference.file.is_file() and lockfile_of(reference) == lockfile:
            return f"{reference.file}:{reference.name}"
    return None


def project_of(lockfile: Path, image: str | None) -> Project:
    """The project of a lockfile. Without its image nothing can be made of local files, but all can be fetched."""
    from klock.api import Project
    from klock.image.builder import Image

    return Project(Image() if image is None else image, lockfile=lockfile)


def pin(lockfile: Path, versions: Versions) -> tuple[Project, Pinned]:
    """Keeps a copy of the lockfile as it is now, and returns the project of the copy. Fetches nothing.

    Raises KlockError when there is no lockfile, when it is not signed as the settings want it, or when Ray's workers
    cannot run in what it describes.
    """
    if not lockfile.is_file():
        raise LockfileError(
            f"there is no lockfile {lockfile} on this node",
            hint='send the project along: runtime_env={"working_dir": ".", "klock": "kimage.lock"}',
        )
    image = image_of(lockfile)
    project = project_of(lockfile, image)
    content = project.session.read_lockfile()
    refuse_other_versions(project.session.locked_target(content, None), versions, name=lockfile.name)
    project.refuse(content, frozen=True)
    text = lockfile.read_bytes()
    digest = digest_of_bytes(text)
    folder = project.session.store.root / _FOLDER / hex_of(digest)[:16]
    copy = folder / lockfile.name
    if not copy.is_file() or copy.read_bytes() != text:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(copy, text)
    signature = lockfile.with_name(f"{lockfile.name}.sig")
    if signature.is_file():
        shutil.copyfile(signature, copy.with_name(signature.name))
    return project_of(copy, image), Pinned(lockfile=str(copy), digest=digest, image=image)


def _write(file: Path, text: bytes) -> None:
    """All or nothing: two that pin the same lockfile at once both end well."""
    temporary = file.with_name(f".{file.name}.{os.urandom(6).hex()}")
    try:
        temporary.write_bytes(text)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_other_versions(locked: TargetLock, versions: Versions, *, name: str) -> None:
    """Raises KlockError when the locked Python or the locked Ray is another one than the node's.

    A base may bring Python without a pip step that has looked at it; then only the environment can tell.
    """
    if locked.interpreter is not None and locked.interpreter.version != versions.python:
        raise KlockError(
            f"{name} has Python {locked.interpreter.version}, and Ray runs on Python {versions.python} on this node",
            hint="the versions must be exactly equal: lock a base with the node's Python, install Ray on the nodes "
            "with the locked Python, or start all of Ray in the environment: klock run -- ray start",
        )
    ray = next((package for package in locked.packages if package.name == "ray"), None)
    if locked.packages and ray is None and locked.interpreter is not None:
        there = {each.name for each in locked.interpreter.distributions}
        if "ray" not in there:
            raise KlockError(f"{name} has no package ray", hint=f"run `klock add ray=={versions.ray}`")
    if ray is not None and ray.version != versions.ray:
        raise KlockError(
            f"{name} has ray {ray.version}, and this node runs ray {versions.ray}",
            hint=f"lock the node's version: run `klock add ray=={versions.ray}`",
        )
