"""A build context: the folder with a Dockerfile and the files it copies, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from klock.digests import Digest
from klock.errors import HashMismatch, KlockError
from klock.values import dataclass

__all__ = ["HEADER", "ContextFile", "write_context", "write_file"]

HEADER: Final = "# Written by klock"
"""What the first line of an exported Dockerfile begins with: a folder whose Dockerfile has another is not replaced."""

_EXPORTED: Final = re.compile(r"Dockerfile|(stage-\d+-)?base\.tar|start|verified|(stage-\d+-)?step-\d\d+(\.tar)?")
"""The names right below a context, as the steps' exports choose them."""

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFile:
    """A file at `path` of the context. Its bytes are `content`, or those of the host file `source`, which must have
    `digest`; with `target` it is a symlink, and with neither a folder."""

    path: str
    mode: int = 0o644
    content: bytes | None = None
    source: Path | None = None
    digest: Digest | None = None
    target: str | None = None


def write_context(folder: Path, dockerfile: str, files: Iterable[ContextFile]) -> None:
    """Makes `folder` hold exactly these, in place of what an earlier export left there.

    Raises HashMismatch when a host file is no longer the locked one, KlockError when anything in the folder is
    somebody else's.
    """
    folder = folder.resolve()
    _refuse_foreign(folder)
    new = folder.with_name(f".{folder.name}.{os.urandom(6).hex()}")
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        new.mkdir()
        new.chmod(0o755)
        for file in (ContextFile(path="Dockerfile", content=dockerfile.encode()), *files):
            write_file(new, file)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.urandom(6).hex()}")
            folder.rename(old)
            new.rename(folder)
            shutil.rmtree(old)
        else:
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise KlockError(f"{folder} is not a folder", hint="name a folder for the Dockerfile and what it copies")
    found = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in found if not _EXPORTED.fullmatch(name)]
    dockerfile = folder / "Dockerfile"
    is_exports = dockerfile.is_file() and dockerfile.read_bytes().startswith(HEADER.encode())
    if found and (foreign or not is_exports):
        example = foreign[0] if foreign else found[0]
        raise KlockError(
            f"{folder} has files that klock did not export, such as {example}; klock would replace them",
            hint="name an empty or a new folder",
        )


def write_file(root: Path, file: ContextFile) -> None:
    """Writes one file below `root`. Raises HashMismatch when a host file is no longer the locked one."""
    path = root / file.path
    assert ".." not in path.parts and path.is_relative_to(root), file.path
    make_folders(root, path.parent)
    if file.target is not None:
        path.symlink_to(file.target)
        return
    if file.content is not None:
        path.write_bytes(file.content)
    elif file.source is not None:
        _copy(file.source, path, file.digest)
    else:
        make_folders(root, path)
    path.chmod(file.mode)


def make_folders(root: Path, folder: Path) -> None:
    """With the modes that an image should have, whatever the umask."""
    missing = [f for f in (folder, *folder.parents) if f.is_relative_to(root) and not f.exists()]
    for each in reversed(missing):
        each.mkdir()
        each.chmod(0o755)


def _copy(source: Path, path: Path, digest: Digest | None) -> None:
    hasher = hashlib.sha256()
    try:
        with open(source, "rb") as reading, open(path, "wb") as writing:
            while chunk := reading.read(_CHUNK):
                hasher.update(chunk)
                writing.write(chunk)
    except FileNotFoundError:
        raise HashMismatch(
            f"{source} is in the lockfile, but missing", hint="restore it, or run `klock lock`"
        ) from None
    found = f"sha256:{hasher.hexdigest()}"
    if digest is not None and found != digest:
        raise HashMismatch(
            f"{os.fspath(source)} is not what was locked: locked {digest}, found {found}",
            hint="run `klock lock`: the file changed after it was locked",
        )
