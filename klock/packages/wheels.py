"""Reads the metadata of wheels in the store: what depends on what is taken from the bytes that get installed."""

from __future__ import annotations

import email.parser
import email.policy
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from klock.errors import FetchError
from klock.lockfile.model import LockedPackage, WheelArtifact

__all__ = ["WheelMetadata", "closure", "read_wheel_metadata", "required_names", "wheel_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMetadata:
    """Core metadata (PEP 566): `name` normalised, `requires` and `extras` as written."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


def wheel_of(package: LockedPackage) -> WheelArtifact:
    """The wheel that gets installed: upstream's, or the one built from the package's source."""
    artifact = package.artifact
    return artifact if isinstance(artifact, WheelArtifact) else artifact.wheel


def read_wheel_metadata(path: Path, file_name: str) -> WheelMetadata:
    """The METADATA of a wheel; `file_name` names it in messages. Raises FetchError when it is no wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")]
            if len(members) != 1:
                raise FetchError(f"{file_name} is not a wheel: it has {len(members)} METADATA files")
            return parse_metadata(archive.read(members[0]), file_name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise FetchError(f"{file_name} is not a wheel: {error}") from error


def parse_metadata(content: bytes, file_name: str) -> WheelMetadata:
    message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(content, headersonly=True)
    name, version = message.get("Name"), message.get("Version")
    if not name or not version:
        raise FetchError(f"{file_name}: METADATA names no project or version")
    return WheelMetadata(
        name=canonicalize_name(name),
        version=version,
        requires=tuple(str(value) for value in message.get_all("Requires-Dist") or ()),
        extras=tuple(str(value) for value in message.get_all("Provides-Extra") or ()),
    )


def required_names(
    requires: Iterable[str], *, markers: Mapping[str, str], extras: Iterable[str] = ()
) -> Mapping[str, frozenset[str]]:
    """The projects required in this environment with these extras of the requiring one, each with its own extras."""
    found: dict[str, frozenset[str]] = {}
    wanted = ["", *sorted({canonicalize_name(extra) for extra in extras})]
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**markers, "extra": extra}) for extra in wanted):
            name = canonicalize_name(requirement.name)
            found[name] = found.get(name, frozenset()) | {canonicalize_name(extra) for extra in requirement.extras}
    return found


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
