"""The bytes of a compressed archive, and their digest, while somebody else makes files of them.

An archive is hostile: it may be broken, and it may unpack to more than the disk holds or the memory has.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final, NoReturn, cast

from klock.digests import Digest
from klock.errors import FetchError
from klock.extras import missing_extra_hint
from klock.layers.inflation import opened_gzip

__all__ = ["BrokenArchive", "Uncompressed", "decompressed"]

_BUFFER: Final = 1 << 16
_CHUNK: Final = 1 << 18
_AHEAD: Final = 1 << 20
_OF_LAYERS: Final = (".tar", "tar+gzip", "tar.gzip", "tar+zstd", "tar.zstd")
"""How the media types of layers end."""
_FIRST: Final = 512
"""Bytes of a tar header."""
_TAR: Final = slice(257, 262), b"ustar"
_GZIP: Final = b"\x1f\x8b\x08"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""A zstd archive may begin with a frame to skip (RFC 8878, 3.1.2): 0x50 to 0x5f, then this."""
_XZ_MEMORY: Final = 128 << 20
"""xz -9 needs half of it; an archive may ask for gigabytes."""


class BrokenArchive(FetchError):
    """Compressed bytes that are damaged, or none of their kind."""


class Uncompressed:
    """The bytes of a compressed archive, from a process that decompresses and hashes while this one makes files.

    A process and not a thread: a thread would wait for Python's lock more often than it works.
    """

    def __init__(self, archive: IO[bytes], media_type: str, source: str, *, limit: int | None = None) -> None:
        """`limit`: how many bytes there may be at most; more are a FetchError."""
        content, write_content = os.pipe()
        self._outcome, write_outcome = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(content)
            os.close(self._outcome)
            _serve(archive, media_type, source, limit=limit, content=write_content, outcome=write_outcome)
        os.close(write_content)
        os.close(write_outcome)
        with suppress(OSError):
            fcntl.fcntl(content, fcntl.F_SETPIPE_SZ, _AHEAD)
        self.content = open(content, "rb", buffering=0)  # noqa: SIM115 (closed in __exit__)

    def __enter__(self) -> Uncompressed:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.content.close()  # ends the other process, wherever it is
        with open(self._outcome, "rb") as outcome:
            pickled = outcome.read()
        os.waitpid(self._child, 0)
        if error is not None and not isinstance(error, Exception):
            return
        found = pickle.loads(pickled) if pickled else EOFError("its decompression ended early")
        if isinstance(found, BrokenPipeError):
            return  # nobody wanted more of it
        if isinstance(found, Exception):
            raise found from None  # what was wrong with it, if anything, comes of this
        self.digest: Digest = found


def _serve(
    archive: IO[bytes], media_type: str, source: str, *, limit: int | None, content: int, outcome: int
) -> NoReturn:
    """What the other process does: the bytes to `content`, their digest or an exception, pickled, to `outcome`."""
    hasher = hashlib.sha256()
    found: Digest | Exception
    try:
        with decompressed(archive, media_type, source) as stream, open(content, "wb", buffering=0) as pipe:
            size = 0
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                if limit is not None and size > limit:
                    raise FetchError(
                        f"{source}: refused: it unpacks to more than {limit} bytes", hint="do not trust this archive"
                    )
                hasher.update(chunk)
                left = memoryview(chunk)
                while left:
                    left = left[pipe.write(left) :]
        found = f"sha256:{hasher.hexdigest()}"
    except Exception as error:
        found = error
    except BaseException:
        os._exit(1)
    try:
        with open(outcome, "wb") as file:
            pickle.dump(found, file)
    finally:
        os._exit(0)


@contextmanager
def decompressed(archive: IO[bytes], media_type: str, source: str) -> Iterator[IO[bytes]]:
    """`archive` as a stream of plain bytes. Raises FetchError for a `media_type` that klock cannot read.

    The bytes of a layer say how it is compressed, as with podman and docker: some programs that copy images compress
    layers anew, and do not change the media type.
    """
    if media_type.endswith(_OF_LAYERS):
        first = archive.read(_FIRST)
        media_type, archive = _media_type(first), cast("IO[bytes]", _Begun(first, archive))
    if media_type.endswith("gzip"):
        with opened_gzip(archive) as stream:
            yield stream
    elif media_type.endswith("zstd"):
        try:
            import zstandard
        except ImportError:
            raise FetchError(
                f"{source} is compressed with zstd, which this klock cannot read",
                hint=missing_extra_hint("zstd"),
            ) from None
        with zstandard.ZstdDecompressor().stream_reader(archive, read_across_frames=True) as stream:
            try:
                yield stream
            except zstandard.ZstdError as error:
                raise BrokenArchive(f"{source} is a broken archive: {error}") from error
    elif media_type.endswith("xz"):
        try:
            yield cast("IO[bytes]", _Xz(archive))
        except lzma.LZMAError as error:
            raise BrokenArchive(f"{source} is a broken archive: {error}", hint="fetch it again") from error
    elif media_type.endswith(".tar"):
        yield archive
    else:
        raise FetchError(f"{source}: klock cannot read a layer of media type {media_type!r}")


def _media_type(first: bytes) -> str:
    """What an archive with these first bytes is, as the end of a media type. A plain one may begin with any name."""
    where, ustar = _TAR
    if first[where] != ustar:
        if first.startswith(_GZIP):
            return "tar+gzip"
        if first.startswith(_ZSTD) or (first[1:4] == _SKIPPABLE and first[0] >> 4 == 5):
            return "tar+zstd"
    return ".tar"


class _Begun:
    """A stream whose first bytes have been read."""

    def __init__(self, first: bytes, rest: IO[bytes]) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int) -> bytes:
        if not self._first:
            return self._rest.read(size)
        found, self._first = self._first[:size], self._first[size:]
        return found

    def readinto(self, buffer: memoryview) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


class _Xz:
    """Like lzma.LZMAFile, which lets an archive have as much memory as it asks for."""

    def __init__(self, archive: IO[bytes]) -> None:
        self._archive = archive
        self._decompressor = _xz_stream()

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while True:
            compressed = b""
            if self._decompressor.eof:
                # One stream may follow another, with zeros in between (the .xz format, 2.2).
                compressed = self._decompressor.unused_data.lstrip(b"\0")
                while not compressed:
                    if not (more := self._archive.read(_BUFFER)):
                        return b""
                    compressed = more.lstrip(b"\0")
                self._decompressor = _xz_stream()
            elif self._decompressor.needs_input and not (compressed := self._archive.read(_BUFFER)):
                raise EOFError("its compressed data ends early")
            if plain := self._decompressor.decompress(compressed, max_length=size):
                return plain


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
