"""SHA-256 digests, always written `sha256:<64 hex digits>` as in the OCI image-spec, and canonical JSON to hash."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from typing import IO, TYPE_CHECKING, Any, Final, cast

from klock.patterns import regex

if TYPE_CHECKING:
    from hashlib import _Hash as Hash
    from pathlib import Path

__all__ = [
    "Digest",
    "canonical_json",
    "digest_of_bytes",
    "digest_of_json",
    "digest_of_stream",
    "hashes_like",
    "hex_of",
    "is_digest",
]

Digest = str
"""`sha256:` and 64 lower-case hex digits."""

_DIGEST: Final = regex(r"sha256:[0-9a-f]{64}")
_CHUNK: Final = 1 << 20
_MUCH: Final = 1 << 20
"""From so many bytes on it pays to load OpenSSL."""


def is_digest(text: object) -> bool:
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def hex_of(digest: Digest) -> str:
    """The 64 hex digits of a digest. Raises ValueError for anything else, so that a digest is safe as a file name."""
    if not is_digest(digest):
        raise ValueError(f"not a SHA-256 digest: {digest!r}")
    return digest.removeprefix("sha256:")


def digest_of_bytes(content: bytes) -> Digest:
    if len(content) < _MUCH and "hashlib" not in sys.modules:
        return "sha256:" + _small_sha256()(content).hexdigest()
    import hashlib

    return "sha256:" + hashlib.sha256(content).hexdigest()


@cache
def _small_sha256() -> Callable[[bytes], Hash]:
    """Python's own SHA-256, if this Python has one. OpenSSL's is faster, but takes two milliseconds to load."""
    from importlib import import_module

    for name in ("_sha2", "_sha256"):  # of Python 3.12 and later, of Python 3.11
        with suppress(ImportError):
            return cast("Callable[[bytes], Hash]", import_module(name).sha256)
    from hashlib import sha256

    return sha256


def digest_of_stream(stream: IO[bytes], *, copy: IO[bytes] | None = None) -> Digest:
    """The digest of what is left of a stream, which is written to `copy`, too."""
    import hashlib

    hasher = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        hasher.update(chunk)
        if copy is not None:
            copy.write(chunk)
    return "sha256:" + hasher.hexdigest()


def canonical_json(value: Any) -> bytes:
    """One spelling for one value: sorted keys, no spaces, ASCII only. Floats are refused: they have no one spelling."""
    import json

    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest_of_json(value: Any) -> Digest:
    return digest_of_bytes(canonical_json(value))


def hashes_like(hashes: Iterable[str], path: Path) -> dict[str, str]:
    """For each of `hashes` (`sha512:...`) that of the file in the same algorithm. One in an algorithm that nobody here
    knows is left out: it says nothing."""
    import hashlib

    found = {}
    for each in hashes:
        algorithm = each.partition(":")[0]
        with suppress(ValueError, TypeError), open(path, "rb") as file:  # TypeError: its digests are of any length
            digest = hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False))
            found[each] = f"{algorithm}:{digest.hexdigest()}"
    return found
