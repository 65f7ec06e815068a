"""All that a locked target is made of, as ingredients with a name, a digest and an address: the base, Debian packages,
Python and conda packages, what steps downloaded, and files.

Licences are those that a wheel's METADATA names (core metadata, "License-Expression" and "License"), where the store
has the wheel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from urllib.parse import quote

from klock.bases.scratch import SCRATCH
from klock.digests import Digest, is_digest
from klock.errors import KlockError
from klock.lockfile.model import (
    CondaPackage,
    DebianLock,
    DebPackage,
    DownloadedFile,
    FetchedRepository,
    LockedPackage,
    LockedRequest,
    OciLock,
    PythonLock,
    StepLock,
    TargetLock,
    WheelArtifact,
)
from klock.oci.reference import Reference
from klock.packages.wheels import licence_in, metadata_text, wheel_of
from klock.steps import kind_of, parts
from klock.steps.at import StepAt
from klock.store import Store
from klock.values import dataclass

__all__ = ["Ingredient", "Sort", "ingredients_of"]


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
        for position in range(len(each.steps)):
            found.update(dict.fromkeys(_of_step(StepAt(lock=each, position=position))))
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
    wheel = wheel_of(package)
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


def _of_step(at: StepAt[StepLock]) -> Iterator[Ingredient]:
    base, kind = at.lock.base, kind_of(at.step)
    suite = base.suite if isinstance(base, DebianLock) else ""
    for each in kind.fetched(at):
        match each:
            case LockedPackage():  # in the list of the target's packages
                pass
            case DebPackage():
                yield _of_deb(each, suite)
            case CondaPackage():
                yield _of_conda(each)
            case FetchedRepository():
                yield _of_repository(each)
            case LockedRequest():
                if each.sha256 is not None and each.status == 200 and each.method == "GET" and not each.private:
                    yield _download(each.url, each.sha256, each.size)
            case PythonLock():
                purl = f"pkg:generic/python@{quote(each.found)}?download_url={quote(each.url, safe='')}"
                yield replace(_download(each.url, each.sha256, each.size), name="python", version=each.found, purl=purl)
            case DownloadedFile():
                yield _download(each.url, each.sha256, each.size)
    for part in kind.parts(at):
        if part.sort is parts.Sort.FILE and is_digest(part.identity):
            yield Ingredient(sort=Sort.FILE, name=part.name, digest=part.identity, size=part.size)


def _download(url: str, sha256: str, size: int) -> Ingredient:
    return Ingredient(sort=Sort.DOWNLOAD, name=url, digest=f"sha256:{sha256}", size=size, url=url)


def _of_repository(repository: FetchedRepository) -> Ingredient:
    address = quote(f"git+{repository.url}@{repository.commit}", safe="")
    return replace(
        _download(repository.url, repository.sha256, repository.size),
        version=repository.commit,
        purl=f"pkg:generic/{quote(_last(repository.url))}@{repository.commit}?vcs_url={address}",
    )


def _of_conda(package: CondaPackage) -> Ingredient:
    channel, subdir, file = package.url.rsplit("/", 2)
    kind = "conda" if file.endswith(".conda") else "tar.bz2"
    where = f"build={quote(package.build)}&channel={quote(_last(channel))}&subdir={subdir}&type={kind}"
    return replace(
        _download(package.url, package.sha256, package.size),
        name=package.name,
        version=package.version,
        purl=f"pkg:conda/{quote(package.name)}@{quote(package.version)}?{where}",
    )


def _last(url: str) -> str:
    return url.rpartition("/")[2].removesuffix(".git")


def _licence_of(wheel: WheelArtifact, store: Store) -> str:
    path = store.find_blob(f"sha256:{wheel.sha256}")
    if path is None:
        return ""
    try:
        expression, named, _ = licence_in(metadata_text(path, wheel.name))
    except KlockError:
        return ""
    text = expression or named or ""
    # Some put the whole text of a licence there.
    return text if len(text) <= 100 and "\n" not in text else ""
