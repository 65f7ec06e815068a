"""A server that sends next to nothing is given up; time that klock itself takes does not count."""

from __future__ import annotations

import io

import pytest

from klock.fetching import pace


class Clock:
    """Time goes by while the server is waited for, and when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("klock.fetching.pace.time.monotonic", lambda: self.now)


class Server(io.RawIOBase):
    def __init__(self, clock: Clock, *, seconds: float, size: int) -> None:
        self._clock, self._seconds, self._size = clock, seconds, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._clock.now += self._seconds
        buffer[: self._size] = bytes(self._size)
        return self._size


@pytest.mark.parametrize(
    ("seconds", "size", "paused", "is_given_up"),
    [(10.0, 1, 0.0, True), (10.0, 20 << 10, 0.0, False), (0.0, 1, 100.0, False), (29.0, 5 << 10, 100.0, True)],
    ids=["a byte now and then", "slow", "a slow reader", "a reader that hides a slow server"],
)
def test_only_the_server_is_waited_for(
    seconds: float, size: int, paused: float, is_given_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    paced = pace._Paced(Server(clock, seconds=seconds, size=size), None)

    def read() -> None:
        for _ in range(100):
            assert paced.readinto(bytearray(64 << 10)) == size
            clock.now += paused

    if not is_given_up:
        read()
        return
    with pytest.raises(TimeoutError, match="next to nothing"):
        read()
