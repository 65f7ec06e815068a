"""A blob is read again only if its stat says nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from klock.store import Store

DIGEST = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of `x`


def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The blobs that a store reads from now on."""
    found: list[str] = []
    verify = store.verify_blob

    def noted(digest: str) -> bool:
        found.append(digest)
        return verify(digest)

    monkeypatch.setattr(store, "verify_blob", noted)
    return found


def at(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock that klock sees is `seconds` ahead of the one that files get their times from."""
    now = time.clock_gettime_ns(time.CLOCK_REALTIME) + int(seconds * 1e9)
    monkeypatch.setattr("time.time_ns", lambda: now)


@pytest.mark.parametrize(("seconds", "is_read"), [(-10, True), (10, False)], ids=["at once", "when the clock went on"])
def test_what_was_written_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, *, is_read: bool
) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    at(-10, monkeypatch)
    assert store.add_bytes(b"x") == DIGEST
    at(seconds, monkeypatch)
    assert store.find_blob(DIGEST)
    found = reads(other, monkeypatch)
    assert other.find_blob(DIGEST)
    assert found == [DIGEST] * is_read


def test_a_change_before_the_clock_goes_on_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    at(-10, monkeypatch)
    store.add_bytes(b"x")
    path = store.blob_path(DIGEST)
    path.write_bytes(b"yz")
    at(10, monkeypatch)
    assert store.find_blob(DIGEST) is None
    assert Store(tmp_path).find_blob(DIGEST) is None


def test_what_was_read_while_it_was_young_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(-10, monkeypatch)
    Store(tmp_path).add_bytes(b"x")
    assert Store(tmp_path).find_blob(DIGEST)
    at(10, monkeypatch)
    for is_read in (True, False):
        store = Store(tmp_path)
        found = reads(store, monkeypatch)
        assert store.find_blob(DIGEST)
        assert found == [DIGEST] * is_read
