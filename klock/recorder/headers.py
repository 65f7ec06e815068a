"""Which headers of an answer are locked and served again: those that change what a client does or writes.

The rest differ from one moment to the next (Date, Age, cookies, request ids), belong to the connection, or are the
recorder's own: Content-Length, ETag, Accept-Ranges and Date are made for each answer.

Left out on purpose: Last-Modified (the time of a file is not part of a layer), Cache-Control and Expires (every replay
sees one state), Alt-Svc (there is no other protocol), and X-Xet-Hash (Hugging Face's clients then take the plain file).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from klock.recorder.redaction import Redaction
from klock.secrets.spans import MASK
from klock.secrets.urls import without_tokens
from klock.values import dataclass

__all__ = ["KEPT", "KeptHeader", "fit_value", "kept_headers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHeader:
    """A header's name as it is written, and what needs it."""

    name: str
    reason: str


KEPT: Final = (
    KeptHeader(name="Allow", reason="which methods a resource has"),
    KeptHeader(name="Content-Digest", reason="checked by clients of RFC 9530"),
    KeptHeader(name="Content-Disposition", reason="the file name that curl -J, wget and browsers write"),
    KeptHeader(name="Content-Encoding", reason="how to read the body"),
    KeptHeader(name="Content-MD5", reason="checked by clients of object stores"),
    KeptHeader(name="Content-Type", reason="pip and uv choose a parser by it, git refuses another one"),
    KeptHeader(name="Digest", reason="checked by bundler"),
    KeptHeader(name="Docker-Content-Digest", reason="the digest of an image's manifest"),
    KeptHeader(name="Docker-Distribution-Api-Version", reason="how old registries say what they are"),
    KeptHeader(name="Link", reason="the next page (GitHub, registries)"),
    KeptHeader(name="Location", reason="where a redirect leads"),
    KeptHeader(name="Repr-Digest", reason="checked by bundler"),
    KeptHeader(name="WWW-Authenticate", reason="how to authenticate after a 401"),
    KeptHeader(name="X-Amz-Bucket-Region", reason="where an S3 client goes on"),
    KeptHeader(name="X-Checksum-Md5", reason="checked by clients of Artifactory and Maven"),
    KeptHeader(name="X-Checksum-Sha1", reason="checked by clients of Artifactory and Maven"),
    KeptHeader(name="X-Checksum-Sha256", reason="checked by clients of Artifactory and Maven"),
    KeptHeader(name="X-Error-Code", reason="what Hugging Face's clients raise"),
    KeptHeader(name="X-Error-Message", reason="what Hugging Face's clients raise"),
    KeptHeader(name="X-Goog-Hash", reason="checked by clients of Google Cloud Storage"),
    KeptHeader(name="X-Goog-Stored-Content-Encoding", reason="whether X-Goog-Hash is of the body as it is sent"),
    KeptHeader(name="X-Linked-Etag", reason="the hash of a large file at Hugging Face, which names it in the cache"),
    KeptHeader(name="X-Linked-Size", reason="the size of a large file at Hugging Face"),
    KeptHeader(name="X-Repo-Commit", reason="the commit of a repository at Hugging Face, which names a folder"),
)

_NAMES: Final = {header.name.lower(): header.name for header in KEPT}
_NOT_IN_VALUES: Final = re.compile(r"[\x00-\x1f\x7f]+")
_LINK_TARGET: Final = re.compile(r"<([^<>]*)>")
_QUOTED_URL: Final = re.compile(r"\"([A-Za-z][A-Za-z0-9+.-]{0,31}://[^\"]*)\"")
_NONCE: Final = re.compile(r"\b(nonce|opaque|ts|tsm)=(?:\"[^\"]*\"|[^\s,\"]+)", re.IGNORECASE)
_CHALLENGE: Final = re.compile(r"\b(Negotiate|NTLM|Kerberos)[ \t]+[A-Za-z0-9+/=._~-]+", re.IGNORECASE)


def kept_headers(headers: Iterable[tuple[str, str]], redaction: Redaction) -> tuple[str, ...]:
    """The headers to lock, `Name: value`, sorted, without credentials and without what is new in each answer."""
    kept = set()
    for name, value in headers:
        written = _NAMES.get(name.strip().lower())
        if written is not None:
            kept.add(f"{written}: {_redacted(written, fit_value(value), redaction)}")
    return tuple(sorted(kept))


def fit_value(value: str) -> str:
    """A value without what may not be in one, such as the end of a line (RFC 9110, 5.5)."""
    return _NOT_IN_VALUES.sub(" ", value).strip()


def _redacted(name: str, value: str, redaction: Redaction) -> str:
    if name == "Location":
        return redaction.location(_in_ascii(value))
    if name == "Link":
        value = _LINK_TARGET.sub(lambda match: f"<{redaction.location(_in_ascii(match[1]))}>", value)
    elif name == "WWW-Authenticate":
        value = _QUOTED_URL.sub(lambda match: f'"{redaction.url(match[1])}"', value)
        value = _NONCE.sub(lambda match: f'{match[1]}="{MASK}"', value)
        value = _CHALLENGE.sub(lambda match: f"{match[1]} {MASK}", value)
    masked = redaction.mask(value.encode("utf-8", "surrogatepass"))
    return without_tokens(masked.decode("utf-8", "replace"))


def _in_ascii(value: str) -> str:
    """A URL as it came, its bytes above ASCII percent-encoded: header values are read as Latin-1 (RFC 9110, 5.5)."""
    try:
        return quote(value.encode("latin-1"), safe="".join(map(chr, range(0x20, 0x7F))))
    except UnicodeEncodeError:
        return value
