"""The project's folder, as an archive for the container, and what klock changed of it there, back again."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from klock.errors import EngineError, ImageError

__all__ = ["pack_folder", "put_back"]

_LARGEST: Final = 1 << 32
"""Bytes of a file that is taken back."""


def pack_folder(folder: Path, output: IO[bytes]) -> int:
    """Writes a folder as a tar archive, by absolute paths, all of it root's. Returns the bytes of its files.

    Files keep their modes. What is neither file, folder nor symlink is left out.
    """
    size = 0
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in (*reversed(folder.parents), folder, *_below(folder)):
            status = path.lstat()
            if path == Path("/") or not (
                stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)
            ):
                continue
            member = archive.gettarinfo(path, arcname=str(path))
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            if member.islnk():
                # A second name of a file is a file of its own here.
                member.type, member.linkname, member.size = tarfile.REGTYPE, "", status.st_size
            if path in folder.parents:
                member.mode = 0o755
            if member.isreg():
                size += member.size
                with open(path, "rb") as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)
    # podman's reader ends at the archive's end, and takes what follows for an error.
    output.truncate(archive.offset)
    return size


def _below(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))


def put_back(archive: Path, folder: Path) -> list[str]:
    """Writes the files of an archive below `folder`, each by one rename; their paths.

    The archive is hostile: only plain files are taken, and none whose path leads out of the folder, also through a
    symlink that is there. Raises EngineError.
    """
    written = []
    try:
        with tarfile.open(archive, mode="r:") as members:
            for member in members:
                parts = member.name.split("/")
                if not member.isreg() or member.size > _LARGEST or not _is_inside(parts, folder):
                    raise EngineError(f"the container gave back {member.name!r}, which is not a file of the project")
                content = members.extractfile(member)
                assert content is not None
                _write(folder / member.name, content, member.mode)
                written.append(member.name)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise EngineError(f"what the container gave back is broken: {error}", hint="run the command again") from error
    return written


def _is_inside(parts: list[str], folder: Path) -> bool:
    if not all(parts) or {".", "..", ".git"} & set(parts) or any("\0" in part for part in parts):
        return False
    above = [folder.joinpath(*parts[:depth]) for depth in range(1, len(parts))]
    return not any(path.is_symlink() or (path.exists() and not path.is_dir()) for path in above)


def _write(path: Path, content: IO[bytes], mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        raise ImageError(
            f"klock wrote the file {path} in the container, and here it is a folder", hint="rename the folder"
        )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "xb") as file:
            shutil.copyfileobj(content, file)
        partial.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else mode & 0o777)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
