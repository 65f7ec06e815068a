"""Debian packages made in memory, as they should be and as they should not (deb(5), ar(5))."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import zstandard

from klock.lockfile.model import DebPackage

__all__ = ["COMPRESSED", "ar", "control_archive", "deb", "member", "package", "tar"]

COMPRESSED: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
"""What compresses, by the suffix of the member's name."""


def ar(*members: tuple[str, bytes]) -> bytes:
    return b"!<arch>\n" + b"".join(member(name, content) for name, content in members)


def member(name: str, content: bytes, *, size: str | None = None) -> bytes:
    """A member of an ar archive, which says that it has `size` bytes."""
    said = str(len(content)) if size is None else size
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{said:<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def tar(*members: tuple[tarfile.TarInfo | str, bytes]) -> bytes:
    """A tar archive. A name alone is a file, which all may run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.mode = 0o755
            if content:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if content else None)
    return buffer.getvalue()


def control_archive(fields: Mapping[str, str], scripts: Mapping[str, str] | None = None) -> bytes:
    text = "".join(f"{name}: {value}\n" for name, value in fields.items())
    return tar(
        ("./control", text.encode()), *((f"./{name}", script.encode()) for name, script in (scripts or {}).items())
    )


def deb(
    fields: Mapping[str, str],
    files: Sequence[tuple[tarfile.TarInfo | str, bytes]] = (),
    *,
    scripts: Mapping[str, str] | None = None,
    suffix: str = ".xz",
) -> bytes:
    """A package. `scripts`: the maintainer's, by name."""
    compress = COMPRESSED[suffix]
    needed = {"Maintainer": "Nobody <nobody@example.org>", "Description": "made by a test"}
    return ar(
        ("debian-binary", b"2.0\n"),
        (f"control.tar{suffix}", compress(control_archive({**needed, **fields}, scripts))),
        (f"data.tar{suffix}", compress(tar(*files))),
    )


def package(content: bytes, *, name: str = "x", version: str = "1", architecture: str = "all") -> DebPackage:
    """The lock of a package with these bytes."""
    return DebPackage(
        name=name,
        version=version,
        architecture=architecture,
        path=f"pool/{name}_{version}.deb",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
