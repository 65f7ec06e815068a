"""What a value may look like where programs write it: as it is, percent-encoded, in JSON, HTML, base64 and hex."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from html import escape
from urllib.parse import quote, quote_plus

from klock.secrets.userinfo import KEPT_IN_USERINFO

__all__ = ["forms_of", "in_base64"]


def forms_of(value: str, *, within_base64: bool) -> Iterator[bytes]:
    """The bytes that a secret may stand as; `within_base64` also in hexadecimal, and within a longer text in base64
    (RFC 4648): of a short secret these stand anywhere by chance."""
    plain = value.encode("utf-8", "surrogatepass")
    yield plain
    for encoded in (quote(plain, safe=""), quote(plain, safe="/"), quote(plain, safe=KEPT_IN_USERINFO)):
        yield encoded.encode("ascii")
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), encoded).encode("ascii")
    yield quote_plus(plain).encode("ascii")
    for written in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], escape(value)):
        yield written.encode("utf-8", "surrogatepass")
        yield written.replace("/", "\\/").encode("utf-8", "surrogatepass")
    units = value.encode("utf-16-be", "surrogatepass").hex("u", 2).split("u")
    for sign, all_digits in (("%", plain.hex("%").split("%")), ("\\u", units)):
        for digits in (all_digits, [each.upper() for each in all_digits]):
            yield "".join(f"{sign}{each}" for each in digits).encode("ascii")
    if within_base64:
        yield plain.hex().encode("ascii")
        yield plain.hex().upper().encode("ascii")
        yield from in_base64(plain)


def in_base64(plain: bytes) -> Iterator[bytes]:
    """The characters of base64 that depend on `plain` alone, after 0, 1 or 2 other bytes; in both alphabets."""
    for offset, first in ((0, 0), (1, 2), (2, 3)):
        # Without the characters at the ends that hold bits of what stands before or after.
        characters = base64.b64encode(bytes(offset) + plain)[first : (offset + len(plain)) * 4 // 3]
        yield characters
        yield characters.translate(bytes.maketrans(b"+/", b"-_"))
