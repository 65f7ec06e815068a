"""Brings locked artifacts into the store: several at once, every byte hashed on the way, nothing else kept.

uv's cache takes no part: a file edited in an environment could come back from there (it links and does not verify).
All threads have ended when a function returns, because the workshop forks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from klock.digests import Digest
from klock.errors import FetchError
from klock.fetching.transport import Unreachable, shared_transport
from klock.lockfile.model import LockedPackage, SdistArtifact, VcsArtifact, WheelArtifact
from klock.packages.credentials import Credentials
from klock.packages.index_mirrors import IndexMirrors
from klock.packages.index_pages import IndexPages
from klock.packages.indexes import Index
from klock.packages.wheels import wheel_of
from klock.progress import Progress
from klock.store import Store
from klock.words import counted, first_of

__all__ = ["fetch_artifacts", "fetch_packages", "fetch_unhashed"]

_PARALLEL: Final = 8

_OnBytes = Callable[[int], None]


def fetch_packages(
    packages: Iterable[LockedPackage],
    *,
    store: Store,
    all_packages: Iterable[LockedPackage] = (),
    credentials: Credentials | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> None:
    """Puts the artifacts of `packages` into the store; what is there is not asked for again.

    Where the wheel of a source distribution or a commit is missing, its source and what builds it (of `all_packages`)
    are fetched instead. An artifact at a `file:` URL is inside the environment, and left to the step that installs it.

    Raises HashMismatch for other bytes than the locked ones, FetchError when upstream does not deliver.
    """
    packages, all_packages = list(packages), list(all_packages)
    missing = _missing(packages, store, {package.pin: package for package in all_packages})
    fetch_artifacts(
        missing,
        store=store,
        credentials=credentials or Credentials(),
        of=[*all_packages, *packages],
        offline=offline,
        progress=progress,
    )


def fetch_artifacts(
    artifacts: Iterable[WheelArtifact | SdistArtifact],
    *,
    store: Store,
    credentials: Credentials,
    of: Iterable[LockedPackage] = (),
    offline: bool = False,
    progress: Progress | None = None,
) -> None:
    """Puts these files into the store, as `fetch_packages` does; what is there is not asked for again.

    `of` are the packages that they are files of: a mirror of their index is asked by the project's name.
    """
    unique = {artifact.sha256: artifact for artifact in artifacts if not store.find_blob(f"sha256:{artifact.sha256}")}
    # The largest first: the last one to end decides how long it takes.
    missing = sorted(unique.values(), key=lambda artifact: (-artifact.size, artifact.name))
    if not missing:
        return
    if offline:
        are = "is" if len(missing) == 1 else "are"
        raise FetchError(
            f"{counted(len(missing), 'locked file')} {are} not in the store: {first_of(a.name for a in missing)}",
            hint="run the command once without --offline",
        )
    # Most commands find nothing missing.
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    guard = threading.Lock()

    def report(count: int) -> None:
        if progress is not None:
            with guard:
                progress.advance(count)

    if progress is not None:
        progress.begin(f"fetching {counted(len(missing), 'file')}", total=sum(artifact.size for artifact in missing))
    pages = IndexPages(credentials=credentials, list_folder=lambda _: [])
    owners = {p.artifact.sha256: p for p in of if not isinstance(p.artifact, VcsArtifact)}

    def fetch(artifact: WheelArtifact | SdistArtifact) -> None:
        owner = owners.get(artifact.sha256)
        project, index = (owner.name, owner.index) if owner else ("", None)
        url = _locate(artifact, project, index, pages, mirrors=credentials.mirrors)
        expected = (f"sha256:{artifact.sha256}", artifact.size)
        _download(url, store, credentials, name=artifact.name, report=report, expected=expected)

    stage = contextlib.nullcontext() if progress is None else progress.stage("fetch")
    with stage, ThreadPoolExecutor(max_workers=_PARALLEL, thread_name_prefix="klock-fetch") as pool:
        jobs = [pool.submit(fetch, artifact) for artifact in missing]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            for job in jobs:
                job.cancel()
    for job in jobs:
        if not job.cancelled():
            job.result()
    if progress is not None:
        progress.done("all hashes match")


def _missing(
    packages: Iterable[LockedPackage], store: Store, known: Mapping[str, LockedPackage]
) -> list[WheelArtifact | SdistArtifact]:
    found: list[WheelArtifact | SdistArtifact] = []
    pending = list(packages)
    seen: set[str] = set()
    while pending:
        package = pending.pop()
        artifact = package.artifact
        if package.pin in seen or store.find_blob(f"sha256:{wheel_of(package).sha256}"):
            continue
        seen.add(package.pin)
        if not isinstance(artifact, WheelArtifact):
            pending += [known[pin] for pin in artifact.build if pin in known]
        if isinstance(artifact, VcsArtifact) or artifact.url.startswith("file:"):
            continue
        found.append(artifact)
    return found


def fetch_unhashed(url: str, store: Store, *, credentials: Credentials, name: str) -> tuple[Digest, int]:
    """Downloads what its index gives no hash or no size for; its digest and size."""
    return _download(url, store, credentials, name=name)


def _download(
    url: str,
    store: Store,
    credentials: Credentials,
    *,
    name: str,
    report: _OnBytes | None = None,
    expected: tuple[Digest | None, int | None] = (None, None),
) -> tuple[Digest, int]:
    digest, size = expected
    source = f"{name} from {url}"
    try:
        return store.add_blob(
            _chunks(url, credentials, has_hash=digest is not None),
            digest=digest,
            size=size,
            source=source,
            on_progress=report,
        )
    except Unreachable as error:
        message = f"{name} cannot be fetched from {url}: {error.message}"
        raise FetchError(credentials.mask(message), hint=error.hint) from None


def _chunks(url: str, credentials: Credentials, *, has_hash: bool) -> Iterator[bytes]:
    def refused(status: int, _: Sequence[str]) -> bool:
        raise FetchError(f"{url} answers with status {status}", hint=_hint_for(status))

    transport = shared_transport(credentials.ca_bundle)
    return transport.stream(url, lambda: credentials.headers(url), on_refusal=refused, has_hash=has_hash)


def _locate(
    artifact: WheelArtifact | SdistArtifact,
    project: str,
    index: str | None,
    pages: IndexPages,
    *,
    mirrors: IndexMirrors,
) -> str:
    """Where to fetch a locked file of `project` from. Raises FetchError when the mirror of its index lacks it.

    A file of an index is found by its name on the mirror's page of the project, since no two servers keep files at the
    same paths.
    """
    direct = mirrors.towards(artifact.url)
    if index is None or direct != artifact.url or mirrors.towards(index) == index:
        return direct
    files = pages.files(Index(url=index), project) or ()
    file = next((f for f in files if f.name == artifact.name and f.sha256 in (None, artifact.sha256)), None)
    if file is None:
        raise FetchError(
            f"{artifact.name} is not in {mirrors.towards(index)}, the mirror of {index}",
            hint="add the file to the mirror, or take the mirror out of index-mirrors",
        )
    return file.url


def _hint_for(status: int) -> str | None:
    if status in (401, 403):
        return "give user name and password by netrc, in UV_INDEX_<NAME>_USERNAME and _PASSWORD, or in the index URL"
    if status in (404, 410):
        return "upstream removed it: run `klock lock` to take another version, or run `klock vault pull DIR`"
    return None
