"""Reads the metadata of wheels in the store: what depends on what is taken from the bytes that get installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from klock.errors import FetchError
from klock.lockfile.model import LockedPackage, WheelArtifact
from klock.store import Store
from klock.values import dataclass

if TYPE_CHECKING:
    from email.message import Message

__all__ = [
    "WheelMetadata",
    "closure",
    "licence_in",
    "metadata_of",
    "metadata_text",
    "read_wheel_metadata",
    "required_names",
    "wheel_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMetadata:
    """Core metadata (PEP 566): `name` normalised, the rest as written. `python` says which Pythons it is for."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    python: str = ""


def wheel_of(package: LockedPackage) -> WheelArtifact:
    """The wheel that gets installed: upstream's, or the one built from the package's source."""
    artifact = package.artifact
    return artifact if isinstance(artifact, WheelArtifact) else artifact.wheel


def read_wheel_metadata(path: Path, file_name: str) -> WheelMetadata:
    """The METADATA of a wheel; `file_name` names it in messages. Raises FetchError when it is not a wheel."""
    return parse_metadata(metadata_text(path, file_name), file_name)


def metadata_text(path: Path, file_name: str) -> bytes:
    """The METADATA of a wheel as it is. Raises FetchError when it is not a wheel."""
    from klock.packages.archives import opened_zip, read_member

    with opened_zip(path, file_name) as archive:
        members = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")]
        if len(members) != 1:
            raise FetchError(f"{file_name} is not a wheel: it has {len(members)} METADATA files")
        return read_member(archive, members[0])


def licence_in(metadata: bytes) -> tuple[str | None, str | None, tuple[str, ...]]:
    """`License-Expression` (PEP 639), `License` and the classifiers of a METADATA file, as written."""
    message = _headers_of(metadata)
    expression, licence = message.get("License-Expression"), message.get("License")
    return (
        None if expression is None else str(expression).strip(),
        None if licence is None else str(licence).strip(),
        tuple(str(value).strip() for value in message.get_all("Classifier") or ()),
    )


def metadata_of(wheel: WheelArtifact, store: Store) -> WheelMetadata:
    """The METADATA of a wheel that is in the store, read from the wheel once. Raises FetchError when it is none."""
    match store.read_record(_KIND, wheel.sha256):
        case [str(of), str(name), str(version), list(requires), list(extras), str(python)] if of == wheel.name:
            if all(isinstance(text, str) for text in (*requires, *extras)):
                return WheelMetadata(
                    name=name, version=version, requires=tuple(requires), extras=tuple(extras), python=python
                )
    found = read_wheel_metadata(store.blob_path(f"sha256:{wheel.sha256}"), wheel.name)
    noted = [wheel.name, found.name, found.version, list(found.requires), list(found.extras), found.python]
    store.write_record(_KIND, wheel.sha256, noted)
    return found


_KIND: Final = "wheel-metadata"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.!+_-]{0,200}")


def parse_metadata(content: bytes, file_name: str) -> WheelMetadata:
    message = _headers_of(content)
    # What is not ASCII comes as a value of another kind, and prints as text.
    name, version = str(message.get("Name") or "").strip(), str(message.get("Version") or "").strip()
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        raise FetchError(f"{file_name}: METADATA names no project or version")
    return WheelMetadata(
        name=canonicalize_name(name),
        version=version,
        requires=tuple(str(value) for value in message.get_all("Requires-Dist") or ()),
        extras=tuple(str(value) for value in message.get_all("Provides-Extra") or ()),
        python=str(message.get("Requires-Python") or "").strip(),
    )


def _headers_of(metadata: bytes) -> Message:
    # Most wheels are known already.
    from email.parser import BytesParser
    from email.policy import compat32

    return BytesParser(policy=compat32).parsebytes(metadata, headersonly=True)


def required_names(
    requires: Iterable[str], *, markers: Mapping[str, str], extras: Iterable[str] = ()
) -> Mapping[str, frozenset[str]]:
    """The projects required in this environment with these extras of the requiring one, each with its own extras."""
    found: dict[str, frozenset[str]] = {}
    wanted = ["", *sorted({canonicalize_name(extra) for extra in extras})]
    for requirement in filter(None, map(_parsed, (text for text in requires if not _is_of_others(text, wanted)))):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**markers, "extra": extra}) for extra in wanted):
            name = canonicalize_name(requirement.name)
            found[name] = found.get(name, frozenset()) | {canonicalize_name(extra) for extra in requirement.extras}
    return found


_OF_AN_EXTRA: Final = re.compile(r"""\bextra\s*==\s*(?P<quote>["'])(?P<name>[^"']*)(?P=quote)""")
_OR: Final = re.compile(r"\bor\b")


def _is_of_others(text: str, wanted: Sequence[str]) -> bool:
    """Whether a requirement plainly is of an extra that is none of `wanted`: most are, and need not be parsed."""
    _, semicolon, marker = text.rpartition(";")
    found = _OF_AN_EXTRA.search(marker) if semicolon else None
    return found is not None and not _OR.search(marker) and canonicalize_name(found["name"]) not in wanted


@lru_cache(maxsize=1 << 14)
def _parsed(text: str) -> Requirement | None:
    """What a wheel requires, to be looked at only; None for what is not a requirement. Each is read several times: for
    what leads to what, and for what the lockfile says of it."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def closure(
    roots: Mapping[str, frozenset[str]], requires: Mapping[str, Sequence[str]], *, markers: Mapping[str, str]
) -> Mapping[str, frozenset[str]]:
    """All projects that `roots` (name -> extras) lead to among those in `requires`, with the extras asked of each."""
    reached: dict[str, frozenset[str]] = {}
    pending = list(roots.items())
    while pending:
        name, extras = pending.pop()
        if name not in requires or (name in reached and extras <= reached[name]):
            continue
        reached[name] = reached.get(name, frozenset()) | extras
        pending += required_names(requires[name], markers=markers, extras=reached[name]).items()
    return reached
