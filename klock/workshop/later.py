"""A workspace that is opened when something is first asked of it.

Most often nothing is: what its Python is has been noted, and uv is asked outside. Then neither the base nor the layers
that it would show have to be looked at, or to be here at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from klock.digests import Digest
from klock.files.placed import PlacedFile
from klock.workshop.protocol import Command, Completed, KnownFiles, Layer, TreeCopy, Workspace

if TYPE_CHECKING:
    from klock.forks import Tally

__all__ = ["LaterWorkspace"]


class LaterWorkspace:
    """`klock.workshop.protocol.Workspace`, of which `is_still` says in advance whether nothing runs in it."""

    def __init__(self, open_it: Callable[[], Workspace], *, is_still: bool) -> None:
        self._open_it = open_it
        self._is_still = is_still

    @cached_property
    def _opened(self) -> Workspace:
        return self._open_it()

    @property
    def known(self) -> KnownFiles | None:
        return self._opened.known if self._is_still else None

    def run(self, command: Command, *, on_output: Callable[[bytes], None] | None = None) -> Completed:
        return self._opened.run(command, on_output=on_output)

    def run_service(self, command: Command, *, seconds: float = 0.5) -> Completed | None:
        return self._opened.run_service(command, seconds=seconds)

    def place(self, files: Sequence[PlacedFile], destination: str, *, owner: str = "", keep: bool = False) -> None:
        self._opened.place(files, destination, owner=owner, keep=keep)

    def copy_from(self, wanted: TreeCopy) -> None:
        self._opened.copy_from(wanted)

    def read(self, path: str) -> bytes | None:
        return self._opened.read(path)

    def read_matching(self, patterns: Sequence[str]) -> Mapping[str, bytes]:
        return self._opened.read_matching(patterns)

    def find(self, values: Sequence[bytes]) -> list[str]:
        return self._opened.find(values)

    def snapshot(
        self,
        *,
        leave_out: Sequence[str] = (),
        keep: Sequence[str] = (),
        tally: Tally | None = None,
        look: Callable[[Digest], None] | None = None,
    ) -> Layer:
        return self._opened.snapshot(leave_out=leave_out, keep=keep, tally=tally, look=look)
