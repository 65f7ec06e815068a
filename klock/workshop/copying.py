"""COPY --from: copies what one tree holds into another, by klock's own hand, with owners, modes and attributes.

Both trees are mounted; symlinks above a path are followed as their own programs would follow them, and none leads out.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from klock.errors import ImageError
from klock.files.build_context import Patterns, all_but, follows_no_symlink, split_at_pivot, symlink_above
from klock.files.globs import go_regex, has_wildcard
from klock.files.modes import FOLDER_MODE, changed_mode, mode_of_new_folder
from klock.layers.normalisation import is_left_out
from klock.layers.scan import meaningful_xattrs
from klock.workshop.overlay import resolve
from klock.workshop.placing import several_for_one_path
from klock.workshop.protocol import TreeCopy

__all__ = ["copy_between"]

_WHERE: Final = "COPY --from"
_NONE: Final = (-1, -1)


def copy_between(source: str, target: str, wanted: TreeCopy, ids: tuple[int, int] | None) -> None:
    """Copies from the tree at `source` to that at `target`. `ids`: whose everything is then. Raises ImageError."""
    _Copy(source, target, wanted, ids).run()


class _Copy:
    def __init__(self, source: str, target: str, wanted: TreeCopy, ids: tuple[int, int] | None) -> None:
        self._source = source
        self._target = target
        self._wanted = wanted
        self._ids = ids
        self._excluded = [Patterns(wanted.exclude, where=_WHERE)] if wanted.exclude else []
        self._links: dict[tuple[int, int], str] = {}
        self._inodes: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        wanted = self._wanted
        if wanted.parents:
            for source in wanted.sources:
                self._with_parents(source)
            return
        found = [path for source in wanted.sources for path in self._matching(source)]
        singles = sum(not os.path.isdir(resolve(self._source, path)) for path in found)
        if singles > 1 and not wanted.into and not os.path.isdir(resolve(self._target, wanted.destination)):
            raise several_for_one_path(wanted.destination)
        for path in found:
            here = resolve(self._source, path)
            if os.path.isdir(here):
                self._folder(here, self._excluded)
            else:
                self._single(here, path)

    def _with_parents(self, source: str) -> None:
        """What the pattern of a source names in each folder that is a pivot. Symlinks are not followed."""
        pivot, pattern = split_at_pivot(source)
        others = all_but(pattern, where=_WHERE)
        for path in self._matching(pivot):
            here = resolve(self._source, path)
            is_excluded = any(each.leaves_out(pattern) for each in self._excluded)
            if not has_wildcard(source) and not is_excluded:
                if (link := symlink_above(Path(here), pattern)) is not None:
                    raise follows_no_symlink(link, where="")
                if not os.path.lexists(posixpath.join(here, pattern)):
                    raise self._missing(posixpath.join(path, pattern))
            if os.path.isdir(here):
                self._folder(here, [*self._excluded, *([others] if others else [])])

    # -- what is copied

    def _matching(self, source: str) -> list[str]:
        """The paths that a source names. Raises ImageError for a plain one that is not there."""
        path = posixpath.normpath(posixpath.join("/", source))
        found, is_walk = ["/"], False
        for part in path.strip("/").split("/"):
            if is_walk:
                # From the first wildcard on docker follows no symlinks.
                found = [above for above in found if not self._is_symlink(above)]
            is_walk = is_walk or has_wildcard(part)
            if not has_wildcard(part):
                found = [posixpath.join(above, part) for above in found]
                continue
            try:
                regex = re.compile(go_regex(part), re.DOTALL)
            except ValueError as error:
                raise ImageError(
                    f"{source} is not a pattern: {error}", hint="write a literal bracket as [[]"
                ) from error
            found = [
                posixpath.join(above, name)
                for above in found
                if os.path.isdir(folder := resolve(self._source, above))
                for name in sorted(os.listdir(folder))
                if regex.fullmatch(name)
            ]
        there = []
        for each in found:
            if os.path.lexists(resolve(self._source, each)):
                there.append(each)
            elif not has_wildcard(path) or self._is_symlink(each):
                raise self._missing(each)
        return there

    def _missing(self, path: str) -> ImageError:
        name = self._wanted.name
        return ImageError(f"{'stage ' * name.isdigit()}{name} has no {path}", hint=_way_out(path))

    def _is_symlink(self, path: str) -> bool:
        above, name = posixpath.split(path)
        return os.path.islink(posixpath.join(resolve(self._source, above), name))

    # -- copying

    def _single(self, here: str, path: str) -> None:
        wanted = self._wanted
        if any(each.leaves_out(posixpath.basename(path)) for each in self._excluded):
            return
        if wanted.into or os.path.isdir(resolve(self._target, wanted.destination)):
            self._entry(here, self._place(posixpath.join(wanted.destination, posixpath.basename(path))))
            return
        # If a symlink is there, the file goes where it leads.
        self._make_folders(posixpath.dirname(wanted.destination))
        self._entry(here, resolve(self._target, wanted.destination))

    def _folder(self, here: str, filters: Sequence[Patterns]) -> None:
        """What is in a folder, and none of `filters` leaves out. A folder that is left out is there if something in it
        is brought back."""
        destination = self._wanted.destination
        if not os.path.isdir(resolve(self._target, destination)):
            # A folder that is made for the content of another one gets neither its owner nor its mode.
            self._make_folders(destination, mode=mode_of_new_folder(self._wanted.chmod))
        pending: list[tuple[str, str, str, list[tuple[str, str]]]] = [(here, destination, "", [])]
        while pending:
            folder, into, inside, above = pending.pop()
            for name in sorted(os.listdir(folder)):
                below = f"{inside}{name}"
                child, place = f"{folder}/{name}", posixpath.join(into, name)
                left_out_by = [each for each in filters if each.leaves_out(below)]
                if not left_out_by:
                    for path, its_place in [*above, (child, place)]:
                        self._entry(path, self._place(its_place))
                    above = []
                is_folder = os.path.isdir(child) and not os.path.islink(child)
                if is_folder and all(each.may_bring_back_below(below) for each in left_out_by):
                    pending.append((child, place, f"{below}/", [*above, (child, place)] if left_out_by else []))

    def _entry(self, here: str, target: str) -> None:
        """One path, a folder without what is in it. `target` is where it goes; the folder above is there."""
        status = os.lstat(here)
        if stat.S_ISDIR(status.st_mode):
            real = resolve(self._target, target.removeprefix(self._target)) if os.path.islink(target) else target
            if not os.path.isdir(real):
                self._make_folder(target)
            elif real != target:
                return
            self._dress(here, target, status)
            return
        if os.path.isdir(target) and not os.path.islink(target):
            raise ImageError(f"there is a folder at {target.removeprefix(self._target)}", hint="end it in a slash")
        if os.path.lexists(target):
            os.unlink(target)
            # This file replaces one of an earlier source. Other names of that one are no links to this one.
            self._links.pop(self._inodes.pop(target, _NONE), None)
        inode = (status.st_dev, status.st_ino)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(here), target)
        elif stat.S_ISREG(status.st_mode):
            if inode in self._links:
                os.link(self._links[inode], target)
                return
            shutil.copyfile(here, target)
            if status.st_nlink > 1:
                self._links[inode], self._inodes[target] = target, inode
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(target)
        else:
            return
        self._dress(here, target, status)

    def _dress(self, here: str, target: str, status: os.stat_result) -> None:
        os.chown(target, *(self._ids or (status.st_uid, status.st_gid)), follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return
        mode = changed_mode(stat.S_IMODE(status.st_mode), self._wanted.chmod, is_folder=stat.S_ISDIR(status.st_mode))
        os.chmod(target, mode)
        for name, value in meaningful_xattrs(os.fsencode(here)):
            os.setxattr(target, name, bytes.fromhex(value), follow_symlinks=False)

    def _place(self, path: str) -> str:
        """Where a path of the target's tree is, its last part not followed; the folders above are made."""
        above, _, name = path.rpartition("/")
        self._make_folders(above)
        return f"{resolve(self._target, above or '/').rstrip('/')}/{name}"

    def _make_folders(self, path: str, *, mode: int = FOLDER_MODE) -> None:
        """Makes the folders that are missing, the last with `mode`."""
        if path in ("", "/") or os.path.isdir(here := resolve(self._target, path)):
            return
        self._make_folders(posixpath.dirname(path))
        self._make_folder(here)
        os.chown(here, *(self._ids or (0, 0)))
        os.chmod(here, mode)

    def _make_folder(self, target: str) -> None:
        try:
            os.mkdir(target)
        except FileExistsError:
            there = target.removeprefix(self._target)
            raise ImageError(f"there is a file at {there}", hint="choose another destination") from None


def _way_out(path: str) -> str:
    if is_left_out(path.strip("/")) or is_left_out(f"{path.strip('/')}/x"):
        return f"layers leave {path} out, as docs/layers.md says: have the stage write it to another folder"
    return "check the path, and the stage before it"
