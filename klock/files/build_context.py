"""A build context: what COPY finds in it, by docker's rules.

A `.dockerignore`, or the Dockerfile's own `<name>.dockerignore`, says what the context does not hold (the Dockerfile
reference, ".dockerignore files"; patterns are those of moby's patternmatcher). Sources may have wildcards, which are
those of Go's filepath.Match. A file that no checkout shares is not part of it either: git's folder, bytecode, virtual
environments, klock's own lockfiles; a source that names such a path has it.
"""

# Those of pathlib raise OSError for a name that is too long to be there.
# ruff: noqa: PTH110, PTH112, PTH114

from __future__ import annotations

import os
import posixpath
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

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
from klock.words import did_you_mean

__all__ = [
    "BuildContext",
    "Found",
    "Patterns",
    "all_but",
    "follows_no_symlink",
    "path_inside",
    "split_at_pivot",
    "symlink_above",
]


class Patterns:
    """Patterns of moby's patternmatcher: later ones win, `!` brings a path back."""

    def __init__(self, lines: Sequence[str], *, where: str) -> None:
        """Raises ImageError for a pattern that is none."""
        # Only who reads a Dockerfile needs it.
        from e2b_dockerfile_utils import PatternMatcher

        try:
            with warnings.catch_warnings():
                # Of `[[]`, a bracket itself, which the library hands on to Python's regular expressions.
                warnings.simplefilter("ignore", FutureWarning)
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
        if os.path.islink(here) and followed < 40:
            followed += 1
            target = os.readlink(here)  # noqa: PTH115 (the exact text)
            here = folder if target.startswith("/") else here.parent
            waiting += [part for part in target.split("/") if part][::-1]
    return here


def split_at_pivot(source: str) -> tuple[str, str]:
    """A source of `COPY --parents`: its pivot, which is what stands before `/./`, and its pattern, whose folders are
    kept. Both are relative, and empty for the root."""
    pivot, has_pivot, pattern = source.partition("/./")
    if not has_pivot:
        pivot, pattern = "", source
    return (posixpath.normpath(f"/{pivot}").strip("/"), posixpath.normpath(f"/{pattern}").strip("/"))


def all_but(pattern: str, *, where: str) -> Patterns | None:
    """Leaves out what the pattern of a source of `COPY --parents` does not name: one of moby's patternmatcher too, so
    that it names all that is in a folder, and `**` any number of folders. None if it names everything."""
    return Patterns(["**", f"!{pattern}"], where=where) if pattern else None


def symlink_above(folder: Path, path: str) -> str | None:
    """The first symlink on the way to a path in a folder."""
    above = [each.as_posix() for each in PurePosixPath(path).parents]
    return next((each for each in reversed(above) if os.path.islink(folder / each)), None)


