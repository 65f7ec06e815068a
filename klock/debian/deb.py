"""Reads a .deb without running anything: where its files are, and what its control file says (deb(5), deb-control(5)).

The file is hostile until the end: each length is compared with what is there, and what is unpacked here is bounded.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from klock.errors import FetchError
from klock.layers.decompression import decompressed
from klock.layers.streaming import members_of
from klock.lockfile.model import DebPackage
from klock.values import dataclass
from klock.workshop.protocol import PackageFiles

__all__ = ["Deb", "read_deb"]

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
_END_OF_HEADER: Final = b"`\n"
_MEDIA_TYPES: Final = {"": ".tar", ".gz": ".tar+gzip", ".xz": ".tar+xz", ".zst": ".tar+zstd"}
_MOST_CONTROL: Final = 32 << 20
"""Bytes of control.tar, unpacked: the scripts and lists of the largest packages are a few."""
_MOST_FIELDS: Final = 1 << 20
_BROKEN: Final = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, OverflowError, RecursionError)
_FIELD: Final = re.compile(r"^([!-9;-~]+):[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE)
_NAME: Final = re.compile(r"\s*([a-z0-9][a-z0-9+.-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """`needs`: for each clause of Pre-Depends and Depends the names that fulfil it, versions and architectures aside.
    `provides`: the names it stands for besides its own."""

    package: DebPackage
    files: PackageFiles
    is_essential: bool
    is_required: bool
    needs: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    name: str
    offset: int
    size: int


def read_deb(path: Path, package: DebPackage) -> Deb:
    """Raises FetchError, which names the package, for what is no .deb, or another package's."""
    name = f"the package {package.name} {package.version}"
    with open(path, "rb") as file:
        try:
            _, control, data = _members_of_deb(_members(file))
            fields = _fields(_control_file(file, control, name))
            media_type = _media_type(data.name, "data")
        except _BROKEN as error:
            raise FetchError(f"{name} is a broken .deb: {error}", hint="do not trust this package") from error
    said = tuple(fields.get(field, "") for field in ("package", "version", "architecture"))
    if said != (package.name, package.version, package.architecture):
        raise FetchError(
            f"{name}: its control file says that it is {' '.join(said)}",
            hint="do not trust this lockfile: run `klock lock --upgrade-base`",
        )
    return Deb(
        package=package,
        files=PackageFiles(name=name, path=path, offset=data.offset, size=data.size, media_type=media_type),
        is_essential=fields.get("essential") == "yes",
        is_required=fields.get("priority") == "required",
        needs=(*_clauses(fields.get("pre-depends", "")), *_clauses(fields.get("depends", ""))),
        provides=tuple(name for names in _clauses(fields.get("provides", "")) for name in names),
    )


# -- ar(5)


def _members(file: IO[bytes]) -> Iterator[_Member]:
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is not an ar archive")
    at = len(_MAGIC)
    while at < end:
        file.seek(at)
        header = file.read(_HEADER)
        if len(header) < _HEADER or header[58:] != _END_OF_HEADER:
            raise ValueError(f"there is no member at byte {at}")
        name = header[:16].decode("ascii").rstrip(" ").removesuffix("/")
        digits = header[48:58].rstrip(b" ")
        if not re.fullmatch(rb"[0-9]+", digits):
            raise ValueError(f"the member {name!r} has no size")
        size = int(digits)
        at += _HEADER
        if at + size > end:
            raise EOFError(f"the member {name!r} ends early")
        yield _Member(name=name, offset=at, size=size)
        at += size + size % 2


def _members_of_deb(members: Iterator[_Member]) -> tuple[_Member, _Member, _Member]:
    """debian-binary, control.tar and data.tar: in this order, each once. dpkg passes over names with an underscore."""
    found = [member for member in members if not member.name.startswith("_")]
    names = [member.name.partition(".tar")[0] for member in found]
    if names != ["debian-binary", "control", "data"]:
        raise ValueError(f"its members are {', '.join(repr(member.name) for member in found[:5])}")
    version, control, data = found
    return version, control, data


def _media_type(name: str, part: str) -> str:
    suffix = name.removeprefix(f"{part}.tar")
    if suffix not in _MEDIA_TYPES:
        raise ValueError(f"klock cannot read its {name!r}")
    return _MEDIA_TYPES[suffix]


# -- control


def _control_file(file: IO[bytes], member: _Member, source: str) -> str:
    if member.size > _MOST_CONTROL:
        raise ValueError("its control archive is too large")
    file.seek(member.offset)
    compressed = io.BytesIO(file.read(member.size))
    plain = io.BytesIO()
    with decompressed(compressed, _media_type(member.name, "control"), source) as stream:
        while chunk := stream.read(1 << 16):
            if plain.tell() + len(chunk) > _MOST_CONTROL:
                raise ValueError("its control archive unpacks to too much")
            plain.write(chunk)
    plain.seek(0)
    with tarfile.open(fileobj=plain, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        found = []
        for entry in members_of(archive):
            if entry.name.removeprefix("./") == "control":
                if not entry.isreg() or entry.size > _MOST_FIELDS:
                    raise ValueError("its control file is not valid")
                content = archive.extractfile(entry)
                assert content is not None
                found.append(content.read())
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} control files")
    return found[0].decode("utf-8", "replace")


def _fields(text: str) -> dict[str, str]:
    """The fields of the first paragraph, by their names in lower case."""
    paragraph = text.lstrip("\n").split("\n\n", 1)[0]
    return {match[1].lower(): match[2].strip() for match in _FIELD.finditer(paragraph)}


def _clauses(text: str) -> Iterator[tuple[str, ...]]:
    """`a (>= 1), b:any | c [amd64]` as (a), (b, c)."""
    for clause in text.split(","):
        names = [match[1] for part in clause.split("|") if (match := _NAME.match(part))]
        if names:
            yield tuple(names)
