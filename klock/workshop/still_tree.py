"""A tree of files known by its manifest alone, into which files are placed: what `klock.workshop.placing` and
`klock.layers.canonical` make of a real one, computed."""

from __future__ import annotations

import fnmatch
import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from klock.errors import HashMismatch
from klock.files.placed import PlacedFile
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import above, is_left_out, matcher
from klock.workshop.placing import (
    MAY_BE_KEPT,
    cannot_make_folder,
    cannot_replace_folder,
    in_order,
    joined,
    never_kept,
    several_for_one_path,
)
from klock.workshop.symlinks import MOST_SYMLINKS, follow

__all__ = ["StillTree"]


class StillTree:
    """`written` are the paths, relative to the root, that were placed. They lead through no symlink."""

    def __init__(self, below: Manifest) -> None:
        self._below = below
        self._entries = dict(below)
        self._ids = (0, 0)
        self.written: set[str] = set()

    def paths(self) -> Iterable[str]:
        return self._entries

    def find(self, path: str) -> Entry | None:
        """What is at an absolute path, behind all symlinks."""
        return self._entries.get(self.real(path))

    def find_itself(self, path: str) -> Entry | None:
        """What is at a path relative to the root; a symlink is not followed."""
        return self._entries.get(path)

    def real(self, path: str) -> str:
        """Where an absolute path leads, as realpath(3) has it within the root; missing parts are kept."""

        def read_link(here: str, followed: int) -> str | None:
            entry = self._entries.get(here)
            if entry is None or entry.kind is not Kind.SYMLINK or followed == MOST_SYMLINKS:
                return None
            return entry.target or ""

        return follow(path, read_link)

    def matching(self, pattern: str) -> list[str]:
        """The absolute paths that match a shell pattern, as glob(7) has it, also through symlinks to folders."""
        names: dict[str, list[str]] = {}
        for path in self._entries:
            above, _, name = path.rpartition("/")
            names.setdefault(above, []).append(name)
        found = [""]
        for part in pattern.strip("/").split("/"):
            found = [
                f"{above}/{name}"
                for above in found
                for name in names.get(self.real(above), ())
                if fnmatch.fnmatchcase(name, part)
            ]
        return found

    def place(
        self, files: Sequence[PlacedFile], destination: str, *, ids: tuple[int, int] = (0, 0), keep: bool = False
    ) -> dict[str, Path]:
        """Places files as `klock.workshop.placing.place` does; by path, the host files whose bytes are there then."""
        self._ids = ids
        sources = {}
        for file in sorted(files, key=in_order):
            path = joined(destination, file.path)
            if not file.path and file.name:
                path = self._named(file, destination)
            real = self._beside(path)
            if is_left_out(real) and not (keep and real.startswith(MAY_BE_KEPT)):
                raise never_kept(path)
            self._make_folders(posixpath.dirname(path))
            if file.source is not None:
                self._put(path, real, self._file(file, real))
                sources[real] = file.source
            elif file.target is not None:
                self._put(path, real, self._owned(Entry(path=real, kind=Kind.SYMLINK, mode=0o777, target=file.target)))
            elif not file.path:
                self._make_folders(path, mode=file.mode)
            else:
                self._folder(path, real, file.mode)
        return sources

    def _named(self, file: PlacedFile, destination: str) -> str:
        if self._is_folder(destination):
            return joined(destination, file.name)
        if file.is_one_of_several:
            raise several_for_one_path(destination)
        return f"/{self.real(destination)}"

    def changes(self, leave_out: Sequence[str], keep: Sequence[str] = ()) -> Manifest:
        """What was placed and is not as it was below, in canonical form."""
        is_unwanted, is_kept, holds_kept = matcher(leave_out), matcher(keep), above(keep)
        return Manifest(
            entry
            for path in self.written
            if (not is_left_out(path) or is_kept(path) or holds_kept(path)) and not is_unwanted(path)
            if (entry := self._entries[path]) != self._below.get(path)
        )

    def _file(self, file: PlacedFile, path: str) -> Entry:
        assert file.source is not None
        with open(file.source, "rb") as content:
            digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
            size = content.tell()
        if file.digest is not None and digest != file.digest:
            raise HashMismatch(
                f"{file.source}: hash mismatch: locked {file.digest}, on disk {digest}",
                hint="run `klock lock` to accept the changed file",
            )
        return self._owned(Entry(path=path, kind=Kind.FILE, mode=file.mode, size=size, digest=digest))

    def _put(self, path: str, real: str, entry: Entry) -> None:
        there = self._entries.get(real)
        if there is not None and there.kind is Kind.FOLDER:
            raise cannot_replace_folder(path)
        self._write(entry)

    def _folder(self, path: str, real: str, mode: int) -> None:
        there = self._entries.get(real)
        if there is not None and there.kind is Kind.SYMLINK and self._is_folder(path):
            return  # a symlink to a folder stays one, and its target keeps its mode
        self._make_folders(path)
        there = self._entries.get(self.real(path))
        if there is not None:
            self._write(self._owned(replace(there, mode=mode)))

    def _owned(self, entry: Entry) -> Entry:
        uid, gid = self._ids
        return replace(entry, uid=uid, gid=gid)

    def _make_folders(self, path: str, *, mode: int = 0o755) -> None:
        if path in ("", "/") or self._is_folder(path):
            return
        real = self.real(path)
        if real in self._entries:
            raise cannot_make_folder(path)
        self._make_folders(posixpath.dirname(f"/{real}"))
        self._write(self._owned(Entry(path=real, kind=Kind.FOLDER, mode=mode)))

    def _beside(self, path: str) -> str:
        """Where an absolute path is itself: a symlink at its end is not followed."""
        return f"{self.real(posixpath.dirname(path))}/{posixpath.basename(path)}".strip("/")

    def _is_folder(self, path: str) -> bool:
        real = self.real(path)
        found = self._entries.get(real)
        return not real or (found is not None and found.kind is Kind.FOLDER)

    def _write(self, entry: Entry) -> None:
        self._entries[entry.path] = entry
        self.written.add(entry.path)
