"""The lockfile: its model, its text, and reading and replacing the file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from klock.documents import LARGEST_TOML, read_toml
from klock.errors import LockfileError, way_to_write
from klock.lockfile.codec import decode
from klock.lockfile.model import ImageLock, Lockfile
from klock.lockfile.reading import from_text
from klock.lockfile.writing import to_text

__all__ = ["read", "read_image", "write"]


def read(path: Path) -> Lockfile | None:
    """The lockfile at `path`, or None when there is no file. Raises LockfileError."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_TOML + 1)
        if len(content) > LARGEST_TOML:
            raise LockfileError(f"{path.name} is not a lockfile: it is longer than {LARGEST_TOML >> 20} MiB")
        text = content.decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockfileError(f"cannot read {path.name}: {error}") from error
    return from_text(text, path.name)


def read_image(path: Path) -> ImageLock | None:
    """What a lockfile says of the image besides its steps, read quickly; None when there is no such file, or it cannot
    be read, which `read` says."""
    try:
        head, _, _ = path.read_text("utf-8").partition("\n[[")
        return decode(ImageLock, read_toml(head).get("image", {}), "image")
    except (OSError, ValueError, LockfileError):
        return None


def write(lockfile: Lockfile, path: Path) -> bool:
    """Replaces the file at `path`, all or nothing; returns whether its bytes changed.

    The text is read back and compared before it replaces anything, so what is on disk is always a lockfile that reads.
    """
    text = to_text(lockfile)
    again = from_text(text, path.name)
    if again != lockfile and to_text(again) != text:  # the order of targets and packages is the text's
        raise LockfileError(f"{path.name} was not written: klock reads something else back than it wrote")
    content = text.encode("utf-8")
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return False
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LockfileError(f"cannot write {path}: {error.strerror or error}", hint=way_to_write(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return True
