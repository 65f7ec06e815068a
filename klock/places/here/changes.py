"""What a step changed in the container's root, as the canonical layer that the same step makes in the workshop.

The rules are those of `klock.layers.canonical`, which has an overlay's folders to compare; here two scans are compared,
and the files themselves, which stay where they are, get the canonical times and contents.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from klock.layers.canonical import Source, normalise_content
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import MTIME, matcher
from klock.layers.rewriting.bytecode import source_of
from klock.layers.scan import digests_of_files
from klock.places.here.step_paths import StepPaths
from klock.places.here.tree import Seen, Tree, on_disk, see

__all__ = ["canonical_changes"]


def canonical_changes(
    before: Tree, now: Tree, *, leave_out: Sequence[str] = (), own: StepPaths | None = None
) -> tuple[Manifest, Tree]:
    """Brings what changed since `before` into canonical form on disk; the layer's manifest, and the tree as it is then.

    What `leave_out` names is in no manifest; it stays on disk as the step left it. So does what cannot be the step's
    doing, where its `own` paths are known: programs wrote that.
    """
    changes = _Changes(before, now, leave_out, own)
    for path in sorted(now, key=lambda path: ("/__pycache__/" in path, path)):
        changes.visit(path)
    for path in before:
        changes.visit_removed(path)
    return changes.manifest(), Tree(changes.seen)


class _Changes:
    def __init__(self, before: Tree, now: Tree, leave_out: Sequence[str], own: StepPaths | None) -> None:
        self.before = before
        self.seen = dict(now)
        self._is_named = matcher(leave_out)
        self._own = own
        self.entries: list[Entry] = []
        self.sources: dict[str, Source] = {}
        self.times: dict[int, int] = {}

    def _is_unwanted(self, path: str) -> bool:
        return self._is_named(path) or (self._own is not None and not self._own.may_have(path))

    def visit(self, path: str) -> None:
        now, before = self.seen[path], self.before.get(path)
        if now.entry.kind is Kind.FOLDER:
            if (before is None or before.entry != now.entry) and not self._is_unwanted(path):
                self.entries.append(now.entry)
            return
        if now.is_as_before(before) or self._is_unwanted(path):
            return
        where = on_disk(path)
        try:
            status = os.lstat(where)
        except FileNotFoundError:  # a program removed it in this moment
            del self.seen[path]
            return
        rewritten = normalise_content(where, path, status, self.sources.get(source_of(path) or ""))
        entry = now.entry
        if rewritten is not status:
            [digest] = digests_of_files([(where, rewritten.st_size)])
            entry = replace(entry, size=rewritten.st_size, digest=digest)
        same = before is not None and before.entry == entry
        if path.endswith(".py") and entry.kind is Kind.FILE:
            # This file may have been processed already, and have a layer's time, under another name.
            was = self.times.setdefault(now.inode, now.modified // 10**9)
            becomes = before.modified // 10**9 if same and before else MTIME
            self.sources[path] = Source(size=entry.size, was=was, becomes=becomes)
        modified = before.modified if same and before else MTIME * 10**9
        os.utime(where, ns=(modified, modified), follow_symlinks=False)
        after = see(path)
        assert after is not None
        self.seen[path] = replace(after, entry=entry)
        if not same:
            self.entries.append(entry)

    def visit_removed(self, path: str) -> None:
        if path in self.seen or self._is_unwanted(path):
            return
        above = path.rpartition("/")[0]
        if not above or (above in self.seen and self.seen[above].entry.kind is Kind.FOLDER):
            self.entries.append(Entry(path=path, kind=Kind.WHITEOUT))

    def manifest(self) -> Manifest:
        """With the layer's hard links named by their first path in sort order."""
        flat = Manifest(self.entries)
        first: dict[int, str] = {}
        linked = []
        for path, entry in flat.items():
            target = first.setdefault(self._inode(path), path) if entry.kind is Kind.FILE else path
            linked.append(entry if target == path else Entry(path=path, kind=Kind.HARDLINK, target=target))
        # A later path of one file may have been stamped before its time was set through another.
        for path in flat:
            if path in self.seen:
                self.seen[path] = _stamped_again(path, self.seen[path])
        return Manifest(linked)

    def _inode(self, path: str) -> int:
        return self.seen[path].inode


def _stamped_again(path: str, seen: Seen) -> Seen:
    now = see(path)
    return seen if now is None else replace(now, entry=seen.entry)
