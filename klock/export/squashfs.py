"""A locked environment as one squashfs file, which runtimes of clusters mount without a daemon, root or a registry.

It has the files whose digests are locked, as the OCI image has them (`klock.registry.made`). Beside them it has mount
points, and what an image's config would say. The file's bytes follow from the lock and from the version of mksquashfs,
which writes it: no clock, user, umask or number of CPUs has a part in them.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

from klock.digests import Digest, digest_of_stream
from klock.errors import EngineError, KlockError
from klock.export.mount_points import USUAL, Additions
from klock.export.runtime_files import RuntimeFile, runtime_files, unsaid_variables
from klock.forks import written_to
from klock.layers import tar
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import MTIME
from klock.lockfile.model import TargetLock
from klock.registry.made import make_missing
from klock.steps.context import Context
from klock.words import counted, first_of, some
from klock.workshop.lone import run_alone
from klock.workshop.namespace import in_namespace
from klock.workshop.protocol import Completed

__all__ = ["COMPRESSIONS", "Squashfs", "refuse_output", "write_squashfs"]

COMPRESSIONS: Final[Mapping[str, Sequence[str]]] = {
    "gzip": ("-comp", "gzip", "-Xcompression-level", "9"),
    "zstd": ("-comp", "zstd", "-Xcompression-level", "15"),
    "none": ("-comp", "gzip", "-noI", "-noD", "-noF", "-noX"),
}
"""Each names its level: a later version may have other defaults."""

_ACLS: Final = "system.posix_acl_"
_PROGRAM: Final = "mksquashfs"
_OPTIONS: Final = (
    *("-tar", "-noappend", "-no-exports", "-xattrs", "-reproducible", "-b", "131072"),
    *("-root-time", str(MTIME), "-root-mode", "755", "-root-uid", "0", "-root-gid", "0", "-quiet", "-no-progress"),
)
_VERSION: Final = re.compile(rb"version (\d+)\.(\d+)[\w.-]*")
_OLDEST: Final = (4, 5)
"""The first that reads tar archives."""
_KINDS: Final = {Kind.FILE: tar.FILE, Kind.FOLDER: tar.FOLDER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Squashfs:
    """What was written: the file's digest, its bytes, and the version of the program that wrote it."""

    digest: Digest
    size: int
    program: str


def refuse_output(output: Path) -> None:
    """Raises KlockError for a path that no file can be written to, before anything is made."""
    if output.is_dir():
        raise KlockError(f"{output} is a folder", hint="name a file, such as image.sqfs")
    if not output.parent.is_dir():
        raise KlockError(f"there is no folder {output.parent}", hint="make it, or name another file")


def write_squashfs(
    lock: TargetLock, context: Context, output: Path, *, compression: str, mount_points: Iterable[str] = ()
) -> Squashfs:
    """Writes the file in place of what is there. Layers that are not in the store are made.

    `mount_points` are folders to have besides the usual ones, by absolute path. Raises KlockError: for an impossible
    mount point, for a target whose programs do not run here, and when mksquashfs is missing, too old or fails.
    """
    program, version = _find_program()
    make_missing(lock, context)
    layers = [_locked(digest, context) for digest in lock.layers]
    tree = functools.reduce(Manifest.apply, layers, context.workshop.base_manifest(lock.base.id)).without_links()
    own = runtime_files(lock)
    additions = _additions(tree, own, mount_points)
    contents = {additions.real(file.path): file for file in own}
    if unsaid := unsaid_variables(lock):
        context.progress.note(f"/ch/environment lacks {some(unsaid)}: it can hold no value of several lines")
    of_base = {path for path, entry in tree.items() if entry.kind is Kind.FILE} - {p for la in layers for p in la}
    kept = Manifest(entry for path, entry in tree.items() if path not in contents)
    if lost := [f"/{path}" for path, entry in kept.items() if any(n.startswith(_ACLS) for n, _ in entry.xattrs)]:
        context.progress.note(f"access control lists are lost, as squashfs has none: {first_of(lost)}")
    context.progress.begin(f"pack {counted(len(kept), 'path')}")
    with context.store.temporary_file() as archive:
        with context.progress.stage("collect", written_to(archive)):
            latest = context.workshop.write_tree(lock.base.id, lock.layers, archive, manifest=kept, times_of=of_base)
        _append(archive, additions, contents)
        partial = output.with_name(f".{output.name}.{os.getpid()}")
        # Counts what is written: mksquashfs reads far ahead of what it compresses.
        with context.progress.stage("compress", written_to(partial)):
            digest, size = _make(program, archive, output, COMPRESSIONS[compression], latest=latest, partial=partial)
    context.progress.done(version)
    return Squashfs(digest=digest, size=size, program=version)


