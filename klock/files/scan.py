"""Reads local files into the lockfile's entries: sorted, hashed, and free of what differs between two checkouts.

Modes become 0o755 (the owner may execute) or 0o644, and 0o755 for folders, so that neither the umask nor version
control shows. Symlinks inside the source stay links with their text; the source itself is followed. Modification
times, owners and hard links take no part. What a lock cannot hold (sockets, devices, fifos, names that are not UTF-8)
is an error, not a gap.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from klock.digests import Digest, digest_of_json
from klock.errors import ImageError
from klock.files.digest_cache import DigestCache
from klock.files.filters import Filters, Rule, parse_filter_options
from klock.files.ignore import IGNORE_FILES, IgnoreRules, ignore_rules_above, is_always_left_out
from klock.files.modes import FOLDER_MODE
from klock.lockfile.model import FileEntry
from klock.secrets.credential_files import LOOKED_INTO, CredentialFiles, Treatment, credential_file

__all__ = ["EntryReader", "scan", "tree_digest"]

FILE_MODE: Final = 0o644
EXECUTABLE_MODE: Final = 0o755
SYMLINK_MODE: Final = 0o777


def tree_digest(entries: Iterable[FileEntry]) -> Digest:
    """One digest for a set of entries, whatever their order."""
    ordered = sorted(entries, key=lambda entry: entry.path)
    return digest_of_json([[e.path, e.mode, e.size, e.digest, e.target] for e in ordered])


def scan(
    source: Path,
    *,
    root: Path,
    contents: bool,
    filter_options: str | None,
    where: str,
    digests: DigestCache | None = None,
    credentials: CredentialFiles | None = None,
) -> tuple[FileEntry, ...]:
    """The entries of `source`, sorted by path. A file is one entry with path "", a folder what is below it.

    `root` is the image's folder. `contents` says whether the folder's own name is part of the paths that filter rules
    see, as for rsync's `src` and `src/`. `where` begins every message. With `digests`, files whose stat says that
    nothing changed are not read. `credentials` says what becomes of files that are credentials, unless a filter rule
    includes them; those that were found are added to it. Raises ImageError.
    """
    source = Path(os.path.abspath(source))  # noqa: PTH100 (resolve() would follow the links that a name goes through)
    digests = digests or DigestCache()
    filters = parse_filter_options(filter_options, root=root, where=where)
    try:
        status = source.stat()
    except OSError as error:
        raise _unreadable(source, error, where) from error
    reader = EntryReader(where=where, digests=digests, credentials=credentials or CredentialFiles())
    walk = _Walk(reader, filters=filters, where=where)
    if not stat.S_ISDIR(status.st_mode):
        walk.reject_if_excluded(source, os.fsencode(source.name), is_folder=False)
        entry = reader.file_entry(os.fspath(source), "", status)
        # What a step names it is to have.
        reader.leaves_out(source.name, is_named=True)
        return (entry,)
    name = b"" if contents else os.fsencode(source.name)
    if name:
        walk.reject_if_excluded(source, name, is_folder=True)
    above = ignore_rules_above(source, Path(os.path.abspath(root)), where=where)  # noqa: PTH100
    found = walk.below(os.fspath(source), name + b"/" if name else b"", above)
    entries = sorted(found, key=lambda entry: entry.path)
    digests.forget_others(entry.path for entry in entries)
    return tuple(entries)


class EntryReader:
    """Reads single paths into entries. `where` begins every message; credentials that were found are added."""

    def __init__(self, *, where: str, digests: DigestCache, credentials: CredentialFiles) -> None:
        self._where = where
        self._digests = digests
        self._credentials = credentials
        self._credential = ""

    def list(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as children:
                return list(children)
        except OSError as error:
            raise _unreadable(Path(folder), error, self._where) from error

    def entry(self, child: os.DirEntry[str], path: str) -> FileEntry:
        """A file or a symlink."""
        self.require_utf8(child.name, f"the name {child.path!r}")
        try:
            status = child.stat(follow_symlinks=False)
            target = os.readlink(child.path) if child.is_symlink() else None  # noqa: PTH115 (the exact text)
        except OSError as error:
            raise _unreadable(Path(child.path), error, self._where) from error
        if target is None:
            return self.file_entry(child.path, path, status)
        self.require_utf8(target, f"the target of the symlink {child.path!r}")
        return FileEntry(path=path, mode=SYMLINK_MODE, target=target)

    def file_entry(self, host: str, path: str, status: os.stat_result) -> FileEntry:
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(
                f"{self._where}: {host} is {_kind(status.st_mode)}, which cannot be locked",
                hint=f"""leave it out: filter_options="--exclude='{Path(host).name}'\"""",
            )
        mode = EXECUTABLE_MODE if status.st_mode & stat.S_IXUSR else FILE_MODE
        known = self._digests.find(path, status)
        if known is None:
            known = _read(host, status, self._where)
            self._digests.remember(path, status, *known)
        digest, self._credential = known
        return FileEntry(path=path, mode=mode, size=status.st_size, digest=digest)

    def leaves_out(self, path: str, *, is_named: bool = False) -> bool:
        """Whether the file whose entry was made last is a credential, which is noted, and left out for that, unless the
        step names it."""
        if not self._credential:
            return False
        self._credentials.found.append((path, self._credential))
        if is_named:
            self._credentials.named.add(path)
        return self._credentials.treatment is Treatment.LEAVE_OUT and not is_named

    def require_utf8(self, text: str, what: str) -> None:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ImageError(
                f"{self._where}: {what} is not UTF-8, and the lockfile holds only UTF-8",
                hint="rename it, or exclude it",
            ) from None


