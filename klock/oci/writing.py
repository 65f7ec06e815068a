"""One repository of an OCI registry, to write to (OCI distribution-spec 1.1, "Push").

What the registry has is not sent again, and an upload that breaks goes on where the registry says that it stands. A
blob that is only half there is nothing anybody can ask for: it counts when the registry has compared its digest.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

from klock.connections import SILENCE, refuse_redirect
from klock.digests import Digest, digest_of_bytes
from klock.documents import read_json
from klock.errors import FetchError, HashMismatch
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Response, Transport
from klock.oci.authentication import unauthorised
from klock.oci.credentials import DockerConfig
from klock.oci.documents import ACCEPTED_MANIFESTS
from klock.oci.reference import Reference
from klock.oci.repository import Repository
from klock.values import dataclass
from klock.words import in_bytes

__all__ = ["Outgoing", "WritableRepository", "content_reader", "file_reader", "open_repository"]

_OCTETS: Final = "application/octet-stream"
_CHUNK: Final = 1 << 18
_ATTEMPTS: Final = 5
_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT: Final = 60.0
"""Seconds that klock waits at most when a registry says how long."""
_KEPT_A_SECOND: Final = 5 << 20
"""Bytes that a slow registry moves to its storage in a second. Meanwhile it says nothing."""
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d{1,18})")


def open_repository(
    reference: Reference, *, mirrors: Mirrors, also: Iterable[str] = (), actions: str = "pull,push"
) -> WritableRepository:
    """The repository that a reference names, at the registry itself and not at a mirror of it, which nobody pushes to.

    The setting `registry-mirrors` counts only where it says how that very host is spoken to: `http://HOST`. Blobs may
    be mounted from the repositories `also`.
    """
    mirror = mirrors.registries.get(reference.registry, "")
    is_itself = urlsplit(mirror).netloc == reference.registry and not urlsplit(mirror).path.strip("/")
    own = {reference.registry: mirror} if is_itself else {}
    return WritableRepository(
        reference,
        mirrors=Mirrors(registries=own, ca_bundle=mirrors.ca_bundle),
        transport=Transport(ca_bundle=mirrors.ca_bundle),
        also=tuple(also),
        actions=actions,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A blob to send. `read` gives its bytes from an offset on; `advance` is told of bytes sent, or taken back."""

    digest: Digest
    size: int
    read: Callable[[int], Iterator[bytes]]
    advance: Callable[[int], None] = lambda _: None


