"""What stands in place of a credential, and putting it there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["MASK", "masked_at"]

MASK: Final = "***"


def masked_at(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` with `***` for each part from a start to an end; they may overlap and come in any order."""
    parts = []
    position = 0
    for start, end in sorted(spans):
        if start >= position:
            parts += [text[position:start], MASK]
        position = max(position, end)
    return "".join(parts) + text[position:]