def _locked(digest: Digest, context: Context) -> Manifest:
    manifest = context.workshop.layer_manifest(digest)
    assert manifest is not None, "it was made"
    return manifest


def _additions(tree: Manifest, own: Sequence[RuntimeFile], mount_points: Iterable[str]) -> Additions:
    additions = Additions(tree)
    for path, kind in USUAL:
        # Where the image has a file in the way, the runtime has to do without.
        additions.add(path, kind)
    named = [(path, Kind.FOLDER, "mounted") for path in mount_points]
    for path, kind, what in [*named, *((file.path, Kind.FILE, "written") for file in own)]:
        if not additions.add(path, kind):
            raise KlockError(
                f"nothing can be {what} at {path}: a part of this path is a file in the image",
                hint="remove that file in a step",
            )
    return additions


def _append(archive: Path, additions: Iterable[Entry], contents: Mapping[str, RuntimeFile]) -> None:
    """Adds what no layer has. Files of the image with the paths of klock's own were left out of the archive."""
    with open(archive, "r+b") as output:
        output.seek(-len(tar.END), os.SEEK_END)
        for entry in additions:
            if entry.path not in contents:
                _write(output, entry.path, _KINDS[entry.kind], entry.mode, b"")
        for path, file in sorted(contents.items()):
            _write(output, path, tar.FILE, file.mode, file.content)
        output.write(tar.END)


def _write(output: IO[bytes], path: str, kind: bytes, mode: int, content: bytes) -> None:
    member = tar.Member(
        name=path.encode("utf-8", "surrogateescape"), kind=kind, mode=mode, size=len(content), mtime=MTIME
    )
    output.write(member.header() + content + tar.padding(len(content)))


# -- the program


def _find_program() -> tuple[Path, str]:
    """Where mksquashfs is, and its version. Raises EngineError."""
    found = shutil.which(_PROGRAM)
    if found is None:
        raise EngineError(
            f"{_PROGRAM} is not installed",
            hint="run `apt-get install squashfs-tools`; on other systems the package has this name, too",
        )
    program = Path(found)
    said = _VERSION.search(_run(program, ["-version"], folder=program.parent).output)
    if said is None or (int(said[1]), int(said[2])) < _OLDEST:
        raise EngineError(
            f"{program} is too old: klock needs squashfs-tools {_OLDEST[0]}.{_OLDEST[1]} or newer",
            hint="install a newer one",
        )
    return program, f"{_PROGRAM} {said[0].decode('ascii', 'replace').removeprefix('version ')}"


def _make(
    program: Path, archive: Path, output: Path, compression: Sequence[str], *, latest: int, partial: Path
) -> tuple[Digest, int]:
    try:
        # "-" is where sources would stand: the archive is its standard input.
        arguments = ["-", partial.name, *_OPTIONS, *compression]
        # mksquashfs 4.5 gives the root the time that it is now, whatever -root-time says. It gives nothing a later time
        # than this variable's (reproducible-builds.org, "SOURCE_DATE_EPOCH"), and files of the base keep theirs.
        variables = {"SOURCE_DATE_EPOCH": str(latest)}
        # It ignores -root-uid too: the root folder is the calling user's, who is 0 in the namespace.
        done = in_namespace(lambda: _run(program, arguments, folder=output.parent, reads=archive, variables=variables))
        if done.status != 0 or not partial.is_file():
            said = done.output.decode("utf-8", "replace").strip().splitlines()
            raise EngineError(
                f"{program} failed with exit status {done.status}: {said[-1] if said else 'it printed nothing'}",
                hint=f"is there room in {output.parent}?",
            )
        with open(partial, "rb") as file:
            digest = digest_of_stream(file)
        size = partial.stat().st_size
        partial.chmod(0o666 & ~_umask())
        partial.replace(output)
        return digest, size
    finally:
        partial.unlink(missing_ok=True)


def _run(
    program: Path,
    arguments: Sequence[str],
    *,
    folder: Path,
    reads: Path = Path(os.devnull),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Completed:
    """Runs mksquashfs without the user's variables. Where the kernel can forbid it, it may start no other program."""
    done = run_alone(program, arguments, folder=folder, environment=variables, reads=reads)
    if done is not None:
        return done
    with open(reads, "rb") as source:
        ended = subprocess.run(
            [program, *arguments],
            cwd=folder,
            env=variables,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return Completed(status=ended.returncode, output=ended.stdout)


def _umask() -> int:
    """To read it one has to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