class WritableRepository(Repository):
    """`pause` (seconds) is the unit of waiting between tries. Usable from several threads."""

    def __init__(
        self,
        reference: Reference,
        *,
        mirrors: Mirrors,
        transport: Transport,
        config: DockerConfig | None = None,
        also: tuple[str, ...] = (),
        actions: str = "pull,push",
        pause: float = 0.5,
    ) -> None:
        super().__init__(reference, mirrors=mirrors, transport=transport, config=config, actions=actions, also=also)
        self._pause = pause

    # -- what is there

    def has_blob(self, digest: Digest, size: int | None) -> bool:
        """Whether the registry has the blob in this repository. A size that it announces must be `size`, if given."""
        response = self._ask("HEAD", f"/blobs/{digest}", ("*/*",))
        if response.status == HTTPStatus.NOT_FOUND:
            return False
        if response.status != HTTPStatus.OK:
            raise self._error(response, f"the blob {digest}")
        announced = response.headers.get("content-length")
        return size is None or announced in (None, str(size))

    def has_manifest(self, identifier: str) -> Digest | None:
        """The digest of the manifest that a tag or a digest leads to, if there is one."""
        response = self._ask("HEAD", f"/manifests/{identifier}", ACCEPTED_MANIFESTS)
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        if response.status != HTTPStatus.OK:
            raise self._error(response, f"the manifest {identifier}")
        return response.headers.get("docker-content-digest")

    def ask(self, method: str, path: str, accept: Sequence[str]) -> Response:
        """What the registry answers to a path of this repository, of whatever status."""
        return self._ask(method, path, accept)

    def find_document(self, identifier: str) -> bytes | None:
        """A manifest of any kind by a tag or a digest, None when there is none. By a digest it is verified."""
        response = self._ask("GET", f"/manifests/{identifier}", ACCEPTED_MANIFESTS)
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        if response.status != HTTPStatus.OK:
            raise self._error(response, f"the manifest {identifier}")
        if ":" in identifier and digest_of_bytes(response.body) != identifier:
            raise HashMismatch(f"{self.name}: {self._host} sent other bytes for the manifest {identifier}")
        return response.body

    # -- what is written

    def mount(self, digest: Digest, source: str) -> bool:
        """Has the registry take a blob over from another of its repositories; False when it does not."""
        asked = f"{self._base}/blobs/uploads/?mount={digest}&from={source}"
        response = self._write("POST", asked)
        if response.status == HTTPStatus.ACCEPTED:
            # An upload was begun instead, which nobody goes on with.
            self._write("DELETE", self._location(response, asked))
        return response.status == HTTPStatus.CREATED

    def upload(self, blob: Outgoing) -> None:
        """Sends a blob. Raises FetchError when the registry does not take it."""
        location, offset = self._begin(blob.digest), 0
        for attempt in range(_ATTEMPTS):
            try:
                if self._send_rest(blob, location, offset):
                    return
            except _Refused:
                raise
            except FetchError:
                if attempt == _ATTEMPTS - 1:
                    raise
            time.sleep(self._pause * 2**attempt)
            found = self._where(location, blob)
            if found is None:
                blob.advance(blob.size - offset)
                return
            location, there = found
            blob.advance(there - offset)
            offset = there
        raise FetchError(
            f"{self.name}: {self._host} is too busy to take the blob {blob.digest} ({in_bytes(blob.size)})",
            hint="run the command again later: klock does not send complete blobs again",
        )

    def put_manifest(self, content: bytes, media_type: str, identifier: str) -> Digest:
        """Puts a manifest under a tag or its own digest, and returns its digest. Its blobs must be there."""
        digest = digest_of_bytes(content)
        response = self._write(
            "PUT", f"{self._base}/manifests/{identifier}", {"Content-Type": media_type}, lambda: [content], len(content)
        )
        if response.status != HTTPStatus.CREATED:
            raise self._error(response, f"the manifest {identifier}")
        announced = response.headers.get("docker-content-digest", digest)
        if announced != digest:
            raise HashMismatch(f"{self.name}: {self._host} took the manifest {digest} for {announced}")
        return digest

    # -- an upload

    def _begin(self, digest: Digest) -> str:
        asked = f"{self._base}/blobs/uploads/"
        response = self._write("POST", asked)
        if response.status != HTTPStatus.ACCEPTED:
            raise self._error(response, f"the blob {digest}")
        return self._location(response, asked)

    def _send_rest(self, blob: Outgoing, location: str, offset: int) -> bool:
        """One try, from an offset on; False when the registry is too busy, or has another part of it."""
        what = f"the blob {blob.digest} ({in_bytes(blob.size)})"
        told = 0

        def chunks() -> Iterator[bytes]:
            nonlocal told
            take_back()  # after a challenge the body is sent anew
            for chunk in blob.read(offset):
                yield chunk
                told += len(chunk)
                blob.advance(len(chunk))

        def take_back() -> None:
            nonlocal told
            blob.advance(-told)
            told = 0

        if offset < blob.size:
            headers = {"Content-Type": _OCTETS}
            if offset:
                headers["Content-Range"] = f"{offset}-{blob.size - 1}"
            try:
                response = self._write(
                    "PATCH", location, headers, chunks, blob.size - offset, once=True, kept=blob.size
                )
            except FetchError:
                take_back()
                raise
            if response.status not in (HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT):
                take_back()
                if response.status in _BUSY or response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return False
                raise self._error(response, what)
            location = self._location(response, location)
        separator = "&" if urlsplit(location).query else "?"
        whole = f"{location}{separator}digest={blob.digest}"
        response = self._write("PUT", whole, {"Content-Type": _OCTETS}, kept=blob.size)
        if response.status == HTTPStatus.CREATED:
            return True
        # A proxy may give up before the registry has stored a large blob.
        if response.status not in (HTTPStatus.NOT_FOUND, *_BUSY) or not self.has_blob(blob.digest, blob.size):
            raise self._error(response, what)
        return True

    def _where(self, location: str, blob: Outgoing) -> tuple[str, int] | None:
        """Where to resume a broken upload: the registry says how much it has, or the upload begins anew. None if the
        registry has the whole blob, and only its answer was lost."""
        response = self._write("GET", location)
        found = _RANGE.fullmatch(response.headers.get("range", ""))
        if response.status != HTTPStatus.NO_CONTENT or found is None:
            return None if self.has_blob(blob.digest, blob.size) else (self._begin(blob.digest), 0)
        # `0-0` is what some say of nothing at all.
        end = int(found[1])
        return self._location(response, location) if "location" in response.headers else location, end + 1 if end else 0

    def _location(self, response: Response, asked: str) -> str:
        """Where an upload goes on, by the answer from the address `asked`. Raises FetchError for an address that klock
        has no business with."""
        written = response.headers.get("location", "")
        try:
            location = urljoin(asked, written)
            own, parts = urlsplit(self._base), urlsplit(location)
        except ValueError:
            own, parts = urlsplit(self._base), urlsplit("")
        if not written or parts.scheme not in ("http", "https") or not parts.hostname:
            raise FetchError(f"{self.name}: {self._host} began an upload, but does not say where to continue it")
        if own.scheme == "https" and parts.scheme == "http":
            if parts.netloc != own.netloc:
                raise FetchError(f"{self.name}: {self._host} sends the upload from https to http, to {parts.netloc}")
            location = f"https{location.removeprefix('http')}"  # behind a proxy that it does not know of
        refuse_redirect(own.hostname or "", location)
        return location

    # -- requests

    def _write(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterable[bytes]] | None = None,
        length: int = 0,
        *,
        once: bool = False,
        kept: int = 0,
    ) -> Response:
        """Sends a request with its body: again with a token after a challenge, and again while the registry is busy,
        unless `once`.

        No other host gets the registry's credentials. `kept`: bytes that the registry has to store before it answers.
        """
        seconds = SILENCE + kept / _KEPT_A_SECOND
        is_own = _origin(url) == _origin(self._base)
        for attempt in range(_ATTEMPTS):
            sent = self._authentication.headers if is_own else {}
            given = {**(headers or {}), **sent, "Content-Length": str(length)}
            if body is None and method in ("GET", "DELETE"):
                del given["Content-Length"]
            response = self._transport.send(method, url, given, body() if body else b"", seconds=seconds)
            if response.status == HTTPStatus.UNAUTHORIZED and is_own:
                if self._authentication.answer(response.challenges, refused=sent.get("Authorization")):
                    continue
                raise self._error(response, None)
            if response.status not in _BUSY or once or attempt == _ATTEMPTS - 1:
                return response
            time.sleep(_wait(response, self._pause * 2**attempt))
        raise self._error(response, None)

    def _error(self, response: Response, what: str | None) -> FetchError:
        """What a registry said when it did not take something (distribution-spec, "Error codes")."""
        subject = f"{self.name} ({what})" if what else self.name
        status, said = response.status, _said(response.body)
        is_quota = any(word in said.lower() for word in ("quota", "exceed", "limit"))
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and not (is_quota and status != 401):
            known = self._authentication.has_credentials
            error = unauthorised(self._login, has_credentials=known, what=subject, writes=self._writes)
            return _Refused(error.message, hint=error.hint)
        message = f"{subject}: {self._host} answered with status {status}{said and f': {said}'}"
        if status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.INSUFFICIENT_STORAGE) or is_quota:
            return _Refused(message, hint="the registry has no room for it: free some, or ask for a larger quota")
        if status in _BUSY:
            return FetchError(message, hint="try again later: klock does not send complete blobs again")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            return _Refused(message, hint="this registry is read-only, such as a pull-through cache: push to another")
        if status == HTTPStatus.NOT_FOUND:
            return _Refused(message, hint="check the name; in some registries the repository must be made first")
        return _Refused(message)


class _Refused(FetchError):
    """What the registry will say again."""


def file_reader(path: Path) -> Callable[[int], Iterator[bytes]]:
    """What `upload` reads a file with."""

    def read(offset: int) -> Iterator[bytes]:
        with open(path, "rb") as file:
            file.seek(offset)
            while chunk := file.read(_CHUNK):
                yield chunk

    return read


def content_reader(content: bytes) -> Callable[[int], Iterator[bytes]]:
    """The same for bytes."""
    return lambda offset: iter([content[offset:]])


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _wait(response: Response, otherwise: float) -> float:
    told = response.headers.get("retry-after", "")
    return min(float(told), _LONGEST_WAIT) if told.isdecimal() else otherwise


def _said(body: bytes) -> str:
    """The first of the errors that an answer names, in at most 200 characters and on one line: it could pass for a line
    of klock's otherwise."""
    try:
        errors = read_json(body[:65536]).get("errors") or []
        first = errors[0]
        text = " ".join(" ".join(str(first[key]) for key in ("code", "message") if first.get(key)).split())
        detail = first.get("detail")
    except (ValueError, AttributeError, LookupError, TypeError):
        return ""
    return f"{text} ({json.dumps(detail)})"[:200] if detail else text[:200]
