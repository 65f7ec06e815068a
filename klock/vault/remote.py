"""A vault in an object store, by an address that fsspec knows: `s3://BUCKET/FOLDER`, `gs://`, `abfs://`, `memory://`.

Blobs have the names that they have in a folder: `blobs/sha256/ab/abcd...`. An object store shows an object when it is
whole; what shows others is found by the size, and by the digest. Credentials are the backend's own affair: they come
from where its tools keep them, and never from the address.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from klock.digests import Digest, hex_of
from klock.errors import HashMismatch, KlockError, StoreError
from klock.extras import missing_extra_hint
from klock.vault.inputs import Input
from klock.vault.protocol import Count, uncounted

__all__ = ["RemoteVault"]

_CHUNK: Final = 1 << 20
_TRIES: Final = 2
_ATTEMPTS: Final = 3
"""Requests of each try."""


class RemoteVault:
    """`klock.vault.protocol.Vault` at an address of fsspec's (filesystem-spec.readthedocs.io)."""

    def __init__(self, address: str) -> None:
        """Opens no connection. Raises StoreError for an address that nothing here can read."""
        self.name = address
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise StoreError(f"{address} needs the package fsspec", hint=missing_extra_hint("s3")) from None
        try:
            self._files, root = url_to_fs(address, **_patience(address))
        except ImportError as error:
            # fsspec says which package knows the protocol.
            hint = missing_extra_hint("s3") if address.startswith("s3") else "install that package beside klock"
            raise StoreError(f"{address} cannot be read here: {error}", hint=hint) from None
        except Exception as error:
            hint = "write a folder, oci://REGISTRY/NAME, s3://BUCKET/FOLDER, or another address that fsspec knows"
            raise StoreError(f"{address} is not a vault's address: {error}", hint=hint) from None
        if hasattr(self._files, "retries"):  # s3fs tries again, around each call of botocore, which does so too
            self._files.retries = _TRIES
        self._root = str(root).rstrip("/")

    def check(self) -> None:
        """Every address is a vault, if perhaps an empty one."""

    def holds(self, item: Input, *, verify: bool = False, count: Count = uncounted) -> bool:
        with self._errors("read"):
            try:
                found = self._files.info(self._path(item.digest))
            except FileNotFoundError:
                return False
        if found.get("type") != "file" or found.get("size") != item.size:
            return False
        return not verify or self._digest(item, count) == item.digest

    def has_something(self, item: Input) -> bool:
        with self._errors("read"):
            return bool(self._files.exists(self._path(item.digest)))

    def read(self, item: Input) -> Iterator[bytes]:
        with self._errors("read"), self._files.open(self._path(item.digest), "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def put(self, item: Input, source: Path, *, count: Count = uncounted) -> None:
        with open(source, "rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != item.digest:
            raise HashMismatch(f"{item.name}: the store's file is not {item.digest}")
        path = self._path(item.digest)
        with self._errors("write to"):
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(source), path, callback=_counted_by(count))

    def remove_partial(self) -> None:
        """An object that was not written to its end is none."""

    def finish(self, items: Sequence[Input]) -> None:
        """Nobody removes what is here."""

    def _path(self, digest: Digest) -> str:
        digits = hex_of(digest)
        return f"{self._root}/blobs/sha256/{digits[:2]}/{digits}"

    def _digest(self, item: Input, count: Count) -> Digest:
        hasher = hashlib.sha256()
        for chunk in self.read(item):
            hasher.update(chunk)
            count(len(chunk))
        return f"sha256:{hasher.hexdigest()}"

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except KlockError:
            raise
        # Each backend has errors of its own, from the libraries that it calls.
        except Exception as error:
            raise StoreError(f"cannot {doing} the vault at {self.name}: {_said(error)}", hint=_HINT) from error


def _patience(address: str) -> dict[str, Any]:
    """Options of a backend. s3fs and botocore both try again: five times five silences of 15 s would be six minutes."""
    if not address.startswith(("s3://", "s3a://")) or "AWS_MAX_ATTEMPTS" in os.environ:
        return {}
    return {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS}}}


_HINT: Final = "check the address, the network, and the credentials of that store's own tools"


def _counted_by(count: Count) -> Any:
    """fsspec's callback for bytes that were sent. Some backends never call it."""
    from fsspec.callbacks import Callback

    told = 0

    def hook(_: object, sent: int, **__: object) -> None:
        nonlocal told
        count(sent - told)
        told = sent

    return Callback(hooks={"sent": hook})


def _said(error: Any) -> str:
    return f"{type(error).__name__}: {error}"[:300] if str(error) else type(error).__name__
