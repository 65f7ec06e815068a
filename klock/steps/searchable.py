"""What a step wrote, as whoever looks for secrets in it sees it: a workspace, or a layer that was composed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Searchable"]


class Searchable(Protocol):
    """What a step wrote."""

    def find(self, values: Sequence[bytes]) -> list[str]:
        """The absolute paths that hold one of `values`, sorted."""
