"""Brings into the store what a vault is to have and the store lacks: fetched as a sync would, built or written again.

Nothing here fails because upstream has moved on. What cannot be had is missing afterwards, and said by the caller.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from klock.digests import Digest
from klock.errors import FetchError, KlockError
from klock.lockfile.model import (
    AptLock,
    DebianLock,
    LockedRequest,
    OciLock,
    PipLock,
    ShellLock,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
)
from klock.replay.context import Context
from klock.secrets.spans import MASK
from klock.targets import Target

if TYPE_CHECKING:
    from klock.recorder.upstream import Upstream

__all__ = ["bring_in"]

_CHUNK: Final = 1 << 20


def bring_in(lock: TargetLock, wanted: Collection[Digest], context: Context) -> list[str]:
    """Tries to have the store hold `wanted`, which are inputs of `lock`; why something could not be had, if so."""
    missing = {digest for digest in wanted if context.store.find_blob(digest) is None}
    reasons: list[str] = []

    def attempt(task: Callable[[], None]) -> None:
        try:
            task()
        except KlockError as error:
            reasons.append(error.message)

    if not missing:
        return reasons
    attempt(lambda: _write_kept_layers(lock, missing, context))
    if context.offline:
        return reasons
    attempt(lambda: _fetch_base(lock, missing, context))
    attempt(lambda: _fetch_debs(lock, missing, context))
    attempt(lambda: _fetch_packages(lock, missing, context))
    attempt(lambda: _fetch_answers(lock, missing, context))
    attempt(lambda: _build_wheels(lock, missing, context))
    return reasons


def _fetch_base(lock: TargetLock, missing: Set[Digest], context: Context) -> None:
    from klock.bases.images import fetch_documents, fetch_layers

    base = lock.base
    if not isinstance(base, OciLock):
        return
    if missing & {base.manifest.digest, base.config.digest}:
        fetch_documents(
            base,
            root=context.root,
            mirrors=context.mirrors,
            store=context.store,
            offline=False,
            progress=context.progress,
        )
    fetch_layers(
        replace(base, layers=tuple(layer for layer in base.layers if layer.digest in missing)),
        root=context.root,
        mirrors=context.mirrors,
        store=context.store,
        offline=False,
        progress=context.progress,
    )


def _fetch_debs(lock: TargetLock, missing: Set[Digest], context: Context) -> None:
    from klock.debian.fetch import digest_of, fetch_debs

    debs = [deb for step in lock.steps if isinstance(step, AptLock) for deb in step.debs]
    if isinstance(lock.base, DebianLock):
        debs += lock.base.debs
    fetch_debs(
        [deb for deb in debs if digest_of(deb) in missing],
        task="fetch Debian packages",
        store=context.store,
        mirrors=context.mirrors,
        offline=False,
        progress=context.progress,
    )


def _fetch_packages(lock: TargetLock, missing: Set[Digest], context: Context) -> None:
    from klock.packages.fetch import fetch_artifacts
    from klock.replay.perform import index_credentials

    artifacts = [package.artifact for package in lock.packages]
    wanted = [a for a in artifacts if not isinstance(a, VcsArtifact) and f"sha256:{a.sha256}" in missing]
    if wanted:
        positions = [position for position, step in enumerate(lock.steps) if isinstance(step, PipLock)]
        fetch_artifacts(
            wanted,
            store=context.store,
            credentials=index_credentials(lock, positions, context),
            progress=context.progress,
        )


def _build_wheels(lock: TargetLock, missing: Set[Digest], context: Context) -> None:
    """Runs the pip steps whose built wheels are missing: they build them again, and compare the hash."""
    from klock.replay import make_layers
    from klock.replay.perform import perform

    if lock.target.platform != Target.of_this_machine().platform:
        return
    packages = lock.packages_by_pin
    for position, step in enumerate(lock.steps):
        if not isinstance(step, PipLock):
            continue
        artifacts = [packages[pin].artifact for pin in step.packages]
        built = {f"sha256:{a.wheel.sha256}" for a in artifacts if not isinstance(a, WheelArtifact)}
        if any(context.store.find_blob(digest) is None for digest in built & missing):
            context.progress.begin(f"step {position + 1}{context.where(position)}: build again")
            before = replace(lock, steps=lock.steps[:position])
            make_layers(before, context)
            with context.engine.open(lock.base.id, before.layers) as workspace:
                perform(lock, position, workspace, context)
            context.progress.done("as locked")


def _write_kept_layers(lock: TargetLock, missing: Set[Digest], context: Context) -> None:
    """A kept layer whose archive is gone may still be unpacked in the store."""
    for step in lock.steps:
        if not isinstance(step, ShellLock) or step.kept is None or f"sha256:{step.kept.sha256}" not in missing:
            continue
        if context.engine.has_layer(step.layer.digest):
            with context.store.temporary_file() as archive:
                context.engine.write_layer(step.layer.digest, archive)
                with open(archive, "rb") as file:
                    chunks = iter(functools.partial(file.read, _CHUNK), b"")
                    context.store.add_blob(chunks, digest=f"sha256:{step.kept.sha256}", source="the kept layer")


def _fetch_answers(lock: TargetLock, missing: Set[Digest], context: Context) -> None:
    """Asks for the answers of shell steps again. Those that changed upstream, or need credentials, stay missing.

    A lockfile may name any URL. As the steps themselves, this reaches no server of this machine or of its link.
    """
    from klock.bases.downloads import Wanted, download
    from klock.recorder.redaction import Redaction
    from klock.recorder.report import Notes
    from klock.recorder.upstream import Upstream

    requests = [request for step in lock.steps if isinstance(step, ShellLock) for request in step.requests]
    wanted = {r.sha256: r for r in requests if f"sha256:{r.sha256}" in missing and _can_be_asked_again(r)}
    if not wanted:
        return
    upstream = Upstream(
        notes=Notes(Redaction(secrets=(), private_urls=())),
        ca_bundle=context.mirrors.ca_bundle,
        local_hosts=context.local_hosts,
    )
    changed: list[str] = []
    try:
        for sha256, request in wanted.items():
            item = Wanted(
                digest=f"sha256:{sha256}",
                size=request.size,
                name=request.url,
                open=functools.partial(_ask, upstream, request.url),
            )
            try:
                download(
                    [item],
                    task=f"fetch {request.url}",
                    store=context.store,
                    offline=False,
                    progress=context.progress,
                )
            except FetchError as error:
                changed.append(error.message)
    finally:
        upstream.close()
    if changed:
        raise FetchError(changed[0])


def _can_be_asked_again(request: LockedRequest) -> bool:
    return (
        request.method == "GET"
        and request.status == 200
        and not request.private
        and not request.authorized
        and request.accept is None
        and request.git_protocol is None
        and MASK not in request.url
    )


def _ask(upstream: Upstream, url: str) -> Iterator[bytes]:
    from klock.recorder.exchange import Refused, Request
    from klock.recorder.upstream import Truncated, Unreachable

    try:
        incoming = upstream.fetch(Request(method="GET", url=url, headers=(("User-Agent", "klock"),)))
        try:
            if incoming.status != 200:
                raise FetchError(f"{url} answered with status {incoming.status}")
            yield from incoming.body()
        finally:
            incoming.close()
    except (Refused, Truncated, Unreachable) as error:
        raise FetchError(f"{url}: {error}") from error
