"""The date after which files of an index do not count, as one moment that means the same everywhere (RFC 3339)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from klock.errors import KlockError

__all__ = ["read_moment"]


def read_moment(text: str, *, what: str) -> str:
    """`2026-01-31` (to the end of that day, UTC) or `2026-01-31T12:00:00Z`, as `2026-02-01T00:00:00Z`. `what` names it
    in messages. Raises KlockError for anything else, as for `3 days`, which means another moment each time."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = date.fromisoformat(text)
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError("it names no time zone")
        return moment.astimezone(UTC).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError) as error:
        raise KlockError(
            f"{what} is {text!r}: {error}",
            hint="write 2026-01-31, or a moment with its time zone: 2026-01-31T12:00:00Z",
        ) from None
