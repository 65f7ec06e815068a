"""A body that breaks off is taken up where it broke, and is of one version of a file."""

from __future__ import annotations

import pytest

from klock.errors import FetchError
from klock.fetching.transport import Transport
from tests.test_asking import server

Answer = tuple[int, dict[str, str], bytes]

BROKEN: Answer = (200, {"Content-Length": "10", "ETag": '"1"'}, b"abcd")
REST = {
    "the rest": (206, {"Content-Range": "bytes 4-9/10", "ETag": '"1"'}, b"efghij"),
    "all of it again": (200, {"ETag": '"1"'}, b"abcdefghij"),
}
OTHER = {
    "the rest": (206, {"Content-Range": "bytes 4-9/10", "ETag": '"2"'}, b"EFGHIJ"),
    "all of it again": (200, {"ETag": '"2"'}, b"ABCDEFGHIJ"),
    "a version that it does not name": (200, {}, b"ABCDEFGHIJ"),
}


def received(*answers: Answer, has_hash: bool) -> bytes:
    with server({"/x": list(answers)}) as (url, _):
        stream = Transport(pause=0).stream(f"{url}/x", dict, on_refusal=lambda *_: False, has_hash=has_hash)
        return b"".join(stream)


@pytest.mark.parametrize("has_hash", [True, False])
@pytest.mark.parametrize("rest", REST.values(), ids=REST)
def test_it_is_taken_up(rest: Answer, has_hash: bool) -> None:
    assert received(BROKEN, rest, has_hash=has_hash) == b"abcdefghij"


@pytest.mark.parametrize("rest", OTHER.values(), ids=OTHER)
def test_another_version_is_not_mixed_in_where_no_hash_would_show_it(rest: Answer) -> None:
    with pytest.raises(FetchError, match="has another file than a moment ago"):
        received(BROKEN, rest, has_hash=False)
    assert received(BROKEN, rest, has_hash=True).lower() == b"abcdefghij", "the hash will tell"
