"""A sketch of a manifest: about a kilobyte from which another manifest learns where it differs.

A layer's digest says that a replay made something else, not what. The lockfile cannot hold a line for every path, and
the layer itself may be on no machine. An invertible Bloom lookup table (Goodrich, Mitzenmacher 2011) holds the
difference of two sets in room for the difference alone: each entry is added to one cell of each of three rows; what
both sets have cancels out, and a cell with a single entry left gives it away, and is emptied from the others.

An entry is 8 bytes: 4 of the path's SHA-256, 4 of the line's. So a path that both sides have, with other lines, is told
from one that only one side has. The names of paths come from the manifest that is at hand.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from klock.layers.manifest import Entry, Manifest
from klock.values import dataclass

__all__ = ["Reconciled", "reconcile", "sketch_of"]

_ROWS: Final = 3
_MOST_COLUMNS: Final = 24
_FEWEST_COLUMNS: Final = 4
_CELL: Final = struct.Struct(">hQH")
"""How many entries are in it, their exclusive or, and that of their checks."""

_HALF: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """How a manifest differs from the one that was sketched: paths in both with other lines, paths that only this one
    has, and how many paths only the sketched one has, whose names nobody knows here."""

    changed: tuple[str, ...]
    only_here: tuple[str, ...]
    missing: int


def sketch_of(manifest: Manifest) -> str:
    """The sketch as base64 text: 0.2 to 1.2 kB, by the number of entries; equal manifests have equal ones."""
    columns = min(_MOST_COLUMNS, max(_FEWEST_COLUMNS, len(manifest)))
    table = _Table.empty(columns)
    for entry in manifest.values():
        table.toggle(_number(entry), 1)
    return base64.b64encode(b"".join(_CELL.pack(*cell) for cell in table.cells)).decode("ascii")


def reconcile(sketch: str, manifest: Manifest) -> Reconciled | None:
    """How `manifest` differs from the sketched one; None when it does in too many paths, or this is not a sketch."""
    table = _Table.read(sketch)
    if table is None:
        return None
    by_number = {_number(entry): entry.path for entry in manifest.values()}
    for number in by_number:
        table.toggle(number, -1)
    theirs: set[int] = set()
    ours: set[int] = set()
    for number, count in table.peel():
        (theirs if count > 0 else ours).add(number)
    if not table.is_empty or not ours <= by_number.keys():
        return None
    their_paths = {number >> _HALF for number in theirs}
    changed = [number for number in ours if number >> _HALF in their_paths]
    only_here = ours.difference(changed)
    return Reconciled(
        changed=tuple(sorted(by_number[number] for number in changed)),
        only_here=tuple(sorted(by_number[number] for number in only_here)),
        missing=len(theirs) - len(changed),
    )


class _Table:
    def __init__(self, cells: list[tuple[int, int, int]]) -> None:
        self.cells = cells
        self._columns = len(cells) // _ROWS

    @classmethod
    def empty(cls, columns: int) -> _Table:
        return cls([(0, 0, 0)] * (columns * _ROWS))

    @classmethod
    def read(cls, text: str) -> _Table | None:
        try:
            content = base64.b64decode(text, validate=True)
            cells = list(_CELL.iter_unpack(content))
        except (binascii.Error, ValueError, struct.error):
            return None
        is_whole = len(cells) % _ROWS == 0 and _FEWEST_COLUMNS <= len(cells) // _ROWS <= _MOST_COLUMNS
        return cls(cells) if is_whole else None

    @property
    def is_empty(self) -> bool:
        return not any(any(cell) for cell in self.cells)

    def toggle(self, number: int, count: int) -> None:
        """Adds (1) or takes away (-1) an entry."""
        check = _check(number)
        for place in self._places(number):
            held, numbers, checks = self.cells[place]
            # Wraps like the two bytes it is kept in: only the difference of two tables has to be right.
            held = (held + count + 0x8000) % 0x10000 - 0x8000
            self.cells[place] = held, numbers ^ number, checks ^ check

    def peel(self) -> Iterator[tuple[int, int]]:
        """The entries left, each with 1 or -1, as far as they can be told apart; those are taken away."""
        waiting = list(range(len(self.cells)))
        while waiting:
            count, number, check = self.cells[waiting.pop()]
            if count in (1, -1) and check == _check(number):
                self.toggle(number, -count)
                waiting += self._places(number)
                yield number, count

    def _places(self, number: int) -> Iterable[int]:
        spread = _digest(b"place", number)
        return [
            row * self._columns + int.from_bytes(spread[row * 4 : row * 4 + 4], "big") % self._columns
            for row in range(_ROWS)
        ]


def _number(entry: Entry) -> int:
    path = hashlib.sha256(entry.path.encode("utf-8", "surrogateescape")).digest()[:4]
    line = hashlib.sha256(entry.to_line().encode("ascii")).digest()[:4]
    return int.from_bytes(path + line, "big")


def _check(number: int) -> int:
    return int.from_bytes(_digest(b"check", number)[:2], "big")


def _digest(purpose: bytes, number: int) -> bytes:
    return hashlib.sha256(purpose + number.to_bytes(8, "big")).digest()
