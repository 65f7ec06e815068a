"""Turns an overlay's upper folder into a layer in canonical form: only what changed, equal if the change is equal.

What the folder holds depends on how a command went about its work: a file that was opened for writing and not changed,
a folder removed and made again, a log. The canonical form depends only on the tree below, the tree seen afterwards, and
the rules in `klock.layers.normalisation`. The folder itself is changed to match its manifest, for later steps lie upon
it:

- what is left out of layers is removed, and so is what is equal to the tree below;
- a folder that hides all below it (`opaque`) becomes one whiteout for each path that it hides;
- bytecode of Python modules follows the time of its source, and a few files are rewritten without the times in them;
- every path has the same modification time; overlayfs' own notes are gone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from klock.errors import EngineError
from klock.forks import Tally
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import MTIME, above, is_emptied, is_left_out, matcher, rewriting_of
from klock.layers.rewriting.bytecode import BYTECODE_HEADER, source_of, with_time_of_source
from klock.layers.scan import OVERLAY_XATTR, digests_of_files, entry_of, is_whiteout, meaningful_xattrs, text_of
from klock.values import dataclass
from klock.walking import remove_tree

__all__ = ["Source", "canonicalise", "holds_changes", "is_opaque", "normalise_content"]

_OPAQUE: Final = OVERLAY_XATTR + "opaque"
_CHUNK: Final = 1 << 20
_DEEPEST: Final = 250
"""The deepest folder. Each takes three nested calls, and Python allows a thousand."""
_SHOWN: Final = 60


def canonicalise(
    upper: bytes,
    lower: bytes,
    *,
    leave_out: Sequence[str] = (),
    keep: Sequence[str] = (),
    tally: Tally | None = None,
) -> Manifest:
    """Brings `upper` into canonical form over the tree `lower` (only read), and says what it then holds.

    What `leave_out` names (`klock.layers.normalisation.matcher`) stays as it is in `lower`, whatever was done to it.
    What `keep` names, likewise, is not left out by the rules of all layers. `tally` counts the files that are hashed.
    Hard links among the layer's files are kept and named by their first path in sort order. Must run where the ids of
    all files are mapped and may be changed.
    """
    layer = _Layer(leave_out, keep)
    layer.fold(upper, lower, "", opaque=False)
    return layer.manifest(tally)


def holds_changes(upper: bytes, lower: bytes) -> bool:
    """Whether an overlay's upper folder makes `lower` look other than it is; nothing is changed on disk.

    Contents are not read: a file that was rewritten with what it held counts as a change.
    """
    waiting = [b""]
    while waiting:
        above = waiting.pop()
        if is_opaque(upper + b"/" + above):
            return True
        for name in os.listdir(upper + b"/" + above):
            path = above + name
            if is_left_out(text_of(path)):
                continue
            here, there = upper + b"/" + path, lower + b"/" + path
            status, below = os.lstat(here), _lstat(there)
            if not stat.S_ISDIR(status.st_mode) or below is None or not _same_metadata(here, status, there, below):
                return True
            waiting.append(path + b"/")
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Python source file of the layer: its size, its time as the step left it, and as it is seen afterwards."""

    size: int
    was: int
    becomes: int


