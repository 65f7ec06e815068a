"""A build context: what COPY finds in it, by docker's rules.

A `.dockerignore`, or the Dockerfile's own `<name>.dockerignore`, says what the context does not hold (the Dockerfile
reference, ".dockerignore files"; patterns are those of moby's patternmatcher). Sources may have wildcards, which are
those of Go's filepath.Match. A file that no checkout shares is not part of it either: git's folder, bytecode, virtual
environments, klock's own lockfiles; a source that names such a path has it.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from klock.digests import digest_of_bytes
from klock.errors import ImageError
from klock.files.digest_cache import DigestCache
from klock.files.globs import go_regex, has_wildcard
from klock.files.ignore import is_always_left_out, is_own_lockfile
from klock.files.modes import FOLDER_MODE
from klock.files.scan import EntryReader
from klock.lockfile.model import FileEntry
from klock.secrets.credential_files import CredentialFiles
from klock.store import Store
from klock.values import dataclass

__all__ = ["BuildContext", "Found", "Patterns", "path_inside"]


class Patterns:
    """Patterns of moby's patternmatcher: later ones win, `!` brings a path back."""

    def __init__(self, lines: Sequence[str], *, where: str) -> None:
        """Raises ImageError for a pattern that is none."""
        # Only who reads a Dockerfile needs it.
        from e2b_dockerfile_utils import PatternMatcher

        try:
            self._matcher = PatternMatcher(list(lines))
        except ValueError as error:
            raise ImageError(f"{where}: {error}", hint="fix or remove the pattern") from error

    def leaves_out(self, path: str) -> bool:
        return self._matcher.matches(path)

    def may_bring_back_below(self, path: str) -> bool:
        return self._matcher.may_match_under(path)


