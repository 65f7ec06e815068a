"""What installing a wheel writes, found out without installing it (packaging.python.org, "Binary distribution format").

pypa's `installer` installs the wheel, into a destination that only notes where things would go.
"""

from __future__ import annotations

import configparser
import csv
import io
import posixpath
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file
from installer.sources import WheelFile
from installer.utils import Scheme

from klock.packages.archives import BROKEN, LARGEST_MEMBER

if TYPE_CHECKING:
    from installer.scripts import ScriptSection

__all__ = ["paths_in_record", "paths_of_wheel"]


def paths_of_wheel(wheel: Path, file_name: str, python_paths: Mapping[str, str]) -> list[str] | None:
    """The absolute paths that a wheel's files and scripts may go to. None for a wheel that `installer` cannot read.

    `file_name` is the wheel's own, whatever the file at `wheel` is called. `python_paths` are those of
    `sysconfig.get_paths()`. Modules compiled from its sources are not among the result.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, warnings.catch_warnings():
            if any(m.file_size > LARGEST_MEMBER for m in archive.infolist() if ".dist-info/" in m.filename):
                return None
            warnings.simplefilter("ignore")  # it warns of compiled modules in a wheel
            archive.filename = file_name
            source = WheelFile(archive)
            destination = _Destination(source.distribution, python_paths)
            install(source, destination, additional_metadata={})
    # A script without a function fails an assertion there.
    except (InstallerError, InvalidRecordEntry, csv.Error, configparser.Error, AssertionError, *BROKEN):
        return None
    return destination.paths


def paths_in_record(record: bytes, folder: str) -> list[str]:
    """The absolute paths that a RECORD in `folder`/*.dist-info names ("Recording installed projects").

    None at all for a RECORD that cannot be read.
    """
    try:
        # As csv has it: `str.splitlines` would also split a name at U+2028.
        lines = io.StringIO(record.decode("utf-8"), newline="")
        rows = list(parse_record_file(line for line in lines if line.strip()))
    except (UnicodeDecodeError, InvalidRecordEntry, csv.Error):
        return []
    return [posixpath.normpath(posixpath.join(folder, path)) for path, _, _ in rows]


class _Destination(WheelDestination):
    """Notes paths, and writes nothing."""

    def __init__(self, project: str, python_paths: Mapping[str, str]) -> None:
        self._project = project
        self._python_paths = python_paths
        self.paths: list[str] = []

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        return self._note(Scheme("scripts"), name)

    def write_file(
        self, scheme: Scheme, path: str | PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        return self._note(scheme, fspath(path))

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        self._note(scheme, record_file_path)

    def _note(self, scheme: Scheme, path: str) -> RecordEntry:
        self.paths += [f"{folder}/{path}" for folder in self._folders(scheme)]
        return RecordEntry(path, None, None)

    def _folders(self, scheme: Scheme) -> list[str]:
        if scheme != "headers":
            return [self._python_paths[scheme]]
        # In a virtual environment they go elsewhere than in the Python that it was made of.
        include, data = self._python_paths["include"], self._python_paths["data"]
        in_venv = f"{data}/include/site/{posixpath.basename(include)}"
        return [f"{in_venv}/{self._project}", f"{include}/{self._project}"]