class _Layer:
    """The layer while its folder is walked."""

    def __init__(self, leave_out: Sequence[str], keep: Sequence[str]) -> None:
        self.is_unwanted = matcher(leave_out)
        self.is_kept = matcher(keep)
        self.holds_kept = above(keep)
        self.entries: list[Entry] = []
        self.files: list[tuple[bytes, Entry, os.stat_result]] = []
        self.sources: dict[str, Source] = {}
        self.times: dict[tuple[int, int], int] = {}

    def fold(self, upper: bytes, lower: bytes | None, above: str, *, opaque: bool) -> bool:
        """Brings a folder into canonical form and says whether anything is left in it. `lower` is what it lies upon.

        Raises EngineError if folders are nested too deep.
        """
        if above.count("/") > _DEEPEST:
            raise EngineError(
                f"more than {_DEEPEST} folders are nested in one another: /{above[:_SHOWN]}...",
                hint="have the step make fewer, or leave them out of the layer",
            )
        opaque = opaque or is_opaque(upper)
        names = set(os.listdir(upper))
        if opaque and lower is not None:
            for name in set(os.listdir(lower)) - names:
                os.mknod(upper + b"/" + name, stat.S_IFCHR, os.makedev(0, 0))
                names.add(name)
        kept = [
            self._visit(upper + b"/" + name, lower and lower + b"/" + name, above + text_of(name), opaque=opaque)
            for name in sorted(names, key=_sources_first)
        ]
        _remove_notes(upper)
        os.utime(upper, (MTIME, MTIME))
        return any(kept)

    def _visit(self, upper: bytes, lower: bytes | None, path: str, *, opaque: bool) -> bool:
        """Keeps or removes one path; says which."""
        status = os.lstat(upper)
        below = _lstat(lower)
        if self.is_unwanted(path) or (is_left_out(path) and not self.is_kept(path) and not self.holds_kept(path)):
            _remove(upper, status)
            return False
        if is_whiteout(status):
            if below is None:
                os.unlink(upper)
                return False
            self.entries.append(Entry(path=path, kind=Kind.WHITEOUT))
            return True
        if stat.S_ISDIR(status.st_mode):
            below_is_folder = below is not None and stat.S_ISDIR(below.st_mode)
            holds_something = self.fold(upper, lower if below_is_folder else None, path + "/", opaque=opaque)
            if below_is_folder and lower and below and _same_metadata(upper, status, lower, below):
                if not holds_something:
                    os.rmdir(upper)
                return holds_something
        elif (
            not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode) and not stat.S_ISFIFO(status.st_mode)
        ):
            os.unlink(upper)  # a socket or a device: the engine's /dev has those that work
            return False
        else:
            source = self.sources.get(source_of(path) or "")
            status = normalise_content(upper, path, status, source)
            same = lower is not None and below is not None and _same(upper, status, lower, below)
            if path.endswith(".py") and stat.S_ISREG(status.st_mode):
                # This file may have been processed already, and have a layer's time, under another name.
                was = self.times.setdefault((status.st_dev, status.st_ino), int(status.st_mtime))
                becomes = int(below.st_mtime) if same and below else MTIME
                self.sources[path] = Source(size=status.st_size, was=was, becomes=becomes)
            if same:
                os.unlink(upper)
                return False
            _remove_notes(upper)
            os.utime(upper, (MTIME, MTIME), follow_symlinks=False)
        entry = entry_of(upper, path, status)
        assert entry is not None
        if entry.kind is Kind.FILE:
            self.files.append((upper, entry, status))
        else:
            self.entries.append(entry)
        return True

    def manifest(self, tally: Tally | None) -> Manifest:
        # An inode with several names is read once.
        inodes = {(status.st_dev, status.st_ino): (on_disk, status.st_size) for on_disk, _, status in self.files}
        if tally is not None:
            tally.expect(len(inodes))
        digests = dict(zip(inodes, digests_of_files(list(inodes.values()), tally), strict=True))
        inode_of = {entry.path: (status.st_dev, status.st_ino) for _, entry, status in self.files}
        files = (replace(entry, digest=digests[inode_of[entry.path]]) for _, entry, _ in self.files)
        flat = Manifest([*self.entries, *files])
        first: dict[tuple[int, int], str] = {}
        entries = []
        for path, entry in flat.items():
            target = first.setdefault(inode_of[path], path) if entry.kind is Kind.FILE else path
            entries.append(entry if target == path else Entry(path=path, kind=Kind.HARDLINK, target=target))
        return Manifest(entries)


def _lstat(path: bytes | None) -> os.stat_result | None:
    try:
        return os.lstat(path) if path else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_opaque(folder: bytes) -> bool:
    """Whether a folder of an upper folder hides all that is below it."""
    return _OPAQUE in os.listxattr(folder) and os.getxattr(folder, _OPAQUE) == b"y"


def _remove_notes(path: bytes) -> None:
    for name in os.listxattr(path, follow_symlinks=False):
        if name.startswith(OVERLAY_XATTR):
            os.removexattr(path, name, follow_symlinks=False)


def _remove(path: bytes, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        remove_tree(path)
    else:
        os.unlink(path)


def _sources_first(name: bytes) -> tuple[bool, bytes]:
    """The order in which a folder is walked: bytecode after the source files it is made of."""
    return name == b"__pycache__", name


def normalise_content(on_disk: bytes, path: str, status: os.stat_result, source: Source | None) -> os.stat_result:
    """Rewrites the file at `on_disk` as its path in the tree asks for (`klock.layers.normalisation`), in place.

    `source` is that of a bytecode file, when the layer has it. What the file then is.
    """
    if not stat.S_ISREG(status.st_mode):
        return status
    if is_emptied(path) and status.st_size:
        os.truncate(on_disk, 0)
        return os.lstat(on_disk)
    if source is not None:
        rewrite = partial(with_time_of_source, size=source.size, was=source.was, becomes=source.becomes)
        return _rewrite(on_disk, status, rewrite, length=BYTECODE_HEADER)
    rewriting = rewriting_of(path)
    return status if rewriting is None else _rewrite(on_disk, status, rewriting)


def _rewrite(
    on_disk: bytes, status: os.stat_result, rewrite: Callable[[bytes], bytes], *, length: int = -1
) -> os.stat_result:
    """Replaces the first `length` bytes of a file by as many others, or all by what may be longer or shorter. What the
    file then is on disk."""
    with open(on_disk, "r+b") as file:
        content = file.read(length)
        rewritten = rewrite(content)
        if rewritten == content:
            return status
        file.seek(0)
        file.write(rewritten)
        if length < 0:
            file.truncate()
    return os.lstat(on_disk)


def _same_metadata(upper: bytes, status: os.stat_result, lower: bytes, below: os.stat_result) -> bool:
    return (
        status.st_mode == below.st_mode
        and (status.st_uid, status.st_gid) == (below.st_uid, below.st_gid)
        and meaningful_xattrs(upper) == meaningful_xattrs(lower)
    )


def _same(upper: bytes, status: os.stat_result, lower: bytes, below: os.stat_result) -> bool:
    if not _same_metadata(upper, status, lower, below):
        return False
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(upper) == os.readlink(lower)
    return not stat.S_ISREG(status.st_mode) or (status.st_size == below.st_size and _same_content(upper, lower))


def _same_content(left: bytes, right: bytes) -> bool:
    with open(left, "rb", buffering=0) as one, open(right, "rb", buffering=0) as other:
        while chunk := one.read(_CHUNK):
            if chunk != other.read(len(chunk)):
                return False
    return True
