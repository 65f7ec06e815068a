"""A vault on disk: `blobs/sha256/ab/abcd...`, as in the store, and nothing that says whose they are.

A blob appears by one rename, so that a reader sees a whole one or none, and any number of writers do harmless double
work. Nothing in it is trusted: whoever reads a blob compares its digest. The folder may be on another machine, and may
be read-only for whoever only pulls.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from klock.digests import Digest, hex_of
from klock.errors import HashMismatch, StoreError
from klock.vault.inputs import Input
from klock.vault.protocol import Count, uncounted

__all__ = ["VaultFolder"]

_CHUNK: Final = 1 << 20
_DAY: Final = 86400
_PARTIAL: Final = ".partial-"
_NOTHING_THERE: Final = (errno.ENOENT, errno.ELOOP)
"""No name, or a symlink that leads nowhere."""


class VaultFolder:
    """Opening one touches nothing on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        return str(self.root)

    def check(self) -> None:
        if self.root.is_file():
            raise self._is_a_file()
        if not self.root.is_dir():
            raise StoreError(f"there is no vault at {self.root}", hint="make one: klock vault push DIR")

    def blob_path(self, digest: Digest) -> Path:
        digits = hex_of(digest)
        return self.root / "blobs" / "sha256" / digits[:2] / digits

    def holds(self, item: Input, *, verify: bool = False, count: Count = uncounted) -> bool:
        """Whether the blob is here with its size, and with its bytes if they are to be read."""
        try:
            status = self.blob_path(item.digest).stat()
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return False
            raise self._unreadable(error) from error
        if not stat.S_ISREG(status.st_mode) or status.st_size != item.size:
            return False
        return not verify or self._digest(item, count) == item.digest

    def has_something(self, item: Input) -> bool:
        return self.blob_path(item.digest).exists()

    def read(self, item: Input) -> Iterator[bytes]:
        """The bytes of a blob, not yet verified."""
        digest = item.digest
        try:
            # Not to wait for the other end of a FIFO.
            descriptor = os.open(self.blob_path(digest), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreError(f"{self.blob_path(digest)} is not a file", hint="remove it from the vault")
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise self._unreadable(error) from error

    def put(self, item: Input, source: Path, *, count: Count = uncounted) -> None:
        """Copies a file in, in place of what has its name. Raises HashMismatch when it is not the blob."""
        final = self.blob_path(item.digest)
        hasher = hashlib.sha256()
        with self._io_errors():
            self._make_folders(final.parent)
            partial = final.with_name(f"{_PARTIAL}{os.urandom(8).hex()}")
            try:
                with open(source, "rb") as file, open(partial, "xb") as copy:
                    os.fchmod(copy.fileno(), 0o644)
                    while chunk := file.read(_CHUNK):
                        hasher.update(chunk)
                        copy.write(chunk)
                        count(len(chunk))
                    copy.flush()
                    os.fsync(copy.fileno())
                if f"sha256:{hasher.hexdigest()}" != item.digest:
                    raise HashMismatch(f"{item.name}: the store's file is not {item.digest}")
                if final.is_dir() and not final.is_symlink():
                    raise StoreError(f"{final} is a folder, not a blob", hint="remove it from the vault")
                partial.replace(final)
            finally:
                partial.unlink(missing_ok=True)

    def remove_partial(self) -> None:
        """Removes what writers left behind that were killed: half-made files that nobody touched for a day."""
        yesterday = time.time() - _DAY
        with self._io_errors():
            for path in self.root.glob(f"blobs/sha256/*/{_PARTIAL}*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < yesterday:
                        path.unlink()

    def finish(self, items: Sequence[Input]) -> None:
        """Nobody removes what is in a folder."""

    def _digest(self, item: Input, count: Count) -> Digest:
        hasher = hashlib.sha256()
        for chunk in self.read(item):
            hasher.update(chunk)
            count(len(chunk))
        return f"sha256:{hasher.hexdigest()}"

    def _make_folders(self, folder: Path) -> None:
        """Makes what is missing of a folder of the vault; others can read it whatever the umask is."""
        if folder.is_dir():
            return
        if folder != self.root:
            self._make_folders(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=folder == self.root)
            folder.chmod(0o755)

    def _is_a_file(self) -> StoreError:
        return StoreError(f"{self.root} is a file, not a vault", hint="name a folder")

    def _unreadable(self, error: OSError) -> StoreError:
        if error.errno == errno.ENOTDIR and self.root.is_file():
            return self._is_a_file()
        return StoreError(
            f"cannot read the vault at {self.root}: {error.strerror or error}", hint="make the folder readable for you"
        )

    @contextlib.contextmanager
    def _io_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot write to the vault at {self.root}: {error.strerror or error}",
                hint="free some space, or choose a folder that you may write to",
            ) from error
