"""Image references by docker's rules: `python:3.12-slim` means `docker.io/library/python:3.12-slim`.

The grammar and the normalisation are those of github.com/distribution/reference (`reference.go`, `normalize.go`).
"""

from __future__ import annotations

import re
from typing import Final

from klock.digests import Digest, is_digest
from klock.errors import ImageError
from klock.values import dataclass

__all__ = ["DOCKER_HUB", "Reference", "names_registry"]

DOCKER_HUB: Final = "docker.io"

_LONGEST_REPOSITORY: Final = 255
_LABEL: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HUB_PAGE: Final = re.compile(r"hub\.docker\.com/(?:_|r)/(?P<name>[\w./-]+?)(?:/tags)?/?")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BARE_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A registry, a repository in it, and a tag (may move), a digest (never moves), or both: the digest decides."""

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def identifier(self) -> str:
        """What the registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads a reference as `docker pull` does. Raises ImageError, which says what is wrong and how to write it."""
        if "://" in text:
            _, _, rest = text.partition("://")
            if (page := _HUB_PAGE.fullmatch(rest)) is not None:
                raise _invalid(text, "it is a page of Docker Hub", f"write {page['name']!r}")
            raise _invalid(text, "it is not a URL", f"leave the scheme out: {rest!r}")
        if _BARE_DIGEST.fullmatch(text):
            raise _invalid(text, "it is a bare digest", "write NAME@sha256:...")
        rest, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise _invalid(text, f"{digest!r} is not a digest", "write NAME@sha256: and 64 lower-case hex digits")
        registry, rest = _split_registry(rest)
        repository, colon, tag = rest.partition(":")
        if not _REGISTRY.fullmatch(registry):
            raise _invalid(text, f"{registry!r} is not the name of a registry")
        if registry == DOCKER_HUB and repository and "/" not in repository:
            repository = f"library/{repository}"
        if not _REPOSITORY.fullmatch(repository):
            if _REPOSITORY.fullmatch(repository.lower()):
                raise _invalid(text, "the repository's name must be lower case", f"write {text.lower()!r}")
            raise _invalid(text, "it names no repository" if not repository else f"{repository!r} is not a repository")
        if len(repository) > _LONGEST_REPOSITORY:
            raise _invalid(text, f"the repository's name is longer than {_LONGEST_REPOSITORY} characters")
        if colon and not _TAG.fullmatch(tag):
            raise _invalid(text, f"{tag!r} is not a tag", "a tag is 1 to 128 letters, digits, '_', '.' and '-'")
        if not colon and not at:
            tag = "latest"
        return cls(registry=registry, repository=repository, tag=tag or None, digest=digest or None)

    @classmethod
    def parse_in_registry(cls, text: str) -> Reference:
        """Reads a reference that names its registry itself, as one that klock writes to must: nobody pushes to Docker
        Hub by leaving a word out. Raises ImageError."""
        reference = cls.parse(text)
        if not names_registry(text):
            raise ImageError(
                f"{text!r} names no registry",
                hint="write REGISTRY/NAME:TAG, such as registry.example.com/team/moon:v1 or docker.io/USER/moon:v1",
            )
        return reference


def names_registry(text: str) -> bool:
    """Whether the first component of a reference is a registry, and not a part of a name on Docker Hub."""
    first, slash, _ = text.partition("/")
    return bool(slash) and (first == "localhost" or "." in first or ":" in first or first != first.lower())


def _split_registry(text: str) -> tuple[str, str]:
    """The first component is a registry where Docker Hub allows no such name: it has a dot, a port, or capitals."""
    first, _, rest = text.partition("/")
    if not names_registry(text):
        return DOCKER_HUB, text
    return (DOCKER_HUB if first in ("index.docker.io", "registry-1.docker.io") else first), rest


def _invalid(text: str, why: str, hint: str | None = None) -> ImageError:
    return ImageError(
        f"{text!r} is not an image reference: {why}",
        hint=hint or "write [REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST], such as python:3.12-slim",
    )
