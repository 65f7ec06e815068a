"""What steps print reaches the terminal without credentials, however it was cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.secrets.masking import masked


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
    "percent-encoded": ([b"https://u:p%40ss@h"], ["p@ss"], b"https://***@h"),
    "one that begins another": ([b"abcdef abc"], ["abc", "abcdef"], b"*** ***"),
    "only its beginning": ([b"s3cr"], ["s3cr3t"], b"s3cr"),
    "bytes that are not text": ([b"\xff\xfes3cr3t"], ["s3cr3t"], b"\xff\xfe***"),
    "a value that is not text": ([b"token \xffs3cr3t\n"], ["\udcffs3cr3t"], b"token ***\n"),
    "a header, cut in its scheme": (
        [b"> Authorization: Bea", b"rer abc", b"def\n> Accept: */*\n"],
        [],
        b"> Authorization: Bearer ***\n> Accept: */*\n",
    ),
    "a header of another scheme": ([b"authorization: token abc\r\n"], [], b"authorization: token ***\r\n"),
    "a header without a scheme": ([b"Authorization: abc\n"], [], b"Authorization: ***\n"),
    "a header in a command": (
        [b"curl -H 'Authorization: Bearer abc' x\n"],
        [],
        b"curl -H 'Authorization: Bearer ***' x\n",
    ),
    "cookies": (
        [b'> Cookie: a=1; b="2"\r\n< set-coo', b"kie: c=3; Path=/\r\n"],
        [],
        b"> Cookie: ***\r\n< set-cookie: ***\r\n",
    ),
    "a cookie in curl's words": (
        [b"* Added cookie", b' session="abc" for domain h\n* no cookie here\n'],
        [],
        b"* Added cookie session=***\n* no cookie here\n",
    ),
    "a signed redirect": (
        [b"Location: https://h/f?X-Amz-Expires=60&X-Amz-Sig", b"nature=abc", b"def&x=1 [following]\n"],
        [],
        b"Location: https://h/f?X-Amz-Expires=60&X-Amz-Signature=***&x=1 [following]\n",
    ),
    "a token in a URL": ([b"GET http://h/?token=abc#top"], [], b"GET http://h/?token=***#top"),
    "a password in a URL": ([b"clone https://u:p", b"@ss@h/x"], [], b"clone https://***@h/x"),
    "a URL with a port": ([b"listening on http://h:8080"], [], b"listening on http://h:8080"),
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


VERBOSE = b"> authorization: Bearer abc\n< Set-Cookie: d=e\nhttps://u:pw@h/p?sig=f&token=gh#i\n> Cookie: j\n"


@given(st.lists(st.integers(0, len(VERBOSE)), max_size=4))
def test_where_a_place_is_cut_makes_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(VERBOSE)]
    pieces = [VERBOSE[start:end] for start, end in pairwise(edges)]
    assert printed(pieces) == (
        b"> authorization: Bearer ***\n< Set-Cookie: ***\nhttps://***@h/p?sig=***&token=***#i\n> Cookie: ***\n"
    )
