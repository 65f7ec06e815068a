"""`klock push`: the locked image, into a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from klock.commands.options import (
    compression_option,
    frozen_option,
    image_argument,
    offline_option,
    open_project,
    with_progress,
)
from klock.printing import say, show
from klock.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from klock.layers.compression import Compression
    from klock.lockfile.model import Lockfile, TargetLock
    from klock.oci.reference import Reference
    from klock.registry.made import MadeImage
    from klock.session import Session

__all__ = ["push"]


@click.command()
@click.argument("reference", metavar="[REGISTRY/NAME:TAG]", required=False)
@image_argument
@click.option("--target", metavar="TARGET", help="Only this target. Default: all, as one index if there are several.")
@compression_option("How to compress the layers of steps; each way gives another digest. Default: gzip.")
@click.option("--cache", is_flag=True, help="Fill the cache of [tool.klock], where a sync looks for layers first.")
@click.option("--attest", is_flag=True, help="Attach bills of materials and signed provenance to the image.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    envvar="KLOCK_SIGNING_KEY",
    show_envvar=True,
    metavar="FILE",
    help="The private key for --attest, as for `klock sign`.",
)
@frozen_option
@click.option("--dry-run", is_flag=True, help="Print the digest; push nothing.")
@offline_option
@with_progress
def push(
    reference: str | None,
    image: str | None,
    *,
    target: str | None,
    compression: str,
    cache: bool,
    attest: bool,
    key: Path | None,
    frozen: bool,
    dry_run: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Push the locked image to a registry, with no container engine.

    Prints the image by its digest, which follows from the lockfile alone. Skips what the registry has already.
    `klock push --cache [FILE[:NAME]]` only fills the cache.
    """
    from klock.layers.compression import compression_named

    if reference is None and not cache:
        raise click.UsageError("say where to push it: name REGISTRY/NAME:TAG, or use --cache")
    if attest and key is None:
        raise click.UsageError("--attest signs: name a key, --key FILE or KLOCK_SIGNING_KEY")
    if cache and image is None and reference is not None and _is_image(reference):
        reference, image = None, reference
    named = None if reference is None else _destination(reference)
    project = open_project(image, offline=offline, progress=progress)
    session, lock = project.session, project.read_lockfile(frozen=frozen)
    wanted = lock.targets if target is None else [session.locked_target(lock, target)]
    how = compression_named(compression)
    with session.store.in_use():
        if cache and not dry_run:
            _fill_cache(lock, wanted, session, how)
        if named is not None:
            _push_image(
                named,
                wanted,
                session,
                how,
                all_targets=target is None,
                dry_run=dry_run,
                key=key if attest else None,
            )
    return 0


def _is_image(written: str) -> bool:
    """Whether this is FILE[:NAME], as after `--cache`, which needs no name to push to."""
    return Path(written).is_file() or Path(written.rpartition(":")[0]).is_file()


def _destination(written: str) -> Reference:
    from klock.errors import ImageError
    from klock.oci.reference import Reference

    named = Reference.parse_in_registry(written)
    if named.digest is not None:
        raise ImageError(f"{written} names a digest, and an image is pushed to a tag", hint="write REGISTRY/NAME:TAG")
    return named


def _push_image(
    named: Reference,
    wanted: Sequence[TargetLock],
    session: Session,
    compression: Compression,
    *,
    all_targets: bool,
    dry_run: bool,
    key: Path | None,
) -> None:
    from klock.oci.writing import open_repository
    from klock.registry.push import push_images, sources_of

    images, others = _images(wanted, session, compression, all_targets=all_targets)
    if dry_run:
        for made in images:
            show(f"{named.registry}/{named.repository}@{made.digest}")
        return
    attestations = []
    if key is not None:
        from klock.registry.attesting import attach_all, attestations_of

        attestations = attestations_of(
            images,
            lockfile=session.lockfile,
            name=session.loaded.root.name,
            key=key,
            store=session.store,
            environ=session.environ,
        )
    sources = sources_of(images, named)
    repository = open_repository(named, mirrors=session.context.mirrors, also=sources)
    pushed = push_images(images, repository, sources=sources, others=others, progress=session.context.progress)
    say(f"{named} pushed: {pushed}")
    if attestations:
        for line in attach_all(attestations, repository):
            say(line)
    show(pushed.name)


def _images(
    wanted: Sequence[TargetLock], session: Session, compression: Compression, *, all_targets: bool
) -> tuple[list[MadeImage], list[dict[str, Any]]]:
    """The images that can be made here, and descriptors of those whose digests are locked."""
    from klock.registry.made import index_entry, make_image
    from klock.registry.push import refuse_another_digest
    from klock.targets import Target

    here = Target.of_this_machine().platform
    images, others = [], []
    for locked in sorted(wanted, key=lambda target: target.target):
        known = locked.oci_image
        if locked.target.platform != here and all_targets and known and known.compression == compression.rule:
            others.append(index_entry(locked, digest=known.digest, size=known.size))
            continue
        made = make_image(locked, session.context, compression)
        refuse_another_digest(made, compression.rule)
        images.append(made)
    return images, others


def _fill_cache(lock: Lockfile, wanted: Sequence[TargetLock], session: Session, compression: Compression) -> None:
    from klock.errors import KlockError
    from klock.registry.cache import RegistryCache
    from klock.targets import Target

    address = session.settings.cache
    if address is None:
        hint = 'write cache = "oci://REGISTRY/NAME" into [tool.klock] of pyproject.toml'
        raise KlockError("the settings name no cache", hint=hint)
    filled = RegistryCache(address, mirrors=session.context.mirrors, actions="pull,push")
    for locked in wanted:
        if locked.target.platform == Target.of_this_machine().platform:
            sent = filled.fill(locked, session.goal(lock, locked).cache_keys, session.context, compression)
            say(f"{address} filled: {sent}")
