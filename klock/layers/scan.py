"""Reads a tree of files as manifest entries: what every path is, and the SHA-256 of every file, on every core.

Paths on disk are bytes throughout, so that a manifest does not depend on the locale klock runs in.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from klock.digests import Digest
from klock.errors import EngineError
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import is_left_out

__all__ = [
    "MEANINGFUL_XATTRS",
    "OVERLAY_XATTR",
    "digests_of_files",
    "entry_of",
    "is_whiteout",
    "manifest_of_tree",
    "meaningful_xattrs",
    "text_of",
]

OVERLAY_XATTR: Final = "user.overlay."
"""overlayfs keeps its own notes under this prefix (mount option `userxattr`); they are no part of a tree's content."""

_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.FOLDER,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
}
MEANINGFUL_XATTRS: Final = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")
_BUFFER: Final = 1 << 18
_DIGEST_BYTES: Final = 32
_WORTH_FORKING: Final = 32 << 20
"""Bytes, and below it files: from so much on a worker saves more than it costs."""
_MANY: Final = 2000


def text_of(path: bytes) -> str:
    """A path as manifests hold it, whatever the locale."""
    return path.decode("utf-8", "surrogateescape")


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlayfs' mark for a removed path: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def meaningful_xattrs(path: bytes) -> tuple[tuple[str, str], ...]:
    """Names and hex values, sorted: file capabilities, ACLs and users' own; never labels of security modules."""
    names = os.listxattr(path, follow_symlinks=False)
    return tuple(
        (name, os.getxattr(path, name, follow_symlinks=False).hex())
        for name in sorted(names)
        if name in MEANINGFUL_XATTRS or (name.startswith("user.") and not name.startswith(OVERLAY_XATTR))
    )


def entry_of(on_disk: bytes, path: str, status: os.stat_result, *, digest: Digest | None = None) -> Entry | None:
    """The entry of one path; None for what no layer holds (devices, sockets). A file's `digest` is the caller's."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind is Kind.FILE else 0,
        digest=digest if kind is Kind.FILE else None,
        target=text_of(os.readlink(on_disk)) if kind is Kind.SYMLINK else None,
        xattrs=meaningful_xattrs(on_disk),
    )


def manifest_of_tree(root: bytes) -> Manifest:
    """Everything below `root` except what is never locked, every path by itself: no hard links, no whiteouts."""
    found = list(_walk(root))
    files = [(on_disk, status.st_size) for on_disk, _, status in found if stat.S_ISREG(status.st_mode)]
    digests = dict(zip((path for path, _ in files), digests_of_files(files), strict=True))
    entries = (entry_of(on_disk, path, status, digest=digests.get(on_disk)) for on_disk, path, status in found)
    return Manifest(entry for entry in entries if entry)


def _walk(root: bytes) -> Iterator[tuple[bytes, str, os.stat_result]]:
    waiting = [(root, "")]
    while waiting:
        folder, above = waiting.pop()
        with os.scandir(folder) as found:
            names = sorted(item.name for item in found)
        for name in names:
            path = above + text_of(name)
            if is_left_out(path):
                continue
            on_disk = folder + b"/" + name
            try:
                status = os.lstat(on_disk)
            except FileNotFoundError:
                continue  # overlayfs lists a whiteout where its folder has nothing below it to hide
            yield on_disk, path, status
            if stat.S_ISDIR(status.st_mode):
                waiting.append((on_disk, path + "/"))


def digests_of_files(files: Sequence[tuple[bytes, int]]) -> list[Digest]:
    """The digests of files given with their sizes, in order. Forks one worker a core where that pays.

    Processes and not threads: reading many small files holds Python's lock too much.
    """
    is_much = len(files) > _MANY or sum(size for _, size in files) > _WORTH_FORKING
    workers = min(len(os.sched_getaffinity(0)), 8) if is_much else 1
    if workers == 1:
        # One for all files: to make one takes longer than to read most of them.
        buffer = bytearray(_BUFFER)
        return [_digest(path, buffer) for path, _ in files]
    largest_first = sorted(range(len(files)), key=lambda index: -files[index][1])
    with mmap.mmap(-1, _DIGEST_BYTES * len(files)) as results:
        children = [_fork_worker(files, largest_first[first::workers], results) for first in range(workers)]
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if any(statuses):
            raise EngineError("could not read every file of the tree", hint="see the system's log for disk errors")
        raw = results[:]
    return [f"sha256:{raw[at : at + _DIGEST_BYTES].hex()}" for at in range(0, len(raw), _DIGEST_BYTES)]


def _fork_worker(files: Sequence[tuple[bytes, int]], indexes: Iterable[int], results: mmap.mmap) -> int:
    child = os.fork()
    if child:
        return child
    try:
        buffer = bytearray(_BUFFER)
        for index in indexes:
            digest = _digest(files[index][0], buffer)
            results[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES] = bytes.fromhex(digest.removeprefix("sha256:"))
    except BaseException:
        os._exit(1)
    os._exit(0)


def _digest(path: bytes, buffer: bytearray) -> Digest:
    """`buffer` is for the bytes that are read."""
    hasher = hashlib.sha256()
    view = memoryview(buffer)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while length := os.readv(descriptor, [buffer]):
            hasher.update(view[:length])
    finally:
        os.close(descriptor)
    return "sha256:" + hasher.hexdigest()
