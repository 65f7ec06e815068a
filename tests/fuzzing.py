"""Trying a reader with what strangers may send, again and again: what fails has a number to make it again by."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final

from klock.errors import KlockError
from klock.escaping import escaped

__all__ = ["SEED", "TRIES", "Hang", "changed_bytes", "fuzz"]

SEED: Final = int(os.environ.get("SEED") or 1)
TRIES: Final = int(os.environ.get("FUZZ_TRIES") or 10_000)
LONGEST: Final = 60
"""seconds that one reading may take, on a machine that does other things too."""
MOST_MEMORY: Final = 700 << 10
"""KiB by which this process may grow."""


class Hang(BaseException):
    """Reading took too long."""


@contextlib.contextmanager
def within_bounds() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


def fuzz(make: Callable[[random.Random], Any], read: Callable[[Any], object], *, tries: int = TRIES) -> None:
    """Each try has a number to make it again by."""
    refused = 0
    with within_bounds():
        for number in range(tries):
            made = make(random.Random(f"{SEED}:{number}"))
            signal.alarm(LONGEST)
            try:
                read(made)
            except KlockError as error:
                refused += 1
                assert len(error.message) < 20_000, f"try {number} of seed {SEED}: a message of {len(error.message)}"
                escaped(error.message).encode("utf-8")
            except BaseException as error:
                shown = made[:2000] if isinstance(made, str | bytes) else made
                raise AssertionError(f"try {number} of seed {SEED}: {type(error).__name__}: {shown!r}") from error
            finally:
                signal.alarm(0)
    print(f"{tries} tries, {refused} refused, {tries - refused} read")


def changed_bytes(content: bytes, r: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(r.choice([1, 1, 2, 5, 20])):
        at = r.randrange(len(found) + 1)
        match r.randrange(5):
            case 0 | 1 if found:
                found[at % len(found)] = r.randrange(256)
            case 2:
                found[at:at] = r.choice([b"\0", b"\xff" * 8, os.urandom(0), b"\n", b"A" * 300, bytes(8)])
            case 3:
                del found[at : at + r.choice([1, 4, 50, 1000])]
            case _:
                found[at : at + 4] = r.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"])
    return bytes(found)
