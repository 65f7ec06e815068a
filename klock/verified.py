"""Which blobs of the store have been read and found whole, told by their stat, as git's index tells of a work tree.

A blob is read once after each change of its stat: an edit in place that keeps size and mtime changes ctime, which
cannot be set back. Two edits within one tick of the clock have one ctime, so a blob that is younger than that when
it is read is known to this process only ("racy git"). Disk errors change no stat; `klock vault pull --verify` reads
everything.

`records/verified` has a line for each, the last one of a blob counting; a line that is lost costs one reading.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

__all__ = ["Verified"]

_RACY_NANOSECONDS: Final = 2_000_000_000
_Fields = tuple[int, ...]


class Verified:
    """Any thread may use it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, _Fields] | None = None

    def holds(self, name: str, status: os.stat_result) -> bool:
        """Whether the blob of this name was whole when it had this stat."""
        return self._all().get(name) == _fields(status)

    def note(self, name: str, status: os.stat_result) -> None:
        """The blob of this name was read just now, and is whole."""
        fields = _fields(status)
        self._all()[name] = fields
        if max(status.st_mtime_ns, status.st_ctime_ns) + _RACY_NANOSECONDS >= time.time_ns():
            return
        # What cannot be written is read again the next time.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._file, "ab", buffering=0) as file:
                file.write(_line(name, fields))

    def _all(self) -> dict[str, _Fields]:
        if self._known is None:
            try:
                content = self._file.read_bytes()
            except OSError:
                content = b""
            known: dict[str, _Fields] = {}
            lines = content.splitlines()
            for line in lines:
                with contextlib.suppress(ValueError):
                    name, *fields = line.split(b" ")
                    known[name.decode("ascii")] = tuple(map(int, fields))
            self._known = known
            if len(lines) > 2 * len(known) + 1000:
                self._write_anew(known)
        return self._known

    def _write_anew(self, known: dict[str, _Fields]) -> None:
        temporary = self._file.with_name(f"verified.{os.getpid()}.{os.urandom(4).hex()}")
        with contextlib.suppress(OSError):
            temporary.write_bytes(b"".join(_line(name, fields) for name, fields in known.items()))
            temporary.replace(self._file)


def _fields(status: os.stat_result) -> _Fields:
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _line(name: str, fields: _Fields) -> bytes:
    return f"{name} {' '.join(map(str, fields))}\n".encode("ascii")
