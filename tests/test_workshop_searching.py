"""Byte strings in files: what the search finds is what is there, however much the strings have in common."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from klock.workshop.searching import is_in_file, paths_with

TEXTS = st.lists(st.sampled_from([b"2026", b"-12", b"/", b"abcd", b"ab", b"a", b"\0"]), max_size=6).map(b"".join)


@given(st.lists(TEXTS, min_size=1, max_size=6), st.lists(TEXTS, max_size=6).map(b"".join))
def test_a_file_holds_a_value_or_none(values: list[bytes], content: bytes) -> None:
    wanted = [value for value in values if value]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.write_bytes(content)
        expected = any(value in content for value in wanted)
        assert paths_with(values, folder) == (["/x"] if expected else [])
        if wanted:
            assert is_in_file(wanted, str(path)) == expected
