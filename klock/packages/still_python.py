"""Reads off an environment's files what its Python is, without running it: for a platform that does not run here.

Answers as `klock.packages.probe_script` does, by the same facts: CPython's and Debian's own rules of where packages go,
the metadata of what is installed, the version that the interpreter's binary holds, and the C library's. Where the files
do not say it for sure, nothing is guessed.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from klock.errors import EngineError, KlockError
from klock.layers.manifest import Entry, Kind
from klock.packages.platform_tags import markers_of, tags_of
from klock.workshop.protocol import KnownFiles

__all__ = ["describe_python"]

_NAME: Final = re.compile(r"python(\d+)\.(\d+)(t?)")
_GLIBC: Final = re.compile(rb"stable release version (\d+\.\d+)")
_MUSL: Final = re.compile(rb"\0(1\.\d+)\.\d+\0")
_TELLING: Final = re.compile(r"[^/]+\.(?:dist-info/METADATA|egg-info(?:/(?:PKG-INFO|requires\.txt))?|pth)", re.DOTALL)


def describe_python(
    files: KnownFiles, *, machine: str, search_path: str, named: str | None = None
) -> dict[str, Any] | None:
    """The probe's answer about the Python `named`, or else the first python3 or python on `search_path`; None when
    there is none.

    `machine` is the kernel's name of the architecture: `aarch64`. Raises KlockError when the named one is not there,
    EngineError when the files do not say what is needed.
    """
    found = _find(files, named, search_path)
    if found is None:
        if named:
            raise KlockError(
                f"python_path {named!r} is not a program in the environment",
                hint="create it in a step before the first pip_install, or leave python_path out",
            )
        return None
    return _Reader(files, found[0], found[1], machine).describe()


def _find(files: KnownFiles, named: str | None, search_path: str) -> tuple[str, Entry] | None:
    names = (named,) if named else ("python3", "python")
    for name in names:
        folders = [""] if name.startswith("/") else [f"{folder}/" for folder in search_path.split(":") if folder]
        for folder in folders:
            entry = files.find(f"{folder}{name}")
            if entry is not None and entry.kind is Kind.FILE and entry.mode & 0o111:
                return f"{folder}{name}", entry
    return None


class _Reader:
    """`path` is how the Python is called, `binary` the file behind it."""

    def __init__(self, files: KnownFiles, path: str, binary: Entry, machine: str) -> None:
        self._files = files
        self._path = path
        self._binary = binary
        self._machine = machine
        match = _NAME.fullmatch(posixpath.basename(binary.path))
        if match is None:
            raise self._unclear(f"/{binary.path} is not named as CPython's programs are")
        self._release = (int(match[1]), int(match[2]))
        self._threads = match[3]
        self._short = f"{match[1]}.{match[2]}{match[3]}"
        self._prefix = "/" + posixpath.dirname(posixpath.dirname(binary.path))
        self._own = f"{self._prefix}/lib/python{self._short}"
        self._venv = posixpath.dirname(posixpath.dirname(path))
        self._libraries = [found for found in files.paths() if self._is_library(found)]
        self._beside = self._paths_in_packages()
        settings = (f"{self._own}/sysconfig.py", f"{self._own}/sysconfig/__init__.py", f"{self._venv}/pyvenv.cfg")
        wanted = [*(each.lstrip("/") for each in settings), binary.path, *self._libraries]
        self._read = files.read([*wanted, *self._beside])

    def _unclear(self, why: str) -> EngineError:
        return EngineError(
            f"klock cannot tell what the Python at {self._path} is without running it: {why}",
            hint=f"lock this target on a machine that runs {self._machine} programs",
        )

    def describe(self) -> dict[str, Any]:
        folders, search = self._folders()
        libc = self._libc()
        version = self._version()
        assert self._binary.digest is not None
        return {
            "path": self._path,
            "version": version,
            "implementation": "cpython",
            "libc": libc,
            "sha256": self._binary.digest.removeprefix("sha256:"),
            "markers": markers_of(version, self._machine),
            "tags": list(tags_of(self._release, threads=self._threads, machine=self._machine, libc=libc)),
            "folders": {name: self._real(path) for name, path in folders.items()},
            "links": dict(self._links(self._real(folders["data"]))),
            "distributions": list(self._installed(search)),
        }

    # -- where packages are

    def _folders(self) -> tuple[dict[str, str], list[str]]:
        """Where wheels go, and the folders of packages that are on `sys.path`, in order."""
        sysconfig = self._text(f"{self._own}/sysconfig.py") or self._text(f"{self._own}/sysconfig/__init__.py")
        if sysconfig is None:
            raise self._unclear(f"there is no {self._own}/sysconfig.py")
        if "rpm_prefix" in sysconfig:
            raise self._unclear("its distribution has its own rules for where packages go")
        if "deb_system" in sysconfig:
            local, shared, own = self._debians_folders()
            base = self._scheme(f"{self._prefix}/local", local)
            search = [local, shared, own]
        else:
            base = self._scheme(self._prefix, f"{self._own}/site-packages")
            search = [base["purelib"]]
        settings = self._text(f"{self._venv}/pyvenv.cfg")
        if settings is None:
            return base, search
        inside = self._scheme(self._venv, self._packages_of_venv())
        inside["headers"] = f"{self._venv}/include/site/python{self._release[0]}.{self._release[1]}"
        sees_base = re.search(r"(?im)^include-system-site-packages\s*=\s*true\s*$", settings)
        return inside, [inside["purelib"], *(search if sees_base else [])]

    def _debians_folders(self) -> tuple[str, str, str]:
        """Where administrators have packages, Debian for all its Pythons, and Debian for this one."""
        local = f"{self._prefix}/local/lib/python{self._short}/dist-packages"
        return local, f"{self._prefix}/lib/python{self._release[0]}/dist-packages", f"{self._own}/dist-packages"

    def _packages_of_venv(self) -> str:
        return f"{self._venv}/lib/python{self._short}/site-packages"

    def _scheme(self, prefix: str, packages: str) -> dict[str, str]:
        return {
            "purelib": packages,
            "platlib": packages,
            "scripts": f"{prefix}/bin",
            "data": prefix,
            "headers": f"{self._prefix}/include/python{self._short}",
        }

    def _real(self, path: str) -> str:
        """A path without symlinks, as realpath(3) has it."""
        return "/" + self._files.real(path)

    def _links(self, data: str) -> Iterator[tuple[str, str]]:
        start = data.lstrip("/") + "/"
        for path in sorted(self._files.paths()):
            if path.startswith(start) and "/" not in path.removeprefix(start):
                there = self._real(f"/{path}")
                found = self._files.find(f"/{path}")
                if there != f"/{path}" and found is not None and found.kind is Kind.FOLDER:
                    yield f"/{path}", there

    # -- what is installed

    def _paths_in_packages(self) -> list[str]:
        """What says of itself what is installed, and `.pth` files, in every folder that may be on `sys.path`."""
        folders = (*self._debians_folders(), f"{self._own}/site-packages", self._packages_of_venv())
        starts = tuple({self._real(folder).lstrip("/") + "/" for folder in folders})
        found = []
        for path in self._files.paths():
            start = next((start for start in starts if path.startswith(start)), None)
            if start is not None and _TELLING.fullmatch(path.removeprefix(start)):
                found.append(path)
        return found

    def _installed(self, search: Sequence[str]) -> Iterator[dict[str, Any]]:
        found: dict[str, _Distribution] = {}
        for folder in search:
            start = self._real(folder).lstrip("/") + "/"
            inside = {path.removeprefix(start): path for path in self._beside if path.startswith(start)}
            for name, path in sorted(inside.items()):
                if name.endswith(".pth"):
                    self._refuse_path_file(path)
            for info in sorted({name.partition("/")[0] for name in inside if not name.endswith(".pth")}):
                distribution = _Distribution(start + info, self._read)
                name, version = distribution.metadata["Name"], distribution.metadata["Version"]
                if name and version:
                    found.setdefault(canonicalize_name(name), distribution)
        for name, distribution in sorted(found.items()):
            yield {
                "name": name,
                "version": distribution.version,
                "requires": distribution.requires or [],
                "extras": distribution.metadata.get_all("Provides-Extra") or [],
            }

    def _refuse_path_file(self, path: str) -> None:
        for line in (self._text(f"/{path}") or "").splitlines():
            if line.strip() and not line.startswith(("#", "import ", "import\t")):
                raise self._unclear(f"/{path} adds folders to its path")

    # -- what it is

    def _is_library(self, path: str) -> bool:
        name = posixpath.basename(path)
        if not (name == "libc.so.6" or name.startswith((f"libpython{self._short}.so", "ld-musl-"))):
            return False
        entry = self._files.find(f"/{path}")
        return entry is not None and entry.kind is Kind.FILE

    def _version(self) -> str:
        major, minor = self._release
        pattern = re.compile(rb"\0(%d\.%d\.\d+(?:(?:a|b|rc)\d+)?)\+?\0" % (major, minor))
        own = [path for path in self._libraries if posixpath.basename(path).startswith("libpython")]
        contents = (self._read.get(path, b"") for path in (self._binary.path, *own))
        found = {match[1].decode("ascii") for content in contents for match in pattern.finditer(content)}
        if len(found) != 1:
            raise self._unclear(f"its files hold {len(found)} versions of it")
        return found.pop()

    def _libc(self) -> str:
        found = set()
        for path in self._libraries:
            name = posixpath.basename(path)
            pattern = _GLIBC if name == "libc.so.6" else _MUSL if name.startswith("ld-musl-") else None
            for match in pattern.finditer(self._read.get(path, b"")) if pattern else ():
                found.add(("glibc " if pattern is _GLIBC else "musl ") + match[1].decode("ascii"))
        needs_musl = b"/lib/ld-musl-" in self._read.get(self._binary.path, b"")
        fitting = {libc for libc in found if libc.startswith("musl") == needs_musl}
        if len(fitting) != 1:
            raise self._unclear(f"its C library is not clear: {', '.join(sorted(found)) or 'none was found'}")
        return fitting.pop()

    def _text(self, path: str) -> str | None:
        content = self._read.get(path.lstrip("/"))
        return None if content is None else content.decode("utf-8", "replace")


class _Distribution(metadata.Distribution):
    """What is installed, as Python's own reader of metadata understands it. `info` is its folder, or its one file."""

    def __init__(self, info: str, read: Mapping[str, bytes]) -> None:
        self._info = info
        self._read = read

    def read_text(self, filename: str) -> str | None:
        content = self._read.get(f"{self._info}/{filename}" if filename else self._info)
        return None if content is None else content.decode("utf-8", "replace")

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        raise NotImplementedError