class _Walk:
    def __init__(self, reader: EntryReader, *, filters: Filters, where: str) -> None:
        self._reader = reader
        self._filters = filters
        self._where = where

    def reject_if_excluded(self, source: Path, name: bytes, *, is_folder: bool) -> None:
        """What a step names is never left out by the default exclusions, but rsync's rules do apply to it."""
        rule = self._filters.decide(name, is_folder=is_folder)
        if rule and not rule.include:
            raise ImageError(
                f"{self._where}: the filter rule {rule.text!r} leaves out the source itself: {source}",
                hint="remove the rule, or include the source before it",
            )

    def below(self, host: str, name: bytes, rules: IgnoreRules) -> Iterator[FileEntry]:
        """What is below the folder `host`, in no order. `name` is what filter rules see of it: a path and a slash, or
        nothing."""
        pending = [(host, "", name, rules)]
        while pending:
            host, path, name, rules = pending.pop()
            children = self._reader.list(host)
            ignore_files = [c.name for c in children if c.name in IGNORE_FILES and c.is_file(follow_symlinks=False)]
            if ignore_files:
                rules = rules.entered(os.fsencode(host), ignore_files, where=self._where)
            for child in children:
                is_folder = child.is_dir(follow_symlinks=False)
                rule = self._rule(child, name, is_folder=is_folder)
                if self._is_left_out(child, rule, rules, is_folder=is_folder):
                    continue
                child_path = path + child.name
                if is_folder:
                    self._reader.require_utf8(child.name, f"the name {child.path!r}")
                    yield FileEntry(path=child_path, mode=FOLDER_MODE)
                    pending.append((child.path, child_path + "/", name + os.fsencode(child.name) + b"/", rules))
                else:
                    entry = self._reader.entry(child, child_path)
                    if rule is not None or entry.digest is None or not self._reader.leaves_out(child_path):
                        yield entry

    def _rule(self, child: os.DirEntry[str], name: bytes, *, is_folder: bool) -> Rule | None:
        """The user's rule for it."""
        return (
            self._filters.decide(name + os.fsencode(child.name), is_folder=is_folder) if self._filters.rules else None
        )

    def _is_left_out(self, child: os.DirEntry[str], rule: Rule | None, rules: IgnoreRules, *, is_folder: bool) -> bool:
        """The user's rules first, then what is left out by default."""
        if rule is not None:
            return not rule.include
        return is_always_left_out(child.name, child.path) or rules.leaves_out(
            os.fsencode(child.path), is_folder=is_folder
        )


def _read(host: str, expected: os.stat_result, where: str) -> tuple[Digest, str]:
    """The digest of a file that was `expected` by lstat, and is the same before and after it is read; and what
    credential it is, if it is one."""
    try:
        descriptor = os.open(host, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
            length = file.tell()
            credential = credential_file(host, os.pread(descriptor, LOOKED_INTO, 0))
            after = os.fstat(descriptor)
    except OSError as error:
        raise _unreadable(Path(host), error, where) from error
    if not (_identity(expected) == _identity(before) == _identity(after) and length == expected.st_size):
        raise ImageError(
            f"{where}: {host} changed while it was read", hint="run the command again when nothing writes to it"
        )
    return digest, credential or ""


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _unreadable(path: Path, error: OSError, where: str) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(
            f"{where}: no such file or folder: {path}",
            hint="check the path: relative sources start in the folder of the image file",
        )
    return ImageError(f"{where}: cannot read {path}: {error.strerror}", hint="make it readable, or exclude it")


def _kind(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a fifo"
    return "a device"
