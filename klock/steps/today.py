"""Today's date in what a step wrote. Two runs on one day cannot show that tomorrow's differs, so users are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.searchable import Searchable
from klock.steps.searching import paths_in_layer_with
from klock.words import first_of

__all__ = ["tell_of_today", "today"]

_DATES: Final = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d"),
    *("%d %b %Y", "%b %d %Y", "%b %d, %Y", "%a %b %e"),
)
"""How programs write a day, as strftime(3) has it."""

_DATED_BY_OTHERS: Final = "/var/lib/apt/lists/"
"""What apt was given: the archive's date is locked with it."""


def today() -> Sequence[bytes]:
    """The day, as programs write it."""
    now = datetime.now(UTC)
    return sorted({now.strftime(form).encode() for form in _DATES})


def tell_of_today(at: StepAt[Any], layer: Searchable, context: Context) -> None:
    """Warns of files that hold today's date."""
    paths = paths_in_layer_with(today(), at, layer)
    found = [path for path in paths if not path.startswith(_DATED_BY_OTHERS)]
    if found:
        context.progress.warn(
            f"{at.name} wrote today's date into {first_of(found)}: if that is the day it ran on, it makes something "
            "else tomorrow"
        )
