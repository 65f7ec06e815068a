"""Compressing a layer's archive, so that equal archives give equal bytes on every machine and for years.

What a compressor writes is its own affair: zlib's releases and its replacements differ, and Python takes whichever the
machine has. So klock names its compressors exactly. A *rule* such as `gzip-1` says program, level and how the input is
cut, and has a digest that a sample must give. A library that gives another one is refused, whatever calls itself by the
right name; a rule's bytes never change, a better compressor is another rule.

    gzip-1   libdeflate (the package `deflate`), level 6, a gzip member (RFC 1952) for each 4 MiB
    zstd-1   zstd 1.5.7 (the package `zstandard`), level 3, a frame (RFC 8878) for each 4 MiB
    none     the archive as it is

Members and frames one after the other are one file by both specifications; here they are made on all cores.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import IO, Final

from klock.digests import Digest, digest_of_bytes
from klock.errors import KlockError
from klock.extras import Extra, missing_extra_hint
from klock.values import dataclass

__all__ = ["COMPRESSIONS", "Compressed", "Compression", "compression_named"]

_PIECE: Final = 4 << 20
_TAR: Final = "application/vnd.oci.image.layer.v1.tar"

_Compressor = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """`name` is what users write, `rule` what is locked, `media_type` that of a layer (OCI image-spec, layer.md)."""

    name: str
    rule: str
    media_type: str


COMPRESSIONS: Final = (
    Compression(name="gzip", rule="gzip-1", media_type=f"{_TAR}+gzip"),
    Compression(name="zstd", rule="zstd-1", media_type=f"{_TAR}+zstd"),
    Compression(name="none", rule="none", media_type=_TAR),
)
"""The default first."""


def compression_named(name: str) -> Compression:
    """The compression of a name, or of a rule. Raises KlockError, as for a rule of a newer klock."""
    for compression in COMPRESSIONS:
        if name in (compression.name, compression.rule):
            return compression
    known = ", ".join(c.rule for c in COMPRESSIONS)
    raise KlockError(f"klock has no compression {name!r}", hint=f"this klock has {known}; upgrade klock for another")


class Compressed:
    """The bytes of `source`, a file that is open, by a rule: to be gone through once, to the end.

    `plain_digest` is then that of `source`. Raises KlockError when the compressor is missing, or is not the rule's.
    """

    plain_digest: Digest

    def __init__(self, source: IO[bytes], compression: Compression) -> None:
        self._source = source
        self._compressor = _compressor(compression.rule)

    def __iter__(self) -> Iterator[bytes]:
        """All threads have ended at the end of it, or when it is closed: the workshop forks."""
        hasher = hashlib.sha256()
        width = len(os.sched_getaffinity(0))
        waiting: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(max_workers=width, thread_name_prefix="klock-compress") as pool:
            while piece := self._source.read(_PIECE):
                hasher.update(piece)
                if len(waiting) > width:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(self._compressor, piece))
            while waiting:
                yield waiting.popleft().result()
        self.plain_digest = f"sha256:{hasher.hexdigest()}"


@cache
def _compressor(rule: str) -> _Compressor:
    """What makes one piece, once it has shown that it is the rule's."""
    if rule == "none":
        return bytes
    make, package, extra, expected = _RULES[rule]
    try:
        compressor = make()
    except ImportError:
        raise KlockError(
            f"{rule.partition('-')[0]} needs the package {package.partition('==')[0]}", hint=missing_extra_hint(extra)
        ) from None
    if digest_of_bytes(compressor(_sample())) != expected:
        raise KlockError(
            f"the package {package.partition('==')[0]} of this machine compresses in another way than {rule}, so the "
            "image would get another digest than elsewhere",
            hint=f"install the one that the rule is about: uv pip install '{package}'; or take --compression none",
        )
    return compressor


def _gzip_1() -> _Compressor:
    import deflate

    return lambda piece: bytes(deflate.gzip_compress(piece, 6))


def _zstd_1() -> _Compressor:
    import zstandard

    # One for each piece: an object may not be used by two threads at once.
    return lambda piece: zstandard.ZstdCompressor(level=3, write_checksum=True).compress(piece)


_RULES: Final[dict[str, tuple[Callable[[], _Compressor], str, Extra, Digest]]] = {
    "gzip-1": (
        _gzip_1,
        "deflate==0.9.0",
        "push",
        "sha256:db45a755c56659145d664f8eaa9c17e51b196cbdaca64aacb8f43e40fc299ece",
    ),
    "zstd-1": (
        _zstd_1,
        "zstandard==0.25.0",
        "zstd",
        "sha256:1553b9617d5dbe8661d1b79a2a69ca40223863a941d57f170eee829990c4582b",
    ),
}


@cache
def _sample() -> bytes:
    """600 kB with text, repeats near and far, runs, and noise: what makes compressors choose in different ways."""
    noise = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(4096))
    words = [noise[at : at + 2 + noise[at] % 9].hex().encode() for at in range(0, 4096, 8)]
    text = b" ".join(words[byte * 2 + (at & 1)] for at, byte in enumerate(noise[: 1 << 15]))
    rows = b"".join(b"%08d,%s,%d\n" % (n * 7919, words[n % 97], n % 13) for n in range(6000))
    return text + rows + noise + bytes(40000) + text[1000:60000] + noise[::3]
