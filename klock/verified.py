"""Which blobs of the store have been read and found whole, told by their stat, as git's index tells of a work tree.

A blob is read once after each change of its stat: an edit in place that keeps size and mtime changes ctime, which
cannot be set back. Two edits within one tick of the clock have one ctime ("racy git"). So the stat of a blob that klock
writes is noted when the clock has gone on, if it is the same then. Disk errors change no stat; `klock vault pull
--verify` reads everything.

`records/verified` has a line for each, the last one of a blob counting; a line that is lost costs one reading.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

__all__ = ["Verified"]

_TICK: Final = 12_000_000
"""Nanoseconds: more than any kernel lets pass between two ticks of the clock that it gives files their times from."""
_COARSE_TICK: Final = 2_000_000_000
"""Nanoseconds, where times have no fractions of a millisecond, as of some file systems."""
_Fields = tuple[int, ...]


class Verified:
    """Any thread may use it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, _Fields] | None = None
        self._young: list[tuple[int, Path, _Fields]] = []

    def holds(self, blob: Path, status: os.stat_result) -> bool:
        """Whether the blob was whole when it had this stat."""
        if self._young:
            self._note_grown()
        return self._all().get(blob.name) == _fields(status)

    def note(self, blob: Path, status: os.stat_result, *, read_from: int | None = None) -> None:
        """The blob is whole. `read_from` is when its reading began (`time.time_ns`); None for one that klock has just
        written. One that was so young when it was read is known to this process only: more of it may follow."""
        fields = _fields(status)
        self._all()[blob.name] = fields
        latest = max(status.st_mtime_ns, status.st_ctime_ns)
        grown = latest + (_TICK if latest % 1_000_000 else _COARSE_TICK)
        if read_from is None or read_from > grown:
            self._young.append((grown, blob, fields))
            self._note_grown()

    def _note_grown(self) -> None:
        """Writes down the stats that say something by now."""
        young, self._young = self._young, []
        now = time.time_ns()
        self._young += [each for each in young if each[0] >= now]
        # What cannot be written is read again the next time.
        with contextlib.suppress(OSError):
            lines = [
                _line(blob.name, fields) for grown, blob, fields in young if grown < now and _is_still(blob, fields)
            ]
            if lines:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with open(self._file, "ab", buffering=0) as file:
                    file.write(b"".join(lines))

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


def _is_still(blob: Path, fields: _Fields) -> bool:
    try:
        return _fields(blob.stat()) == fields
    except FileNotFoundError:
        return False


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
