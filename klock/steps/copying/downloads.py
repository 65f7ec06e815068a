"""What ADD fetches: locked by hash, and given again by hash."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from klock.errors import FetchError, HashMismatch
from klock.findings import Finding
from klock.lockfile.model import CopyLock, DownloadedFile
from klock.steps.copying.reading import UNKNOWN_HASH
from klock.steps.web import chunks_at, fetch_new, moved_files

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.steps.at import StepAt
    from klock.steps.context import Context
    from klock.steps.locking import Locking

__all__ = ["fetch", "lock_downloads", "moved_downloads"]


def lock_downloads(draft: CopyLock, locking: Locking) -> CopyLock:
    """The draft with the hash and size of each file: those of the lockfile before, unless everything is upgraded."""
    context = locking.context
    known: dict[str, DownloadedFile] = {}
    if not locking.upgrade.everything:
        earlier = (step for step in locking.previous_steps if isinstance(step, CopyLock))
        known = {each.url: each for step in earlier for each in step.downloads}
    done = []
    for each in draft.downloads:
        before = known.get(each.url)
        if before is not None and each.sha256 in (UNKNOWN_HASH, before.sha256):
            done.append(replace(each, sha256=before.sha256, size=before.size))
            continue
        try:
            digest, size = fetch_new(each.url, context, task=f"fetch {each.url}")
        except FetchError as error:
            raise locking.at(draft).failed(f": {error.message}", hint=error.hint) from error
        if each.sha256 not in (UNKNOWN_HASH, digest.removeprefix("sha256:")):
            raise HashMismatch(
                f"{each.url} has the SHA-256 {digest.removeprefix('sha256:')}, not that of --checksum", hint="look why"
            )
        done.append(replace(each, sha256=digest.removeprefix("sha256:"), size=size))
    return replace(draft, downloads=tuple(done))


def moved_downloads(at: StepAt[CopyLock], context: Context, asker: Asker) -> Iterator[Finding]:
    """Findings without step and location, of files that a server no longer has, or has otherwise."""
    return moved_files([(each.url, each.size, each.sha256) for each in at.step.downloads], at, context, asker)


def fetch(files: Sequence[DownloadedFile], context: Context) -> None:
    """Makes the store have the files, by hash. Raises FetchError, HashMismatch."""
    from klock.fetching.downloads import Wanted, download

    wanted = [
        Wanted(
            digest=f"sha256:{each.sha256}",
            size=each.size,
            name=each.url,
            open=functools.partial(chunks_at, each.url, context),
        )
        for each in files
    ]
    download(wanted, task="fetch for ADD", store=context.store, offline=context.offline, progress=context.progress)