def follows_no_symlink(link: str, *, where: str) -> ImageError:
    return ImageError(
        f"{where}{link} is a symlink, and --parents follows none",
        hint=f"name the path that it leads to, or make it the pivot: {link}/./",
    )


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

    def find(self, source: str, *, exclude: Patterns | None = None) -> list[Found]:
        """What a source names: nothing for wildcards that match nothing.

        Raises ImageError for a missing path and for a malformed pattern.
        """
        path = posixpath.normpath("/" + source).strip("/")
        found = []
        for each in self._matching(path) if has_wildcard(path) else [path]:
            here = self._read(each, exclude, is_named=not has_wildcard(path))
            if here is not None:
                found.append(here)
            elif not has_wildcard(path) and not (exclude and exclude.leaves_out(posixpath.basename(path))):
                raise self._missing(each, source)
        return found

    def find_with_parents(self, source: str, *, exclude: Patterns | None = None) -> list[Found]:
        """What a source of `COPY --parents` names, as what each of its pivots holds. Symlinks are not followed.

        Raises ImageError for a missing path and for a malformed pattern.
        """
        pivot, pattern = split_at_pivot(source)
        others = all_but(pattern, where=self.where)
        found = []
        for path in self._matching(pivot) if has_wildcard(pivot) else [pivot]:
            host = path_inside(self.folder, path)
            if not os.path.isdir(host):
                if has_wildcard(pivot):
                    continue
                raise self._missing(path, source)
            here = self._read_folder(path, host, [each for each in (exclude, others) if each], named=pattern)
            is_there = has_wildcard(source) or not pattern or pattern in {entry.path for entry in here.entries}
            if not is_there and not (exclude and exclude.leaves_out(pattern)):
                if (link := symlink_above(host, pattern)) is not None:
                    raise follows_no_symlink(link, where=f"{self.where}: ")
                raise self._missing(posixpath.join(path, pattern), source)
            found.append(here)
        return found

    # -- one path

    def _read(self, path: str, exclude: Patterns | None, *, is_named: bool) -> Found | None:
        host = path_inside(self.folder, path)
        try:
            status = host.stat()
        except OSError as error:
            if os.path.islink(self._named(path)) and not self._ignored.leaves_out(path):
                raise self._leads_nowhere(path) from error
            return None
        real = os.path.relpath(host, self.folder) if path else ""
        if stat.S_ISDIR(status.st_mode):
            here = self._read_folder(path, host, [exclude] if exclude else [])
            return None if not here.entries and path and self._ignored.leaves_out(path) else here
        if exclude is not None and exclude.leaves_out(posixpath.basename(path)):
            return None
        if self._ignored.leaves_out(real):
            if real != path and not self._ignored.leaves_out(path):
                raise self._leads_nowhere(path)
            return None
        with self._reader(path) as (reader, entries):
            entry = reader.file_entry(os.fspath(host), "", status)
            if not reader.leaves_out(path, is_named=is_named):
                entries.append(entry)
        return Found(path=path, is_folder=False, entries=tuple(entries)) if entries else None

    def _read_folder(self, path: str, host: Path, filters: Sequence[Patterns], *, named: str = "") -> Found:
        """What a folder holds that none of `filters` leaves out. `named` is a path in it that is there even if copies
        of the folder always leave it out."""
        real = os.path.relpath(host, self.folder)
        with self._reader(path) as (reader, entries):
            entries += self._below(reader, host, "" if real == "." else real, filters, named)
        return Found(path=path, is_folder=True, entries=tuple(entries))

    @contextmanager
    def _reader(self, path: str) -> Iterator[tuple[EntryReader, list[FileEntry]]]:
        """Reads files below a path of the context. The digests of the files that are in the list at the end of the
        block are kept."""
        key = digest_of_bytes(os.fsencode(self.folder) + b"\0context\0" + os.fsencode(path))
        digests = DigestCache() if self.store is None else DigestCache(store=self.store, key=key)
        entries: list[FileEntry] = []
        yield EntryReader(where=self.where, digests=digests, credentials=self.credentials), entries
        digests.forget_others(entry.path for entry in entries)
        digests.save()

    def _below(
        self, reader: EntryReader, host: Path, inside: str, filters: Sequence[Patterns], named: str
    ) -> Iterator[FileEntry]:
        """What is below a folder, sorted. A folder that is left out is there if something in it is brought back."""
        found: dict[str, FileEntry] = {}
        pending = [(os.fspath(host), "")]
        while pending:
            folder, above = pending.pop()
            for child in reader.list(folder):
                path = above + child.name
                in_context = f"{inside}/{path}".strip("/")
                is_folder = child.is_dir(follow_symlinks=False)
                if is_always_left_out(child.name, child.path) and not f"{named}/".startswith(f"{path}/"):
                    continue
                asked = [(self._ignored, in_context), *((each, path) for each in filters)]
                left_out_by = [(patterns, name) for patterns, name in asked if patterns.leaves_out(name)]
                if is_folder:
                    reader.require_utf8(child.name, f"the name {child.path!r}")
                    if not left_out_by:
                        found[path] = FileEntry(path=path, mode=FOLDER_MODE)
                    if all(patterns.may_bring_back_below(name) for patterns, name in left_out_by):
                        pending.append((child.path, f"{path}/"))
                elif not left_out_by:
                    entry = reader.entry(child, path)
                    if entry.digest is None or not reader.leaves_out(path, is_named=path == named):
                        found[path] = entry
        for path in list(found):
            while path := path.rpartition("/")[0]:
                found.setdefault(path, FileEntry(path=path, mode=FOLDER_MODE))
        yield from (found[path] for path in sorted(found))

    # -- wildcards

    def _matching(self, pattern: str) -> list[str]:
        found, is_walk = [""], False
        for part in pattern.split("/"):
            if is_walk:
                # From the first wildcard on docker follows no symlinks.
                found = [above for above in found if not os.path.islink(self._named(above))]
            is_walk = is_walk or has_wildcard(part)
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

    def _named(self, path: str) -> Path:
        """Where a path of the context is, its last part not followed."""
        above, _, name = path.rpartition("/")
        return path_inside(self.folder, above) / name

    def _names_in(self, folder: str) -> list[str]:
        path = path_inside(self.folder, folder)
        if not os.path.isdir(path):
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

    def _missing(self, path: str, source: str = "") -> ImageError:
        if os.path.lexists(self._named(path)):
            name = self.ignore_file.name if self.ignore_file else ".dockerignore"
            return ImageError(
                f"{self.where}: {name} leaves out {path}",
                hint=f"bring it back with a line !{path} in {name}, or remove the pattern",
            )
        return ImageError(
            f"{self.where}: there is no {path or '.'} in the build context {self.folder}",
            hint=self._meant(path, source)
            or "check the path: it begins at the build context, which --context names; "
            "the Dockerfile's own folder otherwise",
        )

    def _meant(self, path: str, source: str) -> str | None:
        """What was meant by a source that is not there."""
        if f"{posixpath.normpath(source)}/".startswith("../"):
            return "a source cannot be above the build context: take a higher one, as in --context .."
        if source.startswith("/") and os.path.exists(source):
            return (
                "a source begins at the build context, even after a slash: copy it there, or name its folder: --context"
            )
        parts = path.split("/")
        for number, part in enumerate(parts):
            above = "/".join(parts[:number])
            names = self._names_in(above)
            if part not in names:
                near = [name for name in names if did_you_mean(part, [name])]
                paths = [posixpath.join(above, name, *parts[number + 1 :]) for name in near]
                return did_you_mean(path, [each for each in paths if os.path.lexists(self._named(each))])
        return None
