"""Git repositories that ADD names: locked by commit, with the hash of its files, and given again by that hash."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from klock.digests import digest_of_stream
from klock.errors import FetchError, HashMismatch
from klock.files.modes import changed_mode
from klock.files.placed import PlacedFile
from klock.findings import Code, Finding
from klock.lockfile.model import CopyLock, FetchedRepository
from klock.steps.copying.reading import UNKNOWN_HASH
from klock.words import in_bytes

if TYPE_CHECKING:
    from klock.pages.build_context import ContextFile
    from klock.repositories.archive import ArchivedFile
    from klock.repositories.fetching import Repositories
    from klock.repositories.remote import Named
    from klock.steps.context import Context
    from klock.steps.locking import Locking

__all__ = [
    "draft_of",
    "exported_repositories",
    "fetch_repositories",
    "lock_repositories",
    "moved_repositories",
    "placed_repositories",
    "question",
]

_TOKEN: Final = "GIT_AUTH_TOKEN"
"""As docker names the secret with which it fetches git repositories."""


def question(each: FetchedRepository) -> tuple[object, ...]:
    """What the image asks for, beside what it leads to."""
    return (each.url, each.wanted, each.checksum, each.folder, each.keeps_git, each.submodules)


def draft_of(each: FetchedRepository) -> FetchedRepository:
    return replace(each, commit="", tag="", reference="", sha256=UNKNOWN_HASH, size=0)


def lock_repositories(draft: CopyLock, locking: Locking) -> CopyLock:
    """The draft with the commit that each name means: that of the lockfile before, unless everything is upgraded.

    Raises FetchError, and ImageError for a commit that is not the checksum's.
    """
    context = locking.context
    known: dict[object, FetchedRepository] = {}
    if not locking.upgrade.everything:
        earlier = (step for step in locking.previous_steps if isinstance(step, CopyLock))
        known = {question(each): each for step in earlier for each in step.repositories}
    return replace(
        draft, repositories=tuple(known.get(question(each)) or _locked(each, context) for each in draft.repositories)
    )


def fetch_repositories(repositories: Sequence[FetchedRepository], context: Context) -> None:
    """Makes the store have the files, by hash. Raises FetchError, HashMismatch."""
    from klock.fetching.downloads import Wanted, download

    received = list[int]()
    wanted = [
        Wanted(
            digest=f"sha256:{each.sha256}",
            size=each.size,
            name=_name(each),
            open=_archive(each, context, on_received=received.append),
        )
        for each in repositories
    ]
    download(
        wanted,
        task="fetch git repositories",
        store=context.store,
        offline=context.offline,
        progress=context.progress,
        # The archives are made of the server's bytes, when all of these have arrived.
        how_far=lambda: f"{in_bytes(sum(received))} received",
    )


def moved_repositories(step: CopyLock, context: Context) -> Iterator[Finding]:
    """Names that mean another commit today. Raises FetchError when the server cannot be asked."""
    for each in step.repositories:
        if not each.reference:
            continue
        with _opened(each.url, context) as repositories:
            now = repositories.find(each.wanted).commit
        if now != each.commit:
            message = f"{each.url}: {each.reference} is another commit now"
            yield Finding(code=Code.OTHER_FILE, message=message, expected=each.commit, found=now)


def placed_repositories(step: CopyLock, folder: Path, context: Context) -> Iterator[PlacedFile]:
    """The files of the archives, which are in the store, with their bytes in the empty `folder`."""
    yield PlacedFile(path="", mode=changed_mode(0o755, step.chmod, is_folder=True))
    for number, file in enumerate(_files_of(step, context)):
        mode = _mode(file, step)
        if file.content is None:
            yield PlacedFile(path=file.path, mode=mode, target=file.target)
        else:
            place = folder / f"file-{number}"
            with place.open("xb") as copy:
                digest = digest_of_stream(file.content, copy=copy)
            yield PlacedFile(path=file.path, mode=mode, source=place, digest=digest)


def exported_repositories(step: CopyLock, folder: str, context: Context) -> Iterator[ContextFile]:
    """The same files below `folder` of the context of an exported Dockerfile."""
    from klock.pages.build_context import ContextFile

    for file in _files_of(step, context):
        yield ContextFile(
            path=f"{folder}/{file.path}",
            mode=_mode(file, step),
            content=None if file.content is None else file.content.read(),
            target=file.target,
        )


def _files_of(step: CopyLock, context: Context) -> Iterator[ArchivedFile]:
    from klock.files.build_context import Patterns
    from klock.repositories.archive import archived_files

    patterns = Patterns(step.exclude, where=step.destination) if step.exclude else None
    for each in step.repositories:
        for file in archived_files(context.store.blob_path(f"sha256:{each.sha256}")):
            if patterns is None or not patterns.leaves_out(file.path):
                yield file


def _mode(file: ArchivedFile, step: CopyLock) -> int:
    if file.target is not None:
        return file.mode
    return changed_mode(file.mode, step.chmod, is_folder=file.content is None)


def _locked(draft: FetchedRepository, context: Context) -> FetchedRepository:
    if context.offline:
        raise FetchError(f"{draft.url} is not locked yet, and klock is offline", hint="run it without --offline")
    with _opened(draft.url, context, on_received=context.progress.advance) as repositories:
        wanted = draft.wanted
        if not wanted and len(draft.checksum) == 40:
            wanted = draft.checksum
        named = repositories.find(wanted)
        if not named.commit.startswith(draft.checksum):
            raise HashMismatch(
                f"{draft.url}: {wanted or 'HEAD'} is the commit {named.commit}, not {draft.checksum}",
                hint="find out why, or change the checksum",
            )
        found = replace(draft, commit=named.commit, tag=named.tag, reference=named.reference)
        context.progress.begin(f"fetch {_name(found)}")
        digest, size = context.store.add_blob(_chunks(repositories, found), source=_name(found))
        context.progress.done(in_bytes(size))
    return replace(found, sha256=digest.removeprefix("sha256:"), size=size)


def _archive(
    each: FetchedRepository, context: Context, *, on_received: Callable[[int], None]
) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        with _opened(each.url, context, on_received=on_received) as repositories:
            yield from _chunks(repositories, each)

    return chunks


def _chunks(repositories: Repositories, each: FetchedRepository) -> Iterator[bytes]:
    return repositories.archive(_named(each), folder=each.folder, keeps_git=each.keeps_git, submodules=each.submodules)


def _named(each: FetchedRepository) -> Named:
    from klock.repositories.remote import Named

    return Named(commit=each.commit, tag=each.tag, reference=each.reference)


def _name(each: FetchedRepository) -> str:
    what = f" ({each.folder})" if each.folder else ""
    return f"{each.url} at commit {each.commit[:12]}{what}"


@contextmanager
def _opened(
    url: str, context: Context, *, on_received: Callable[[int], None] = lambda _: None
) -> Iterator[Repositories]:
    from klock.packages.credentials import Credentials, netrc_of
    from klock.repositories.fetching import Repositories

    known = Credentials.collect(urls=[url], netrc=netrc_of(context.environ))
    token = context.environ.get(_TOKEN, "")
    origin = urlsplit(url)[:2]

    def authorize(asked: str) -> Mapping[str, str]:
        if token and urlsplit(asked)[:2] == origin:
            return {"Authorization": "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode("ascii")}
        return known.headers(asked)

    repositories = Repositories(
        url,
        authorize=authorize,
        secrets=[token] if token else (),
        ca_bundle=context.mirrors.ca_bundle,
        local_hosts=context.local_hosts,
        on_received=on_received,
    )
    with repositories.opened():
        yield repositories
