"""What steps print reaches the terminal without credentials, however it was cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.replay.masked import masked


def printed(pieces: list[bytes], *secrets: str) -> bytes:
    passed_on: list[bytes] = []
    with masked(passed_on.append, secrets) as write:
        for piece in pieces:
            write(piece)
    return b"".join(passed_on)


TABLE = {
    "no secrets": ([b"a", b"b\n"], [], b"ab\n"),
    "an empty one": ([b"ab"], [""], b"ab"),
    "in one piece": ([b"token s3cr3t.\n"], ["s3cr3t"], b"token ***.\n"),
    "in two pieces": ([b"token s3c", b"r3t.\n"], ["s3cr3t"], b"token ***.\n"),
    "over lines": ([b"-\nBEGIN\n", b"END\n-"], ["BEGIN\nEND"], b"-\n***\n-"),
    "percent-encoded": ([b"https://u:p%40ss@h"], ["p@ss"], b"https://u:***@h"),
    "one that begins another": ([b"abcdef abc"], ["abc", "abcdef"], b"*** ***"),
    "only its beginning": ([b"s3cr"], ["s3cr3t"], b"s3cr"),
    "bytes that are no text": ([b"\xff\xfes3cr3t"], ["s3cr3t"], b"\xff\xfe***"),
}


@pytest.mark.parametrize(("pieces", "secrets", "expected"), TABLE.values(), ids=TABLE)
def test_what_is_passed_on(pieces: list[bytes], secrets: list[str], expected: bytes) -> None:
    assert printed(pieces, *secrets) == expected


def test_what_cannot_be_part_of_a_secret_does_not_wait() -> None:
    passed_on: list[bytes] = []
    with masked(passed_on.append, ["s3cr3t"]) as write:
        write(b"working s3")
        assert passed_on == [b"working "]


@given(st.lists(st.sampled_from([b"s3cr3t", b"s3", b"cr3t", b"x", b"s3cr3", b"\n"])), st.integers(1, 5))
def test_pieces_make_no_difference(words: list[bytes], size: int) -> None:
    text = b"".join(words)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert printed(pieces, "s3cr3t") == text.replace(b"s3cr3t", b"***")
