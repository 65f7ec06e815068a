"""What a base's name leads to today, and whether there is a newer name of its kind."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from klock.asking import Asker
from klock.bases.images import source_of
from klock.bases.scratch import SCRATCH
from klock.bases.sources import ImageSource
from klock.digests import Digest
from klock.documents import read_json
from klock.errors import FetchError, KlockError
from klock.fetching.mirrors import Mirrors
from klock.lockfile.model import OciBlob, OciLock
from klock.oci.documents import Document, Index, Manifest, parse_manifest
from klock.oci.repository import Repository
from klock.targets import Target
from klock.values import dataclass

__all__ = ["BaseNow", "look_at_base", "newest_tag"]

_VERSIONED: Final = re.compile(r"(?P<before>v?)(?P<numbers>\d+(?:\.\d+)*)(?P<after>(?:[-_.]?[A-Za-z].*)?)")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_LONGEST: Final = 4
"""Digits of a number that is part of a version."""
_LARGEST_CONFIG: Final = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseNow:
    """`digest` is what the name leads to, an index or a manifest; `locked` what it led to. The moments (RFC 3339, UTC)
    are when the images were made, as they say themselves. `is_there`: whether the locked image can still be had."""

    digest: Digest
    locked: Digest
    created: str | None = None
    locked_created: str | None = None
    is_there: bool = True
    newer_tag: str | None = None

    @property
    def has_moved(self) -> bool:
        return self.digest != self.locked


def look_at_base(
    lock: OciLock, *, target: Target, root: Path, mirrors: Mirrors, asker: Asker, with_tags: bool = False
) -> BaseNow | None:
    """None for a base that has no name that could move. Nothing is fetched but its small documents.

    Raises FetchError when the registry does not answer, ImageError for a name that leads to something else.
    """
    if lock.reference == SCRATCH:
        return None
    source = source_of(lock.reference, root=root, mirrors=mirrors, transport=lambda: asker.transport)
    locked = lock.index_digest or lock.manifest.digest
    document = source.root()
    moved = document.digest != locked
    repository = source if isinstance(source, Repository) else None
    return BaseNow(
        digest=document.digest,
        locked=locked,
        created=_created(source, _manifest_of(source, document, target)) if moved else None,
        locked_created=_created_of(source, lock) if moved else None,
        is_there=repository is None or repository.has("manifests", lock.manifest.digest),
        newer_tag=_newer_tag(repository) if with_tags and repository is not None else None,
    )


def newest_tag(tag: str, tags: Iterable[str]) -> str | None:
    """Of `tags` the newest that is written like `tag`: as many numbers, and the same words before and after them.

    `3.12-slim` leads to `3.14-slim`, never to `3.14.1-slim` or `3.14-slim-bookworm`. None for a tag without a number.
    """
    shape = _VERSIONED.fullmatch(tag)
    if shape is None:
        return None
    own, found = shape["numbers"].split("."), [(_numbers(shape), tag)]
    for other in tags:
        match = _VERSIONED.fullmatch(other)
        if match is not None and (match["before"], match["after"]) == (shape["before"], shape["after"]):
            numbers = _numbers(match)
            # A date or the number of a build is not a version of this kind.
            if [len(str(number)) > _LONGEST for number in numbers] == [len(n) > _LONGEST for n in own]:
                found.append((numbers, other))
    return max(found)[1]


def _numbers(match: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(number) for number in match["numbers"].split("."))


def _newer_tag(repository: Repository) -> str | None:
    tag = repository.reference.tag
    if tag is None or _VERSIONED.fullmatch(tag) is None:
        return None
    newest = newest_tag(tag, repository.tags())
    return None if newest == tag else newest


def _manifest_of(source: ImageSource, document: Document, target: Target) -> Manifest | None:
    parsed = parse_manifest(document.content, media_type=document.media_type, name=source.name)
    if isinstance(parsed, Index):
        chosen = parsed.select(target)
        if chosen is None:
            return None
        parsed = parse_manifest(source.manifest(chosen), media_type=chosen.media_type, name=source.name)
    return parsed if isinstance(parsed, Manifest) else None


def _created_of(source: ImageSource, lock: OciLock) -> str | None:
    with contextlib.suppress(KlockError):
        return _created_in(source, lock.config)
    return None


def _created(source: ImageSource, manifest: Manifest | None) -> str | None:
    return None if manifest is None else _created_in(source, manifest.config)


def _created_in(source: ImageSource, config: OciBlob) -> str | None:
    """When the image says that it was made (OCI image-spec, config.md, `created`)."""
    try:
        content = bytearray()
        for chunk in source.blob(config):
            content += chunk
            if len(content) > _LARGEST_CONFIG:
                return None
        document = read_json(bytes(content))
        moment = _MOMENT.match(document["created"])
    except (ValueError, KeyError, TypeError, FetchError):
        return None
    return f"{moment[0]}Z" if moment is not None else None
