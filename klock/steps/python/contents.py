"""The files of a build of python-build-standalone. What they say of the machine it was built on is corrected, as uv
corrects it: its Makefile's variables name /install and clang, and packages that have to be built read them.

See "References to Build-Time Paths" in python-build-standalone's docs/quirks.md.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from klock.digests import digest_of_stream
from klock.errors import FetchError
from klock.files.placed import PlacedFile
from klock.layers.archive_files import BROKEN, open_archive
from klock.layers.streaming import members_of

__all__ = ["corrected", "files_in", "is_corrected"]

_BUILT_AT: Final = "/install"
_VARIABLES: Final = re.compile(r"python/lib/python3\.\d+t?/_sysconfigdata_[^/]+\.py")
_PKG_CONFIG: Final = re.compile(r"python/lib/pkgconfig/[^/]+\.pc")
_COMPILER: Final = re.compile(r"(?<!\S)(?:(?:musl-)?clang|/usr/bin/[\w-]+-linux-\w+-g(?:cc|\+\+))(\+\+)?(?!\S)")
_NAME_COMPILERS: Final = ("BLDSHARED", "CC", "CXX", "LDCXXSHARED", "LDSHARED", "LINKCC")
_HEAD: Final = "# system configuration generated and used by the sysconfig module\nbuild_time_vars = "


def files_in(archive: Path, folder: Path, *, name: str) -> Iterator[PlacedFile]:
    """What the archive unpacks to, as root's; the bytes go into numbered files in the empty `folder`.

    `name` is the archive's. Raises FetchError for one that is broken.
    """
    files: dict[str, PlacedFile] = {}
    try:
        with open(archive, "rb") as file, open_archive(file, source=name) as opened:
            for number, member in enumerate(members_of(opened)):
                path = posixpath.normpath(f"/{member.name}").lstrip("/")
                if not path:
                    continue
                if member.isdir():
                    yield PlacedFile(path=path, mode=member.mode)
                elif member.issym():
                    yield PlacedFile(path=path, mode=0o777, target=member.linkname)
                elif member.islnk():
                    linked = files[posixpath.normpath(f"/{member.linkname}").lstrip("/")]
                    files[path] = PlacedFile(path=path, mode=linked.mode, source=linked.source, digest=linked.digest)
                    yield files[path]
                elif content := opened.extractfile(member):
                    source = folder / str(number)
                    with source.open("xb") as copy:
                        digest = digest_of_stream(content, copy=copy)
                    files[path] = PlacedFile(path=path, mode=member.mode, source=source, digest=digest)
                    yield files[path]
    except (*BROKEN, KeyError) as error:
        raise FetchError(f"{name} is broken: {error}", hint="check where it comes from") from error


def is_corrected(path: str) -> bool:
    """Whether a file of the archive says where it was built."""
    return bool(_VARIABLES.fullmatch(path) or _PKG_CONFIG.fullmatch(path))


def corrected(path: str, content: bytes, *, prefix: str) -> bytes:
    """Such a file, for a Python that lies at `prefix`. What is of another form comes back unchanged."""
    if _PKG_CONFIG.fullmatch(path):
        # pkg-config knows where the file itself is.
        return re.sub(rb"(?m)^([A-Za-z]+)=/install$", rb"\1=${pcfiledir}/../..", content)
    try:
        found = ast.parse(content).body[-1]
        values = ast.literal_eval(found.value) if isinstance(found, ast.Assign) else None
    except (ValueError, TypeError, SyntaxError, IndexError, RecursionError, MemoryError):
        return content
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        return content
    lines = ",\n ".join(f"{name!a}: {value!a}" for name, value in sorted(_corrected(values, prefix).items()))
    return f"{_HEAD}{{{lines}}}\n".encode()


def _corrected(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found = {**values, "PYTHON_BUILD_STANDALONE": 1}
    for name, value in values.items():
        if isinstance(value, str):
            found[name] = re.sub(rf"(?<!\S){_BUILT_AT}(?=/|\s|$)", prefix, value)
    for name in _NAME_COMPILERS:
        if isinstance(values.get(name), str):
            found[name] = _COMPILER.sub(lambda match: "c++" if match[0].endswith("++") else "cc", found[name])
    return {**found, "AR": "ar"} if "AR" in values else found
