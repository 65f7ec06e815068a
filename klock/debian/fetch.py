"""Brings locked .debs into the store, each verified by size and SHA-256 on the way."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from klock.debian.archive import url_of
from klock.errors import FetchError
from klock.fetching.downloads import Wanted, download
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Transport
from klock.lockfile.model import DebPackage
from klock.progress import Progress
from klock.store import Store

__all__ = ["digest_of", "fetch_debs"]


def digest_of(deb: DebPackage) -> str:
    return f"sha256:{deb.sha256}"


def fetch_debs(
    debs: Sequence[DebPackage], *, task: str, store: Store, mirrors: Mirrors, offline: bool, progress: Progress
) -> None:
    """Raises FetchError, with the way out for a .deb that its archive has dropped; HashMismatch for other bytes."""
    transport = Transport(ca_bundle=mirrors.ca_bundle)
    wanted = [
        Wanted(
            digest=digest_of(deb),
            size=deb.size,
            name=f"{deb.name} {deb.version}",
            open=functools.partial(_open, transport, deb, url_of(deb, mirrors.debian)),
        )
        for deb in debs
    ]
    try:
        download(wanted, task=task, store=store, offline=offline, progress=progress)
    finally:
        transport.close()
    # The archive drops a version when a newer one takes its place.
    for deb in debs:
        store.keep_blob(digest_of(deb))


def _open(transport: Transport, deb: DebPackage, url: str) -> Iterator[bytes]:
    def on_refusal(status: int, challenges: tuple[str, ...]) -> bool:
        if status in (404, 410):
            raise FetchError(
                f"the archive no longer has {deb.name} {deb.version} ({url}), and the store does not have it either",
                hint="lock again (--upgrade-base for a base), get it from a vault with `klock vault pull DIR`, or set "
                "debian-mirror to a snapshot such as http://snapshot.debian.org/archive/debian/DATE",
            )
        raise FetchError(f"{url} answered with status {status}", hint="try again later, or set debian-mirror")

    return transport.stream(url, lambda: {}, on_refusal=on_refusal)
