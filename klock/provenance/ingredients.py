"""All that a locked target is made of, as ingredients with a name, a digest and an address: the base, Debian packages,
Python and conda packages, what steps downloaded, and files.

Licences are those that a wheel's METADATA names (core metadata, "License-Expression" and "License"), where the store
has the wheel.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import BytesParser
from enum import Enum
from typing import Final
from urllib.parse import quote

from klock.bases.reference import Reference
from klock.bases.scratch import SCRATCH
from klock.digests import Digest
from klock.lockfile.model import (
    AptLock,
    CondaLock,
    CondaPackage,
    CopyLock,
    DebianLock,
    DebPackage,
    FilesLock,
    LockedPackage,
    OciLock,
    PythonLock,
    ShellLock,
    StepLock,
    TargetLock,
    WheelArtifact,
)
from klock.store import Store

__all__ = ["Ingredient", "Sort", "ingredients_of"]

_LARGEST_METADATA: Final = 4 << 20


class Sort(Enum):
    BASE = "base"
    DEB = "deb"
    PYTHON = "python"
    DOWNLOAD = "download"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredient:
    """`url` is where its bytes came from, without credentials; `purl` a package URL (github.com/package-url)."""

    sort: Sort
    name: str
    version: str = ""
    digest: Digest | None = None
    size: int = 0
    purl: str = ""
    url: str = ""
    licence: str = ""


def ingredients_of(lock: TargetLock, store: Store) -> list[Ingredient]:
    """Those of a target and of the stages that it takes files from, each once, in the lockfile's order."""
    found: dict[Ingredient, None] = {}
    for each in (*lock.locks_of_stages.values(), lock):
        found.update(dict.fromkeys(_of_base(each)))
        for package in each.packages:
            if not package.build_only:
                found[_of_package(package, store)] = None
        for step in each.steps:
            found.update(dict.fromkeys(_of_step(step, each)))
    return list(found)


def _of_base(lock: TargetLock) -> Iterator[Ingredient]:
    base = lock.base
    if isinstance(base, DebianLock):
        yield from (_of_deb(deb, base.suite) for deb in base.debs)
    elif base.reference != SCRATCH:
        yield Ingredient(
            sort=Sort.BASE,
            name=base.reference,
            version=base.manifest.digest,
            digest=base.manifest.digest,
            purl=_purl_of_base(base),
        )
    if lock.interpreter is not None:
        for distribution in lock.interpreter.distributions:
            purl = f"pkg:pypi/{distribution.name}@{quote(distribution.version, safe=':')}"
            yield Ingredient(sort=Sort.PYTHON, name=distribution.name, version=distribution.version, purl=purl)


def _purl_of_base(base: OciLock) -> str:
    if base.reference.startswith("oci:"):
        return ""
    reference = Reference.parse(base.reference)
    name = reference.repository.rpartition("/")[2]
    where = quote(f"{reference.registry}/{reference.repository}", safe="")
    return f"pkg:oci/{name}@{base.manifest.digest}?repository_url={where}"


def _of_deb(deb: DebPackage, suite: str) -> Ingredient:
    version = quote(deb.version, safe=":")
    return Ingredient(
        sort=Sort.DEB,
        name=deb.name,
        version=deb.version,
        digest=f"sha256:{deb.sha256}",
        size=deb.size,
        purl=f"pkg:deb/debian/{quote(deb.name)}@{version}?arch={deb.architecture}"
        + (f"&distro={suite}" if suite else ""),
    )


def _of_package(package: LockedPackage, store: Store) -> Ingredient:
    artifact = package.artifact
    wheel = artifact if isinstance(artifact, WheelArtifact) else artifact.wheel
    url = getattr(artifact, "url", "") or ""
    return Ingredient(
        sort=Sort.PYTHON,
        name=package.name,
        version=package.version,
        digest=f"sha256:{wheel.sha256}",
        size=wheel.size,
        purl=f"pkg:pypi/{package.name}@{quote(package.version, safe=':')}",
        url=url if url.startswith(("https://", "http://")) else "",
        licence=_licence_of(wheel, store),
    )


def _of_step(step: StepLock, lock: TargetLock) -> Iterator[Ingredient]:
    suite = lock.base.suite if isinstance(lock.base, DebianLock) else ""
    if isinstance(step, AptLock):
        yield from (_of_deb(deb, suite) for deb in step.debs)
    elif isinstance(step, ShellLock):
        for request in step.requests:
            if request.sha256 is not None and request.status == 200 and request.method == "GET" and not request.private:
                yield Ingredient(
                    sort=Sort.DOWNLOAD,
                    name=request.url,
                    digest=f"sha256:{request.sha256}",
                    size=request.size,
                    url=request.url,
                )
    elif isinstance(step, CondaLock):
        yield from map(_of_conda, step.packages)
    elif isinstance(step, PythonLock):
        version, digest = step.found, f"sha256:{step.sha256}"
        purl = f"pkg:generic/python@{quote(version)}?download_url={quote(step.url, safe='')}"
        yield Ingredient(
            sort=Sort.DOWNLOAD, name="python", version=version, digest=digest, size=step.size, purl=purl, url=step.url
        )
    elif isinstance(step, CopyLock):
        for each in step.downloads:
            digest = f"sha256:{each.sha256}"
            yield Ingredient(sort=Sort.DOWNLOAD, name=each.url, digest=digest, size=each.size, url=each.url)
        for repository in step.repositories:
            address = quote(f"git+{repository.url}@{repository.commit}", safe="")
            name = quote(_last(repository.url))
            yield Ingredient(
                sort=Sort.DOWNLOAD,
                name=repository.url,
                version=repository.commit,
                digest=f"sha256:{repository.sha256}",
                size=repository.size,
                purl=f"pkg:generic/{name}@{repository.commit}?vcs_url={address}",
                url=repository.url,
            )
    elif isinstance(step, FilesLock):
        for file in step.entries:
            if file.digest is not None:
                name = f"{step.destination.rstrip('/')}/{file.path}" if file.path else step.destination
                yield Ingredient(sort=Sort.FILE, name=name, digest=file.digest, size=file.size)


def _of_conda(package: CondaPackage) -> Ingredient:
    channel, subdir, file = package.url.rsplit("/", 2)
    kind = "conda" if file.endswith(".conda") else "tar.bz2"
    where = f"build={quote(package.build)}&channel={quote(_last(channel))}&subdir={subdir}&type={kind}"
    return Ingredient(
        sort=Sort.DOWNLOAD,
        name=package.name,
        version=package.version,
        digest=f"sha256:{package.sha256}",
        size=package.size,
        purl=f"pkg:conda/{quote(package.name)}@{quote(package.version)}?{where}",
        url=package.url,
    )


def _last(url: str) -> str:
    return url.rpartition("/")[2].removesuffix(".git")


def _licence_of(wheel: WheelArtifact, store: Store) -> str:
    path = store.find_blob(f"sha256:{wheel.sha256}")
    if path is None:
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")]
            with archive.open(name) as file:
                metadata = BytesParser().parsebytes(file.read(_LARGEST_METADATA))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        return ""
    text = str(metadata.get("License-Expression") or metadata.get("License") or "").strip()
    # Some put the whole text of a licence there.
    return text if len(text) <= 100 and "\n" not in text else ""
