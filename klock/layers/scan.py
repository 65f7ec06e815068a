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
from klock.forks import Tally, map_in_forks
from klock.layers.manifest import Entry, Kind, Manifest, line_of_file
from klock.layers.normalisation import is_left_out
from klock.values import dataclass

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
"""overlayfs keeps its own notes under this prefix (mount option `userxattr`); they are not part of a tree's content."""

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
_LARGE: Final = 1 << 20
"""Bytes of a file from which on it matters which core reads it."""
_WORTH_SHARING: Final = 500
"""Paths of a tree."""
_SHARES: Final = 64
_TO_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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


def manifest_of_tree(root: bytes, tally: Tally | None = None) -> Manifest:
    """Everything below `root` except what is never locked, every path by itself: no hard links, no whiteouts.

    `tally` counts paths.
    """
    try:
        return Manifest.of_lines(_lines_of_tree(root, tally))
    except OSError as error:
        raise EngineError(
            f"could not read every file of the tree: {error.strerror}", hint="see the system's log for disk errors"
        ) from error


def _lines_of_tree(root: bytes, tally: Tally | None) -> list[bytes]:
    folders = list(_folders_of(root))
    paths = sum(folder.size for folder in folders)
    if tally is not None:
        tally.expect(paths)
    if paths > _WORTH_SHARING:
        # The work of each is about the same, as large files are left for later.
        shares = [_Share(number=first, folders=folders[first::_SHARES]) for first in range(_SHARES)]
        parts = map_in_forks(lambda share: _read(share, tally), shares, cost=lambda share: share.size)
    else:
        parts = [_read(_Share(number=0, folders=folders), tally)]
    large = [each for part in parts for each in part.large]
    digests = digests_of_files([(on_disk, status.st_size) for on_disk, _, status in large], tally)
    lines = [line for part in parts for line in part.lines]
    for (on_disk, path, status), digest in zip(large, digests, strict=True):
        has_attributes = bool(os.listxattr(on_disk, follow_symlinks=False))
        lines.append(_line_of_file(on_disk, path, status, digest, has_attributes))
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """A folder on disk, how paths in it begin, and what is in it: regular files, and other things."""

    on_disk: bytes
    above: bytes
    files: list[bytes]
    others: list[bytes]

    @property
    def size(self) -> int:
        return len(self.files) + len(self.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """What one process reads at a time."""

    number: int
    folders: Sequence[_Folder]

    @property
    def size(self) -> int:
        return sum(folder.size for folder in self.folders)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """Lines of a manifest, and the files that are so large that they are shared among all cores by their sizes."""

    lines: list[bytes]
    large: list[tuple[bytes, bytes, os.stat_result]]


def _folders_of(root: bytes) -> Iterator[_Folder]:
    waiting = [(root, b"")]
    while waiting:
        folder, above = waiting.pop()
        files, others = [], []
        with os.scandir(folder) as found:
            for item in found:
                if item.is_file(follow_symlinks=False):
                    files.append(item.name)
                    continue
                others.append(item.name)
                if item.is_dir(follow_symlinks=False) and not is_left_out(text_of(above + item.name)):
                    waiting.append((item.path, above + item.name + b"/"))
        yield _Folder(on_disk=folder, above=above, files=files, others=others)


def _read(share: _Share, tally: Tally | None) -> _Read:
    found = _Read(lines=[], large=[])
    for folder in share.folders:
        left = len(found.large)
        descriptor = os.open(folder.on_disk, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _read_files(folder, descriptor, found)
        finally:
            os.close(descriptor)
        for name in folder.others:
            path, on_disk = text_of(folder.above + name), folder.on_disk + b"/" + name
            # overlayfs lists a whiteout where its folder has nothing below it to hide.
            if not is_left_out(path) and os.path.lexists(on_disk):
                entry = entry_of(on_disk, path, os.lstat(on_disk))
                if entry is not None:
                    found.lines.append(_line_of(entry))
        if tally is not None:
            tally.add(folder.size - (len(found.large) - left), part=share.number)
    return found


def _read_files(folder: _Folder, descriptor: int, found: _Read) -> None:
    """Each file is opened by its name in an open folder, and all else is asked of the open file: to look up long paths
    would take most of the time."""
    for name in folder.files:
        path = folder.above + name
        text = text_of(path)
        if is_left_out(text):
            continue
        file = os.open(name, _TO_READ, dir_fd=descriptor)
        try:
            status = os.fstat(file)
            if status.st_size > _LARGE:
                found.large.append((folder.on_disk + b"/" + name, path, status))
                continue
            content = os.read(file, status.st_size + 1)
            hasher = hashlib.sha256(content)
            if len(content) > status.st_size:
                while more := os.read(file, _BUFFER):  # it grows meanwhile
                    hasher.update(more)
            digest = "sha256:" + hasher.hexdigest()
            has_attributes = bool(os.listxattr(file))
        finally:
            os.close(file)
        found.lines.append(_line_of_file(folder.on_disk + b"/" + name, path, status, digest, has_attributes))


def _line_of_file(on_disk: bytes, path: bytes, status: os.stat_result, digest: Digest, has_attributes: bool) -> bytes:
    if not has_attributes:
        return line_of_file(path, status, digest)
    entry = entry_of(on_disk, text_of(path), status, digest=digest)
    assert entry is not None
    return _line_of(entry)


def _line_of(entry: Entry) -> bytes:
    return entry.to_line().rstrip("\n").encode("ascii")


def digests_of_files(files: Sequence[tuple[bytes, int]], tally: Tally | None = None) -> list[Digest]:
    """The digests of files given with their sizes, in order. Forks one worker a core where that pays. `tally` counts
    files.

    Processes and not threads: reading many small files holds Python's lock too much.
    """
    is_much = len(files) > _MANY or sum(size for _, size in files) > _WORTH_FORKING
    workers = min(len(os.sched_getaffinity(0)), 8) if is_much else 1
    if workers == 1:
        # One for all files: to make one takes longer than to read most of them.
        buffer = bytearray(_BUFFER)
        return [_counted(_digest(path, buffer), tally, 0) for path, _ in files]
    largest_first = sorted(range(len(files)), key=lambda index: -files[index][1])
    with mmap.mmap(-1, _DIGEST_BYTES * len(files)) as results:
        shares = [largest_first[first::workers] for first in range(workers)]
        children = [_fork_worker(number, files, share, results, tally) for number, share in enumerate(shares)]
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if any(statuses):
            raise EngineError("could not read every file of the tree", hint="see the system's log for disk errors")
        raw = results[:]
    return [f"sha256:{raw[at : at + _DIGEST_BYTES].hex()}" for at in range(0, len(raw), _DIGEST_BYTES)]


def _fork_worker(
    number: int, files: Sequence[tuple[bytes, int]], indexes: Iterable[int], results: mmap.mmap, tally: Tally | None
) -> int:
    child = os.fork()
    if child:
        return child
    try:
        buffer = bytearray(_BUFFER)
        for index in indexes:
            digest = _counted(_digest(files[index][0], buffer), tally, number)
            results[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES] = bytes.fromhex(digest.removeprefix("sha256:"))
    except BaseException:
        os._exit(1)
    os._exit(0)


def _counted(digest: Digest, tally: Tally | None, part: int) -> Digest:
    if tally is not None:
        tally.add(part=part)
    return digest


def _digest(path: bytes, buffer: bytearray) -> Digest:
    """`buffer` is for the bytes that are read."""
    hasher = hashlib.sha256()
    view = memoryview(buffer)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while length := os.readv(descriptor, [buffer]):
            hasher.update(view[:length])
            if length < len(buffer):
                break  # of a regular file less than asked for is its end
    finally:
        os.close(descriptor)
    return "sha256:" + hasher.hexdigest()
