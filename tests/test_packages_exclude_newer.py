"""The date after which files of an index do not count."""

from __future__ import annotations

import pytest

from klock.errors import KlockError
from klock.packages.exclude_newer import read_moment


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-01-31", "2026-02-01T00:00:00Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31 12:00:00+02:00", "2026-01-31T10:00:00Z"),
    ],
)
def test_one_moment_everywhere(written: str, moment: str) -> None:
    assert read_moment(written, what="x") == moment
    assert read_moment(moment, what="x") == moment


@pytest.mark.parametrize("written", ["3 days", "2026-02-30", "2026-01-31T12:00:00", "", "9999-12-31"])
def test_what_is_no_moment(written: str) -> None:
    with pytest.raises(KlockError, match=r"^exclude-newer is '"):
        read_moment(written, what="exclude-newer")
