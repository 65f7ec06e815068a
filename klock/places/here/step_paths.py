"""Which paths of the container's root a step owns. Programs that run beside it own what they write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Set
from functools import cached_property
from typing import Final

from klock.documents import read_json
from klock.errors import StoreError
from klock.files.placed import UNFINISHED
from klock.layers.rewriting.bytecode import source_of

__all__ = ["StepPaths"]

_PARTIAL: Final = ".partial"
_TEMPORARY: Final = ".tmp"


class StepPaths:
    """What a pip or file step writes, as paths of a manifest that lead through no symlink.

    `exact` are the paths it writes or removes, `whole` the folders in which everything is its own. Below `roots` its
    tools may also do what cannot be foreseen, such as removing an old distribution that does not say what it holds.
    """

    def __init__(self, exact: Iterable[str], *, whole: Iterable[str] = (), roots: Iterable[str] = ()) -> None:
        self.exact = frozenset(exact)
        self.whole = frozenset(whole)
        self.roots = tuple(dict.fromkeys(roots))

    def has(self, path: str) -> bool:
        """Whether the step itself writes it; also folders above such paths, the bytecode of its sources, and what its
        tools leave when they are killed."""
        if path in self.exact or path in self.above or _is_below(path, self.whole):
            return True
        if (source := source_of(path.removesuffix(_PARTIAL))) is not None:
            return source in self.exact
        above, _, name = path.rpartition("/")
        if name == "__pycache__" or name.startswith(UNFINISHED):
            return above in self.above
        return any(path.startswith(f"{root}/{_TEMPORARY}") for root in self.roots)

    def may_have(self, path: str) -> bool:
        """Whether a change of it may be the step's doing."""
        return self.has(path) or _is_below(path, frozenset(self.roots))

    @cached_property
    def above(self) -> frozenset[str]:
        """The folders above what the step writes."""
        found: set[str] = set()
        for path in (*self.exact, *self.whole):
            while (path := path.rpartition("/")[0]) and path not in found:
                found.add(path)
        return frozenset(found)

    def to_bytes(self) -> bytes:
        return json.dumps({"exact": sorted(self.exact), "whole": sorted(self.whole), "roots": self.roots}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> StepPaths:
        """Reads what `to_bytes` wrote. Raises StoreError."""
        try:
            return cls(**read_json(content, any_text=True))
        except (ValueError, TypeError) as error:
            raise StoreError(f"a damaged record of a step's paths: {error}") from error


def _is_below(path: str, folders: Set[str]) -> bool:
    """At one of `folders`, or below it."""
    while path and path not in folders:
        path = path.rpartition("/")[0]
    return bool(path)