def path_inside(folder: Path, path: str) -> Path:
    """Where a path of a build context is, its symlinks followed as if the context were the root."""
    here, waiting, followed = folder, [part for part in path.split("/") if part][::-1], 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            here = here.parent if here != folder else here
            continue
        if part in ("", "."):
            continue
        here = here / part
        if here.is_symlink() and followed < 40:
            followed += 1
            target = os.readlink(here)  # noqa: PTH115 (the exact text)
            here = folder if target.startswith("/") else here.parent
            waiting += [part for part in target.split("/") if part][::-1]
    return here


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a source is: `path` in the context, and its entries: one with the path "" for a file."""

    path: str
    is_folder: bool
    entries: tuple[FileEntry, ...]


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """`folder` is absolute, `where` begins messages. With a store, files that did not change are not read again."""

    folder: Path
    ignore_file: Path | None = None
    where: str
    store: Store | None = None
    credentials: CredentialFiles

    def find(self, source: str, *, exclude: Patterns | None = None, deep: bool = False) -> list[Found]:
        """What a source names: nothing for wildcards that match nothing. With `deep`, `**` is any number of folders.

        Raises ImageError for a missing path and for a malformed pattern.
        """
        path = posixpath.normpath("/" + source).strip("/")
        found = []
        for each in self._matching(path, deep=deep) if has_wildcard(path) else [path]:
            here = self._read(each, exclude)
            if here is not None:
                found.append(here)
            elif not has_wildcard(path) and not (exclude and exclude.leaves_out(posixpath.basename(path))):
                raise self._missing(each)
        return found

    # -- one path

    def _read(self, path: str, exclude: Patterns | None) -> Found | None:
        host = path_inside(self.folder, path)
        try:
            status = host.stat()
        except OSError as error:
            if self._named(path).is_symlink() and not self._ignored.leaves_out(path):
                raise self._leads_nowhere(path) from error
            return None
        key = digest_of_bytes(os.fsencode(self.folder) + b"\0context\0" + os.fsencode(path))
        digests = DigestCache() if self.store is None else DigestCache(store=self.store, key=key)
        reader = EntryReader(where=self.where, digests=digests, credentials=self.credentials)
        real = os.path.relpath(host, self.folder) if path else ""
        if stat.S_ISDIR(status.st_mode):
            entries = tuple(self._below(reader, host, "" if real == "." else real, exclude))
            if not entries and path and self._ignored.leaves_out(path):
                return None
        else:
            if exclude is not None and exclude.leaves_out(posixpath.basename(path)):
                return None
            if self._ignored.leaves_out(real):
                if real != path and not self._ignored.leaves_out(path):
                    raise self._leads_nowhere(path)
                return None
            entries = (reader.file_entry(os.fspath(host), "", status),)
            reader.leaves_out(path)
        digests.forget_others(entry.path for entry in entries)
        digests.save()
        return Found(path=path, is_folder=stat.S_ISDIR(status.st_mode), entries=entries)

    def _below(self, reader: EntryReader, host: Path, inside: str, exclude: Patterns | None) -> Iterator[FileEntry]:
        """What is below a folder, sorted. A folder that is left out is there if something in it is brought back."""
        found: dict[str, FileEntry] = {}
        pending = [(os.fspath(host), "")]
        while pending:
            folder, above = pending.pop()
            for child in reader.list(folder):
                path = above + child.name
                in_context = f"{inside}/{path}".strip("/")
                is_folder = child.is_dir(follow_symlinks=False)
                if is_always_left_out(child.name, child.path):
                    continue
                left_out = self._ignored.leaves_out(in_context)
                left_out = left_out or (exclude is not None and exclude.leaves_out(path))
                if is_folder:
                    reader.require_utf8(child.name, f"the name {child.path!r}")
                    if not left_out:
                        found[path] = FileEntry(path=path, mode=FOLDER_MODE)
                    if not left_out or self._may_hold(in_context, path, exclude):
                        pending.append((child.path, f"{path}/"))
                elif not left_out:
                    entry = reader.entry(child, path)
                    if entry.digest is None or not reader.leaves_out(path):
                        found[path] = entry
        for path in list(found):
            while path := path.rpartition("/")[0]:
                found.setdefault(path, FileEntry(path=path, mode=FOLDER_MODE))
        yield from (found[path] for path in sorted(found))

    def _may_hold(self, in_context: str, path: str, exclude: Patterns | None) -> bool:
        return self._ignored.may_bring_back_below(in_context) or (
            exclude is not None and exclude.may_bring_back_below(path)
        )

    # -- wildcards

    def _matching(self, pattern: str, *, deep: bool) -> list[str]:
        found, is_walk = [""], False
        for part in pattern.split("/"):
            if is_walk:
                # From the first wildcard on docker follows no symlinks.
                found = [above for above in found if not self._named(above).is_symlink()]
            is_walk = is_walk or has_wildcard(part)
            if deep and part == "**":
                found = sorted({path for above in found for path in self._folders_from(above)})
                continue
            if not has_wildcard(part):
                found = [f"{above}/{part}".strip("/") for above in found]
                continue
            try:
                regex = re.compile(go_regex(part), re.DOTALL)
            except ValueError as error:
                raise ImageError(
                    f"{self.where}: {pattern} is not a pattern: {error}", hint="write a literal bracket as [[]"
                ) from error
            names = [(above, name) for above in found for name in self._names_in(above)]
            found = [f"{above}/{name}".strip("/") for above, name in names if regex.fullmatch(name)]
        return [path for path in found if os.path.lexists(self._named(path))]

    def _folders_from(self, above: str) -> Iterator[str]:
        """The folder itself, and all below it."""
        yield above
        for name in self._names_in(above):
            path = f"{above}/{name}".strip("/")
            host = self.folder / path
            if host.is_dir() and not host.is_symlink() and not is_always_left_out(name, os.fspath(host)):
                yield from self._folders_from(path)

    def _named(self, path: str) -> Path:
        """Where a path of the context is, its last part not followed."""
        above, _, name = path.rpartition("/")
        return path_inside(self.folder, above) / name

    def _names_in(self, folder: str) -> list[str]:
        path = path_inside(self.folder, folder)
        if not path.is_dir():
            return []
        return sorted(child.name for child in path.iterdir() if not is_own_lockfile(child.name, str(child)))

    # -- what the context does not hold

    @cached_property
    def _ignored(self) -> Patterns:
        if self.ignore_file is None:
            return Patterns([], where=self.where)
        try:
            text = self.ignore_file.read_bytes().decode("utf-8-sig", "surrogateescape")
        except OSError as error:
            raise ImageError(
                f"{self.where}: cannot read {self.ignore_file}: {error.strerror}", hint="make it readable, or remove it"
            ) from error
        return Patterns(text.split("\n"), where=f"{self.where}: {self.ignore_file.name}")

    def _leads_nowhere(self, path: str) -> ImageError:
        return ImageError(
            f"{self.where}: {path} is a symlink to what is not in the build context",
            hint="remove it, or copy a folder that holds it: symlinks in a folder stay symlinks",
        )

    def _missing(self, path: str) -> ImageError:
        if os.path.lexists(self._named(path)):
            name = self.ignore_file.name if self.ignore_file else ".dockerignore"
            return ImageError(
                f"{self.where}: {name} leaves out {path}",
                hint=f"bring it back with a line !{path} in {name}, or remove the pattern",
            )
        return ImageError(
            f"{self.where}: there is no {path or '.'} in the build context {self.folder}",
            hint="check the path: it begins at the build context, which --context names; the Dockerfile's own folder "
            "otherwise",
        )
