"""One repository of an OCI registry, read-only (OCI distribution-spec 1.1, "Pull").

Tags are looked up here and nowhere else; everything after that is asked for by digest. The bytes are verified by who
stores them (`Store.add_blob`), except a manifest's, which are needed at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from klock.digests import Digest, digest_of_bytes, is_digest
from klock.documents import read_json
from klock.errors import FetchError, HashMismatch
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Response, Transport
from klock.lockfile.model import OciBlob
from klock.oci.authentication import Authentication, unauthorised
from klock.oci.credentials import DockerConfig
from klock.oci.documents import ACCEPTED_MANIFESTS, SCHEMA_1, Document
from klock.oci.reference import DOCKER_HUB, Reference
from klock.proxies import is_loopback

__all__ = ["Repository", "next_page"]

_MOST_PAGES: Final = 10
_NEXT: Final = re.compile(r'<(?P<url>[^<>]+)>\s*;\s*rel="?next"?')
_HUB_HOST: Final = "registry-1.docker.io"
_OLD_MANIFESTS: Final = (
    # Asked for so that an old image is named as such instead of "not found".
    f"{SCHEMA_1}prettyjws;q=0.1",
    f"{SCHEMA_1}json;q=0.1",
)


class Repository:
    """Implements `ImageSource` for a reference. `name` is the full reference, for messages."""

    def __init__(
        self,
        reference: Reference,
        *,
        mirrors: Mirrors,
        transport: Transport,
        config: DockerConfig | None = None,
        actions: str = "pull",
        also: Sequence[str] = (),
    ) -> None:
        """`actions` and `also`: see `Authentication`."""
        self.reference = reference
        self._writes = "push" in actions.split(",")
        self.name = str(reference)
        self._transport = transport
        base, prefix = _address(reference.registry, mirrors)
        self.repository = prefix + reference.repository
        self._base = f"{base}/v2/{self.repository}"
        mirrored = reference.registry in mirrors.registries
        self._host = urlsplit(base).netloc
        self._login = self._host if mirrored else reference.registry
        self._authentication = Authentication(
            transport,
            name=self._login,
            repository=self.repository,
            secure=base.startswith("https:"),
            config=config,
            actions=actions,
            also=also,
        )

    def hang_up(self) -> None:
        """Closes idle connections: processes that are forked would share them, and take each other's answers."""
        self._transport.close()

    def root(self) -> Document:
        """What the reference points at: an index or a manifest. Raises FetchError when there is none."""
        document = self._manifest(self.reference.identifier)
        if self.reference.digest and document.digest != self.reference.digest:
            raise HashMismatch(f"{self.name}: {self._host} sent a manifest with another digest, {document.digest}")
        return document

    def manifest(self, blob: OciBlob) -> bytes:
        """A manifest by its digest, verified."""
        document = self._manifest(blob.digest)
        if document.digest != blob.digest or len(document.content) != blob.size:
            raise HashMismatch(f"{self.name}: {self._host} sent other bytes for the manifest {blob.digest}")
        return document.content

    def tags(self) -> list[str]:
        """The tags of the repository, at most some thousands of them (distribution-spec, "Listing tags"). Raises
        FetchError."""
        found: list[str] = []
        path = "/tags/list?n=1000"
        for _ in range(_MOST_PAGES):
            response = self._ask("GET", path, ("application/json",))
            if response.status != 200:
                raise self._refusal(response.status, "its tags")
            try:
                listed = read_json(response.body).get("tags") or []
                found += [tag for tag in listed if isinstance(tag, str)]
            except (ValueError, AttributeError) as error:
                raise FetchError(f"{self.name}: {self._host} sent no list of tags: {error}") from None
            following = next_page(response)
            if following is None:
                break
            path = f"/tags/list?{following}"
        return found

    def has(self, kind: str, digest: Digest) -> bool:
        """Whether it still has the `manifests` or `blobs` of this digest. Raises FetchError when it does not say."""
        response = self._ask("HEAD", f"/{kind}/{digest}", ACCEPTED_MANIFESTS if kind == "manifests" else ("*/*",))
        if response.status not in (200, 404):
            raise self._refusal(response.status, f"{kind} {digest}")
        return response.status == 200

    def blob(self, blob: OciBlob) -> Iterator[bytes]:
        """A blob's bytes as they come, not yet verified. Raises FetchError.

        Of a blob that is longer than it should be, one piece more than that comes: who counts sees it, and who does not
        is not sent bytes without end.
        """
        left = blob.size
        for chunk in self._stream(blob):
            yield chunk
            left -= len(chunk)
            if left < 0:
                return

    def _stream(self, blob: OciBlob) -> Iterator[bytes]:
        used: list[dict[str, str]] = [{}]

        def headers() -> dict[str, str]:
            used[0] = self._authentication.headers
            return used[0]

        def on_refusal(status: int, challenges: Sequence[str]) -> bool:
            if status == 401 and self._authentication.answer(challenges, refused=used[0].get("Authorization")):
                return True
            raise self._refusal(status, f"blob {blob.digest}")

        return self._transport.stream(f"{self._base}/blobs/{blob.digest}", headers, on_refusal=on_refusal)

    def _manifest(self, identifier: str) -> Document:
        response = self._ask("GET", f"/manifests/{identifier}", (*ACCEPTED_MANIFESTS, *_OLD_MANIFESTS))
        if response.status != 200:
            raise self._refusal(response.status, f"manifest {identifier}" if is_digest(identifier) else None)
        digest = digest_of_bytes(response.body)
        announced = response.headers.get("docker-content-digest")
        media_type = response.headers.get("content-type")
        # Schema 1 is announced by the digest of its content without its signatures.
        if is_digest(announced) and announced != digest and not (media_type or "").startswith(SCHEMA_1):
            raise HashMismatch(f"{self.name}: {self._host} announced {announced} and sent {digest}")
        return Document(content=response.body, digest=digest, media_type=media_type)

    def _ask(self, method: str, path: str, accept: Sequence[str]) -> Response:
        # Without a header, with what was got before, and once more if that has expired.
        for _ in range(3):
            sent = self._authentication.headers
            response = self._transport.get(self._base + path, {**sent, "Accept": ", ".join(accept)}, method=method)
            if response.status != 401:
                return response
            if not self._authentication.answer(response.challenges, refused=sent.get("Authorization")):
                break
        raise self._refusal(401)

    def _refusal(self, status: int, what: str | None = None) -> FetchError:
        subject = f"{self.name} ({what})" if what else self.name
        if status in (401, 403):
            known = self._authentication.has_credentials
            return unauthorised(self._login, has_credentials=known, what=subject, writes=self._writes)
        if status == 404:
            return FetchError(
                f"{subject}: {self._host} has no such image (status 404)",
                hint=_hint_for_missing(self.reference),
            )
        hint = "try again later" if status in (408, 429) or status >= 500 else None
        return FetchError(f"{subject}: {self._host} answered with status {status}", hint=hint)


def next_page(response: Response) -> str | None:
    """The query by which a list goes on (RFC 8288, "Link"), None where it ends."""
    link = _NEXT.search(response.headers.get("link", ""))
    if link is None:
        return None
    try:
        return urlsplit(link["url"]).query
    except ValueError:
        return None


def _hint_for_missing(reference: Reference) -> str:
    if reference.digest:
        return "the registry may have dropped it: lock again with --upgrade-base, or use a mirror that kept it"
    if reference.registry == DOCKER_HUB and reference.repository.startswith("library/"):
        return "check the name and tag; images of another registry are written REGISTRY/NAME:TAG"
    return "check the name and tag"


def _address(registry: str, mirrors: Mirrors) -> tuple[str, str]:
    """Where a registry is asked: scheme and host, and what a mirror puts before the repository's name."""
    if mirror := mirrors.registries.get(registry):
        parts = urlsplit(mirror)
        path = parts.path.strip("/").removeprefix("v2").strip("/")
        return f"{parts.scheme}://{parts.netloc}", f"{path}/" if path else ""
    host = _HUB_HOST if registry == DOCKER_HUB else registry
    name = urlsplit(f"//{registry}").hostname or ""
    return f"{'http' if is_loopback(name) else 'https'}://{host}", ""
