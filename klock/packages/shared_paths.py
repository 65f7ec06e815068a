"""Paths that two wheels own with different bytes, where a build is going to see both.

uv installs wheels side by side, so the winner would differ from run to run. Wheels that share such a path are installed
one after the other, by name; the last one's bytes are there in the end, on every machine.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from klock.lockfile.model import WheelArtifact
from klock.packages.archives import opened_zip, read_member
from klock.store import Store

__all__ = ["batches"]

Wheel: TypeAlias = tuple[str, str, WheelArtifact]
"""A wheel with the name and the version of its distribution."""


def batches(wheels: Sequence[Wheel], store: Store) -> list[list[Wheel]]:
    """Wheels in the order of installation: those of one batch share no path with each other."""
    by_name = {wheel[0]: wheel for wheel in wheels}
    clashing = _clashing({name: artifact for name, (_, _, artifact) in by_name.items()}, store)
    free = [wheel for name, wheel in by_name.items() if name not in clashing]
    return [*([free] if free else []), *([by_name[name]] for name in sorted(clashing))]


def _clashing(wheels: Mapping[str, WheelArtifact], store: Store) -> set[str]:
    """The names of those that own a path which another one owns with other bytes."""
    owners: dict[str, tuple[str, str]] = {}
    found: set[str] = set()
    for name in sorted(wheels):
        for path, digest in _recorded(wheels[name], store):
            before = owners.get(path)
            if before is not None and before[1] != digest:
                found |= {before[0], name}
            owners[path] = name, digest
    return found


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
