"""`rsync`, `copy` and `sync_package` in a Dockerfile: the locked files, and a look at each once it is in the image.

For docker the files lie in the context as they are, for a person to read, and a script beside them, itself pinned by
its hash, compares their hashes, sets their modes, and compares their links. For kubetorch, whose COPY knows single
files, they are one archive, pinned by its hash.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from klock.digests import hex_of
from klock.errors import HashMismatch
from klock.layers import tar
from klock.layers.normalisation import MTIME
from klock.lockfile.model import FileEntry, FilesLock
from klock.pages.build_context import ContextFile
from klock.pages.page import PLACE, Form, Page, checked
from klock.pages.sums import sums_script
from klock.store import Store

__all__ = ["write_file_step"]

_IN_ONE_LINE: Final = 200
_CHUNK: Final = 1 << 20


def write_file_step(page: Page, step: FilesLock, *, folder: str, source: Path, store: Store) -> None:
    """Adds a file step, whose files are at `source` on the host. Raises HashMismatch when one is not as locked."""
    page.become("")
    if step.owner is not None:
        page.refuse_for_kubetorch("an owner of files")
    if page.form is Form.KUBETORCH:
        _as_archive(page, step, folder=folder, source=source, store=store)
        return
    flags = f"--chown={step.owner} " if step.owner else ""
    if _is_single(step):
        page.copy_file(_file(step.entries[0], f"{folder}/file", source), step.destination, flags=flags)
    elif step.entries:
        files = [_file(entry, f"{folder}/files/{entry.path}", source / entry.path) for entry in step.entries]
        page.copy_folder(files, f"{folder}/files", step.destination, flags=flags)
    if step.path_file is not None:
        page.copy_file(ContextFile(path=f"{folder}/path-file", content=_path_lines(step)), step.path_file)
    script = "".join(f"{line}\n" for line in _checks(page, step)).encode()
    page.run_script(ContextFile(path=f"{folder}/check.sh", content=script))


def _is_single(step: FilesLock) -> bool:
    """Whether it is a file, of which the destination is the name, and no folder."""
    return len(step.entries) == 1 and step.entries[0].path == ""


def _file(entry: FileEntry, path: str, source: Path) -> ContextFile:
    """A folder is one, too."""
    return ContextFile(
        path=path,
        mode=entry.mode,
        source=source if entry.digest else None,
        digest=entry.digest,
        target=entry.target,
    )


def _checks(page: Page, step: FilesLock) -> Iterator[str]:
    """A script for sh that fails unless the image has the step's files, and sets their modes."""
    yield "set -eu"
    place, name = posixpath.split(step.destination) if _is_single(step) else (step.destination, "")
    yield f"mkdir -p -- {shlex.quote(place)}"
    yield f"cd -- {shlex.quote(place)}"
    named = [(f"./{entry.path or name}", entry) for entry in step.entries]
    if broken := [path for path, _ in named if "\n" in path]:
        raise page.error(f"a file has a line break in its name: {broken[0]!r}", hint="rename it, or leave it out")
    yield from sums_script((path, hex_of(entry.digest)) for path, entry in named if entry.digest)
    for path, entry in named:
        if entry.target is not None:
            yield f'[ "$(readlink -- {shlex.quote(path)})" = {shlex.quote(entry.target)} ]'
    for mode in sorted({entry.mode for _, entry in named if entry.target is None}):
        paths = [path for path, entry in named if entry.target is None and entry.mode == mode]
        for start in range(0, len(paths), _IN_ONE_LINE):
            yield f"chmod {mode:04o} {shlex.join(paths[start : start + _IN_ONE_LINE])}"


def _as_archive(page: Page, step: FilesLock, *, folder: str, source: Path, store: Store) -> None:
    digest, _ = store.add_blob(_archive(step, source), source=f"the files of {step.source}")
    path = f"{PLACE}/{folder}.tar"
    page.copy_file(ContextFile(path=f"{folder}.tar", source=store.blob_path(digest), digest=digest), path)
    folder_above = posixpath.dirname(step.destination) if _is_single(step) else step.destination
    make = f"mkdir -p -- {shlex.quote(folder_above)}"
    page.run(f"{checked(path, digest)} && {make} && tar -C / --no-same-owner -xpf {path}")


def _archive(step: FilesLock, source: Path) -> Iterator[bytes]:
    """The step's files as a tar archive of paths from the root; equal steps give equal bytes."""
    for entry in step.entries:
        name = posixpath.join(step.destination, entry.path).strip("/")
        if entry.digest is not None:
            yield from _member(name, entry.mode, entry.size, _chunks(source / entry.path, entry))
        elif entry.target is not None:
            link = os.fsencode(entry.target)
            yield tar.Member(name=os.fsencode(name), kind=tar.SYMLINK, mode=0o777, mtime=MTIME, link=link).header()
        else:
            name = f"{name}/"
            yield tar.Member(name=os.fsencode(name), kind=tar.FOLDER, mode=entry.mode, mtime=MTIME).header()
    if step.path_file is not None:
        content = _path_lines(step)
        yield from _member(step.path_file.strip("/"), 0o644, len(content), [content])
    yield tar.END


def _member(name: str, mode: int, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield tar.Member(name=os.fsencode(name), kind=tar.FILE, mode=mode, size=size, mtime=MTIME).header()
    yield from chunks
    yield tar.padding(size)


def _chunks(path: Path, entry: FileEntry) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
                yield chunk
    except FileNotFoundError:
        pass
    if f"sha256:{hasher.hexdigest()}" != entry.digest:
        raise HashMismatch(f"{path} is not what was locked", hint="restore it, or run `klock lock`")


def _path_lines(step: FilesLock) -> bytes:
    """The `.pth` file that makes a package importable (the `site` module's format)."""
    return "".join(f"{path}\n" for path in step.import_paths).encode()
