"""What is masked in requests and answers besides credentials: it differs each time, or it hands a credential out.

By itself none of it is a credential, so the builder takes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from klock.values import dataclass

__all__ = ["HANDED_OUT", "SIGNATURES", "SIGNED_ALONE", "TIMED", "Signature"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Parameters (lower case) that are parts of a signature if one of `marks` stands beside them."""

    name: str
    marks: frozenset[str]
    parts: frozenset[str]


def _signature(name: str, *, marks: str, parts: str) -> Signature:
    return Signature(name=name, marks=frozenset(marks.split()), parts=frozenset(parts.split()))


SIGNATURES: Final = (
    _signature(
        "Azure shared access signature",
        marks="sig",
        parts="sv sr ss srt st se sp sip spr si ses scid sdd saoid suoid skoid sktid skt ske sks skv",
    ),
    _signature("CloudFront, S3 version 2, Google, OSS", marks="signature", parts="expires policy hash-algorithm"),
    _signature(
        "Tencent COS",
        marks="q-signature",
        parts="q-sign-algorithm q-ak q-sign-time q-key-time q-header-list q-url-param-list",
    ),
    _signature("Akamai", marks="hmac __token__ hdnea hdnts", parts="hdnea hdnts exp acl st"),
    _signature("nginx secure_link", marks="md5", parts="md5 expires"),
)

SIGNED_ALONE: Final = re.compile(r"x-(?:amz|goog|oss|obs|cos|tos)-.*")
"""Parameters (lower case) that are parts of a signature wherever they stand."""

TIMED: Final[Mapping[str, re.Pattern[str]]] = {"verify": re.compile(r"\d{9,11}-.{16,}", re.DOTALL)}
"""Parameters that are a signature if their value looks like one: Cloudflare's `verify=TIME-MAC`."""

HANDED_OUT: Final = frozenset(
    ["accesstoken", "refreshtoken", "idtoken", "sessiontoken", "clienttoken", "authorizationtoken", "secretaccesskey"]
)
"""Under these keys (lower case, only letters) an answer hands out a credential, as token endpoints do."""
