"""What a wheel puts where, and its bytes: the binary distribution format's installation, without the environment.

pypa's `installer` lays the wheel out. What it writes depends on the wheel and on a `Scheme` alone, so it is done once
and serves every environment whose Python has these paths.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import os
import posixpath
import re
import warnings
import zipfile
from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, InvalidRecordEntry, RecordEntry
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import Scheme as SchemeName
from installer.utils import construct_record_file, fix_shebang

from klock.errors import FetchError
from klock.layers.inflation import ZipFile
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import MTIME, is_left_out, matcher
from klock.lockfile.model import WheelArtifact
from klock.packages.archives import BROKEN, LARGEST_MEMBER
from klock.packages.scheme import Scheme

if TYPE_CHECKING:
    from installer.scripts import ScriptSection

__all__ = ["lay_out"]

_CHUNK: Final = 1 << 20
_RESERVED: Final = re.compile(r"python(\d+(\.\d+)?)?t?w?", re.ASCII)


def lay_out(
    wheel: Path, artifact: WheelArtifact, scheme: Scheme, *, root: Path | None, leave_out: Iterable[str] = ()
) -> Manifest:
    """Writes what the wheel installs below `root`, an empty folder, or with None only says what that would be.

    `leave_out`: patterns of absolute paths that are not written. The result has files only.
    Raises FetchError, which names the wheel, for one that is broken or hostile.
    """
    try:
        with ZipFile(wheel) as archive, warnings.catch_warnings():
            _refuse_large_texts(archive)
            warnings.simplefilter("ignore")  # it warns of compiled modules in a wheel, and leaves them out
            archive.filename = artifact.name
            source = WheelFile(archive)
            destination = _Destination(source.distribution, scheme, root, tuple(leave_out))
            install(source, destination, additional_metadata={})
    # A script without a function fails an assertion there.
    except (InstallerError, InvalidRecordEntry, csv.Error, configparser.Error, AssertionError, *BROKEN) as error:
        raise FetchError(
            f"{artifact.name} cannot be installed: {error or type(error).__name__}",
            hint="the wheel is broken: tell its authors, or choose another version",
        ) from error
    return Manifest(destination.entries)


def _refuse_large_texts(archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        if ".dist-info/" in member.filename and member.file_size > LARGEST_MEMBER:
            raise zipfile.BadZipFile(f"{member.filename} is larger than {LARGEST_MEMBER >> 20} MiB")


class _Destination(WheelDestination):
    """Writes files with modes and times of their own, and notes them."""

    def __init__(self, project: str, scheme: Scheme, root: Path | None, leave_out: tuple[str, ...]) -> None:
        self._project = project
        self._scheme = scheme
        self._root = None if root is None else os.fsencode(root)
        self._is_unwanted = matcher(leave_out)
        self._folders: set[bytes] = set()
        self._written: set[str] = set()
        self.entries: list[Entry] = []

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        if _RESERVED.fullmatch(name):
            raise ValueError(f"its script {name} would replace the Python itself")
        script_name, content = Script(name, module, attr, section).generate(self._scheme.python, "posix")
        return self._write(SchemeName("scripts"), script_name, iter([content]), mode=0o755)

    def write_file(
        self, scheme: SchemeName, path: str | PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        name, mode = fspath(path), 0o755 if is_executable else 0o644
        if scheme == "scripts":
            with fix_shebang(stream, self._scheme.python) as fixed:
                return self._write(scheme, name, iter(lambda: fixed.read(_CHUNK), b""), mode=mode)
        return self._write(scheme, name, iter(lambda: stream.read(_CHUNK), b""), mode=mode)

    def finalize_installation(
        self, scheme: SchemeName, record_file_path: str, records: Iterable[tuple[SchemeName, RecordEntry]]
    ) -> None:
        def prefix(name: str) -> str | None:
            if name == scheme:
                return None
            there, here = (self._scheme.folder(each, project=self._project) for each in (name, scheme))
            return posixpath.relpath(there, here) + "/"

        with construct_record_file(list(records), prefix) as record:
            self._write(scheme, record_file_path, iter([record.read()]), mode=0o644)

    def _write(self, scheme: SchemeName, path: str, chunks: Iterable[bytes], *, mode: int) -> RecordEntry:
        place = self._scheme.path_of(scheme, path, project=self._project)
        if place in self._written:
            raise ValueError(f"it has /{place} twice")
        self._written.add(place)
        hasher, size = hashlib.sha256(), 0
        keeps = not is_left_out(place) and not self._is_unwanted(place)
        output = self._create(place, mode) if keeps and self._root is not None else None
        try:
            for chunk in chunks:
                hasher.update(chunk)
                size += len(chunk)
                if output is not None:
                    _write_all(output, chunk)
            if output is not None:
                os.utime(output, (MTIME, MTIME))
        finally:
            if output is not None:
                os.close(output)
        if keeps:
            digest = f"sha256:{hasher.hexdigest()}"
            self.entries.append(Entry(path=place, kind=Kind.FILE, mode=mode, size=size, digest=digest))
        text = base64.urlsafe_b64encode(hasher.digest()).decode("ascii").rstrip("=")
        return RecordEntry(path, Hash("sha256", text), size)

    def _create(self, place: str, mode: int) -> int:
        """A descriptor of a new file. It needs no buffer: most files are one chunk."""
        assert self._root is not None
        where = self._root + b"/" + os.fsencode(place)
        self._make_folder(os.path.dirname(where))
        # A name that is there may be a link to somewhere else.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(where, flags, mode)
        os.fchmod(descriptor, mode)  # whatever the umask
        return descriptor

    def _make_folder(self, folder: bytes) -> None:
        if folder in self._folders or folder == self._root:
            return
        self._make_folder(os.path.dirname(folder))
        try:
            os.mkdir(folder)
            os.chmod(folder, 0o755)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        self._folders.add(folder)


def _write_all(descriptor: int, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(descriptor, left) :]
