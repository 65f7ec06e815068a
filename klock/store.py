"""The content-addressed store: blobs, unpacked trees, records, under `$KLOCK_CACHE_DIR` or the XDG cache folder.

    blobs/sha256/ab/abcd...       bytes by their digest: artifacts, OCI blobs, answers that shell steps got
    kept/sha256/ab/abcd...        hard links to blobs that klock may not get a second time; they outlive a clean
    trees/<name>/                 an unpacked layer: `root/` (the files) and `manifest` (what they should be)
    records/<kind>/<key>.json     small facts that can be made again; records/unchanged/: see `klock.unchanged`
    records/verified              which blobs were read and found whole (`klock.verified`)
    resolver/                     uv's cache of what it read from indexes (`klock.packages.uv_outside`)
    environments/<name>/          what places note of environments (`klock.places.records`)
    logs/                         what steps printed when they last ran (`klock.logs`)
    tmp/                          half-made things, renamed into place when whole; work of processes
    locks/                        flock files

Everything appears by one rename, after an fsync, so a reader sees a whole thing or nothing, and two processes that make
the same thing do harmless double work. Only what is in `kept/` is precious: upstream may drop it, or it was made here
once. All the rest can be fetched or made again from the lockfile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from klock.digests import Digest, hex_of
from klock.documents import read_json
from klock.errors import HashMismatch, StoreError
from klock.file_locks import locked
from klock.store_folder import store_folder
from klock.verified import Verified

__all__ = ["FOLDERS", "Store", "name_of_process"]

FOLDERS: Final = ("blobs", "environments", "kept", "locks", "logs", "mnt", "records", "resolver", "tmp", "trees")
"""What a store has right below its root."""

_CHUNK: Final = 1 << 20
_USERS: Final = "users"


class Store:
    """A folder that holds bytes by their digest. Opening one touches nothing on disk."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(store_folder())
        self._verified = Verified(self.root / "records" / "verified")

    # -- blobs

    def blob_path(self, digest: Digest) -> Path:
        digits = hex_of(digest)
        return self.root / "blobs" / "sha256" / digits[:2] / digits

    def find_blob(self, digest: Digest) -> Path | None:
        """The blob's path when the store holds it. One that was changed since it was last read is removed."""
        path = self.blob_path(digest)
        try:
            status = path.stat()
        except FileNotFoundError:
            # `remove_downloads` takes a blob's first name only.
            if not self._link(self._kept_path(digest), path):
                return None
            status = path.stat()
        is_whole = self._verified.holds(path, status) or self.verify_blob(digest)
        return path if is_whole else None

    def keep_blob(self, digest: Digest) -> bool:
        """Has a blob outlive `remove_downloads`, as it may not be had again; False when the store does not hold it."""
        path = self.blob_path(digest)
        was_whole = path.exists() and self._verified.holds(path, path.stat())
        is_kept = self._link(path, self._kept_path(digest))
        if was_whole and path.exists():
            self._verified.note(path, path.stat())  # another name is no other file
        return is_kept

    def kept_bytes(self) -> int:
        """The bytes of all blobs that `keep_blob` was called for."""
        return _bytes_below(self.root / "kept")

    def _kept_path(self, digest: Digest) -> Path:
        digits = hex_of(digest)
        return self.root / "kept" / "sha256" / digits[:2] / digits

    def _link(self, there: Path, here: Path) -> bool:
        """Gives the file a second name; False when it is gone. One that has the name already is as good."""
        if there.exists() and not here.exists():
            with self._io_errors():
                here.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    here.hardlink_to(there)
        return here.exists()

    def add_blob(
        self,
        chunks: Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        source: str = "data",
        on_progress: Callable[[int], None] | None = None,
    ) -> tuple[Digest, int]:
        """Stores `chunks` and returns their digest and size in bytes. `source` names them in messages.

        Raises HashMismatch when `digest` or `size` is given and the bytes are others; nothing is kept then.
        """
        import hashlib

        with self.temporary_file() as path:
            hasher = hashlib.sha256()
            length = 0
            with self._io_errors(), open(path, "wb") as file:
                for chunk in chunks:
                    length += len(chunk)
                    if size is not None and length > size:
                        raise HashMismatch(f"{source}: more than the locked {size} bytes arrived")
                    hasher.update(chunk)
                    file.write(chunk)
                    if on_progress:
                        on_progress(len(chunk))
                file.flush()
                os.fsync(file.fileno())
            found = "sha256:" + hasher.hexdigest()
            if size is not None and length != size:
                raise HashMismatch(f"{source}: {length} bytes arrived, the locked size is {size}")
            if digest is not None and found != digest:
                raise HashMismatch(
                    f"{source}: hash mismatch: locked {digest}, received {found}",
                    hint="find out who changed the file upstream before you lock again",
                )
            blob, kept = self.blob_path(found), self._kept_path(found)
            self._put(path, blob)
        if kept.exists():
            # Bytes that came once more stand in both places: once on the disk, and whole if the old ones were damaged.
            with self.temporary_file() as link:
                if self._link(blob, link):
                    self._put(link, kept)
        with contextlib.suppress(FileNotFoundError):
            self._verified.note(blob, blob.stat())
        return found, length

    def add_bytes(self, content: bytes, *, digest: Digest | None = None, source: str = "data") -> Digest:
        return self.add_blob([content], digest=digest, source=source)[0]

    def verify_blob(self, digest: Digest) -> bool:
        """Reads the blob again. A blob that was damaged on disk is removed, so that it is fetched anew."""
        import hashlib

        path = self.blob_path(digest)
        if not path.exists() and not self._link(self._kept_path(digest), path):
            return False
        began = time.time_ns()
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            if "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == digest:
                self._verified.note(path, before, read_from=began)
                return True
        path.unlink(missing_ok=True)
        self._kept_path(digest).unlink(missing_ok=True)
        return False

    # -- records

    def read_record(self, kind: str, key: str) -> Any | None:
        """A record, or None when there is none or it is damaged (it can be made again)."""
        try:
            return read_json(self.record_path(kind, key).read_bytes(), any_text=True)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def write_record(self, kind: str, key: str, value: Any) -> None:
        import json

        with self.temporary_file() as path:
            with self._io_errors():
                path.write_text(json.dumps(value, sort_keys=True), encoding="utf-8")
            self._put(path, self.record_path(kind, key))

    def remove_records(self, kind: str) -> None:
        """Removes all records of a kind."""
        import shutil

        shutil.rmtree(self.root / "records" / kind, ignore_errors=True)

    def record_path(self, kind: str, key: str) -> Path:
        """Where a record is, or would be."""
        name = hex_of(key) if key.startswith("sha256:") else key
        return self.root / "records" / kind / f"{name}.json"

    # -- trees and environments: folders whose files may belong to ids that only the workshop's namespaces can write

    def tree_path(self, name: str) -> Path:
        return self.root / "trees" / name

    def environment_path(self, name: str) -> Path:
        return self.root / "environments" / name

    def environment_names(self) -> list[str]:
        return sorted(path.name for path in (self.root / "environments").glob("*"))

    def remove_downloads(self, *, kept_too: bool = False) -> int:
        """Removes all records, logs, uv's cache, and all blobs but those that are kept; returns the bytes freed."""
        import shutil

        blobs, kept = _bytes_below(self.root / "blobs", linked=False), self.kept_bytes()
        for name in ("blobs", "records", "resolver", "logs", *(("kept",) if kept_too else ())):
            with self._io_errors(), contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.root / name)
        return blobs + kept if kept_too else blobs

    # -- making things

    @contextlib.contextmanager
    def temporary_file(self) -> Iterator[Path]:
        """A fresh path on the store's file system; whatever is left there at the end is removed."""
        path = self.temporary_path()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @property
    def tmp(self) -> Path:
        """`tmp/`; makes it if it is missing. Gigabytes belong here, on the store's disk, and not in `$TMPDIR`."""
        folder = self.root / "tmp"
        with self._io_errors():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def temporary_path(self) -> Path:
        """A path that nothing has, in `tmp/`. Its maker renames or removes it."""
        return self.tmp / f"{name_of_process(os.getpid())}-{os.urandom(8).hex()}"

    def remove_temporary_files(self, *, of_process: int) -> None:
        """Removes what a process of this machine (or this container) left in `tmp/` when it ended."""
        for path in (self.root / "tmp").glob(f"{name_of_process(of_process)}-*"):
            # A folder is another's, of an earlier process with that id, and takes more to remove.
            with contextlib.suppress(IsADirectoryError):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Only one process at a time holds the lock `name`; the kernel releases it when its holder dies."""
        with self._io_errors():
            file = self._lock_file(name)
        with file, locked(file, fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While the block runs, nothing is removed from the store: `alone` waits. Blocks may be nested."""
        try:
            file = self._lock_file(_USERS)
        except OSError:
            # Nobody can remove anything from a store that cannot be written.
            yield
            return
        with file, locked(file, fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def alone(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Nobody uses the store while the block runs. `on_wait` is called when that has to be waited for."""
        with self._io_errors():
            file = self._lock_file(_USERS)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
            with locked(file, fcntl.LOCK_EX):
                yield

    def _lock_file(self, name: str) -> BinaryIO:
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        return open(self.root / "locks" / name, "ab")

    def _put(self, temporary: Path, final: Path) -> None:
        with self._io_errors():
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(final)

    @contextlib.contextmanager
    def _io_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot write to the store at {self.root}: {error.strerror or error}",
                hint="set KLOCK_CACHE_DIR to a folder that you may write to"
                if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
                else "free some space, or set KLOCK_CACHE_DIR to a folder on another disk",
            ) from error


def name_of_process(pid: int | str) -> str:
    """The name of a process of this machine (or this container) in a store: the process ids of containers that share a
    store may be the same."""
    return f"{Path('/proc/self/ns/pid').stat().st_ino}.{pid}"


def _bytes_below(folder: Path, *, linked: bool = True) -> int:
    """The bytes of the files below a folder; without `linked` only of those that have no other name."""
    statuses = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum(status.st_size for status in statuses if linked or status.st_nlink == 1)
