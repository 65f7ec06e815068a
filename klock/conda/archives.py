"""The archives of conda packages: `.tar.bz2`, and `.conda`, a ZIP file of two tar archives compressed with zstd.

They are hostile: nothing is written by a name that they give.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import IO, Final, cast

from klock.errors import FetchError, KlockError
from klock.extras import missing_extra_hint
from klock.values import dataclass

__all__ = ["Unpacked", "unpacked"]

_CHUNK: Final = 1 << 20
_LARGEST_INFO: Final = 64 << 20


@dataclass(kw_only=True)
class Unpacked:
    """An archive's members: `files` with their bytes in files of this machine and their modes, `links` with their
    targets. Names are as in the archive, each relative, without `.` and `..`."""

    name: str
    files: dict[str, tuple[Path, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    written: int = 0

    def read(self, name: str) -> bytes | None:
        """A small file; None when there is none. Raises FetchError for one that is not small."""
        if name not in self.files:
            return None
        path, _ = self.files[name]
        if path.stat().st_size > _LARGEST_INFO:
            raise FetchError(f"{self.name}: {name} is too large", hint="check where the package comes from")
        return path.read_bytes()


def unpacked(archive: Path, folder: Path, *, name: str) -> Unpacked:
    """Unpacks an archive into numbered files in the empty `folder`. `name` is that of the package's file.

    Raises FetchError for a broken archive, KlockError where klock's extra `conda` is missing.
    """
    found = Unpacked(name=name)
    try:
        for part in _parts(archive, name):
            with part, tarfile.open(fileobj=part, mode="r|") as tar:
                for member in tar:
                    _take(member, tar, found, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError) as error:
        raise FetchError(f"{name} is broken: {error}", hint="check where the package comes from") from error
    return found


def _take(member: tarfile.TarInfo, tar: tarfile.TarFile, found: Unpacked, folder: Path) -> None:
    path = _checked(member.name)
    if not path or member.isdir():
        return
    # The last of a name counts.
    found.links.pop(path, None)
    if member.issym():
        found.links[path] = member.linkname
    elif member.islnk():
        source, mode = found.files[_checked(member.linkname)]
        found.files[path] = (source, mode)
    elif member.isreg():
        place = folder / str(found.written)
        found.written += 1
        content = tar.extractfile(member)
        assert content is not None
        with place.open("xb") as file:
            while chunk := content.read(_CHUNK):
                file.write(chunk)
        found.files[path] = (place, member.mode)
    else:
        raise ValueError(f"{member.name!r} is neither a file nor a folder nor a link")


def _checked(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} leads out of the package")
    return "/".join(parts)


def _parts(archive: Path, name: str) -> Iterator[IO[bytes]]:
    """The tar archives in it, uncompressed."""
    if name.endswith(".tar.bz2"):
        import bz2

        yield cast(IO[bytes], bz2.BZ2File(archive))
        return
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.namelist():
            if member.endswith(".tar.zst"):
                yield _decompressed(zipped.open(member))


def _decompressed(stream: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise KlockError("to read .conda archives, klock needs zstandard", hint=missing_extra_hint("conda")) from error
    return cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
