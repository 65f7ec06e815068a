"""What a step prints, passed on as it comes and without credentials: `klock -v` writes into the logs of CI machines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from klock.image.secrets import mask

__all__ = ["masked", "masked_tail"]

_TAIL = 20
"""lines"""
_LONGEST_HEADER = 1 << 14


@contextmanager
def masked(on_output: Callable[[bytes], None], secrets: Iterable[str]) -> Iterator[Callable[[bytes], None]]:
    """A function to call with what was printed, in any pieces; `on_output` gets it with `***` for each secret.

    As much as may be the beginning of a secret is held back until more comes or the block ends.
    """
    forms = {form.encode() for value in secrets for form in (value, quote(value, safe="")) if value}
    known = b"|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    pattern = re.compile(
        rb"(?i:(?<=authorization: basic )|(?<=authorization: bearer ))[^\s'\"]+" + (known and b"|" + known)
    )
    beginnings = {form[:length] for form in forms for length in range(1, len(form))}
    longest = max(map(len, forms), default=1) - 1
    held = b""

    def write(chunk: bytes) -> None:
        nonlocal held
        text = pattern.sub(b"***", held + chunk)
        tails = (length for length in range(min(longest, len(text)), 0, -1) if text[-length:] in beginnings)
        length = next(tails, 0)
        # Of a header that is not whole the credential may be cut in two.
        line = text.rpartition(b"\n")[2]
        if len(line) <= _LONGEST_HEADER and b"authorization:" in line.lower():
            length = max(length, len(line))
        text, held = text[: len(text) - length], text[len(text) - length :]
        if text:
            on_output(text)

    try:
        yield write
    finally:
        if held:
            on_output(held)


def masked_tail(output: bytes, secrets: Iterable[str]) -> str:
    """The last lines a command printed, indented, without secrets: for messages."""
    lines = mask(output.decode("utf-8", "replace"), secrets).rstrip().splitlines()[-_TAIL:]
    return "".join(f"\n  | {line}" for line in lines)
