"""Brings into the store what a vault is to have and the store lacks: fetched as a sync would, built or written again.

Nothing here fails because upstream has moved on. What cannot be had is missing afterwards, and said by the caller.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Set
from dataclasses import replace
from typing import Final

from klock.digests import Digest
from klock.errors import KlockError
from klock.lockfile.model import DebianLock, TargetLock, kept_layer_of, layer_of
from klock.replay import opened_over
from klock.steps import kind_of
from klock.steps.context import Context

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
    for at in context.each(lock):
        open_below = functools.partial(opened_over, at.before, context)
        for task in kind_of(at.step).bring_in(at, missing, context, open_below=open_below):
            attempt(task)
    return reasons


def _fetch_base(lock: TargetLock, missing: Set[Digest], context: Context) -> None:
    from klock.bases.images import fetch_documents, fetch_layers

    base = lock.base
    if isinstance(base, DebianLock):
        _fetch_debs(base, missing, context)
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


def _write_kept_layers(lock: TargetLock, missing: Set[Digest], context: Context) -> None:
    """A kept layer whose archive is gone may still be unpacked in the store."""
    for step in lock.steps:
        kept, layer = kept_layer_of(step), layer_of(step)
        if kept is None or layer is None or f"sha256:{kept.sha256}" not in missing:
            continue
        if context.workshop.has_layer(layer.digest):
            with context.store.temporary_file() as archive:
                context.workshop.write_layer(layer.digest, archive)
                with open(archive, "rb") as file:
                    chunks = iter(functools.partial(file.read, _CHUNK), b"")
                    context.store.add_blob(chunks, digest=f"sha256:{kept.sha256}", source="the kept layer")


def _fetch_debs(base: DebianLock, missing: Set[Digest], context: Context) -> None:
    from klock.debian.fetch import digest_of, fetch_debs

    fetch_debs(
        [deb for deb in base.debs if digest_of(deb) in missing],
        task="fetch Debian packages",
        store=context.store,
        mirrors=context.mirrors,
        offline=False,
        progress=context.progress,
    )
