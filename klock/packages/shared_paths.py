"""Paths that two wheels of one step own with different bytes: which of them is installed must not be left to chance.

uv installs wheels side by side, so the winner would differ from run to run. Wheels that share such a path are installed
one after the other, by name; the last one's bytes are there in the end, on every machine.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from klock.lockfile.model import LockedPackage, WheelArtifact
from klock.packages.archives import opened_zip, read_member
from klock.packages.wheels import wheel_of
from klock.store import Store
from klock.words import counted

__all__ = ["batches", "warnings_of_shared_paths"]

Wheel: TypeAlias = tuple[str, str, WheelArtifact]
"""A wheel with the name and the version of its distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """`first` and `last` are names; what both own is what `last` brings. `path` is one of `count`."""

    first: str
    last: str
    path: str
    count: int


def batches(wheels: Sequence[Wheel], store: Store) -> list[list[Wheel]]:
    """Wheels in the order of installation: those of one batch share no path with each other."""
    by_name = {wheel[0]: wheel for wheel in wheels}
    shared = _shared({name: artifact for name, (_, _, artifact) in by_name.items()}, store)
    clashing = sorted({name for each in shared for name in (each.first, each.last)})
    free = [wheel for name, wheel in by_name.items() if name not in clashing]
    return [*([free] if free else []), *([by_name[name]] for name in clashing)]


def warnings_of_shared_paths(packages: Sequence[LockedPackage], store: Store) -> Iterator[str]:
    """A sentence for each two packages of one step that own a path with different bytes."""
    for shared in _shared({package.name: wheel_of(package) for package in packages}, store):
        more = f" and {counted(shared.count - 1, 'more path')}" if shared.count > 1 else ""
        yield (
            f"{shared.first} and {shared.last} both bring {shared.path}{more}, with different bytes: "
            f"{shared.last} is installed last, and its bytes count"
        )


def _shared(wheels: Mapping[str, WheelArtifact], store: Store) -> list[_Shared]:
    owners: dict[str, tuple[str, str]] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for name in sorted(wheels):
        for path, digest in _recorded(wheels[name], store):
            before = owners.get(path)
            if before is not None and before[1] != digest:
                found.setdefault((before[0], name), []).append(path)
            owners[path] = name, digest
    return [
        _Shared(first=first, last=last, path=min(paths), count=len(paths))
        for (first, last), paths in sorted(found.items())
    ]


def _recorded(wheel: WheelArtifact, store: Store) -> Iterator[tuple[str, str]]:
    """The files of a wheel that go into site-packages, with their digests. None of a wheel that cannot be read: the
    installer says why."""
    blob = store.find_blob(f"sha256:{wheel.sha256}")
    if blob is None:
        return
    with opened_zip(blob, wheel.name) as archive:
        record = next((n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/RECORD")), None)
        if record is None:
            return
        # By csv itself: installer's reader checks each line, which takes a second for what torch brings.
        rows = list(csv.reader(io.StringIO(read_member(archive, record).decode("utf-8"), newline="")))
    data = f"{record.partition('.dist-info/')[0]}.data/"
    for path, digest in (row[:2] for row in rows if len(row) == 3 and row[1]):
        inside = path.removeprefix(data)
        if inside == path or inside.startswith(("purelib/", "platlib/")):
            yield path if inside == path else inside.partition("/")[2], digest
