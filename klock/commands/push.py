"""`klock push`: the locked image, into a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from klock.commands.options import image_argument, offline_option, open_project, with_progress
from klock.commands.printing import say, show
from klock.progress import Progress

if TYPE_CHECKING:
    from klock.registry.made import MadeImage
    from klock.session import Session

__all__ = ["push"]


@click.command()
@click.argument("reference", metavar="REGISTRY/NAME:TAG")
@image_argument
@click.option("--target", metavar="TARGET", help="Only this target. Default: all, as one index if there are several.")
@click.option(
    "--compression",
    metavar="gzip|zstd|none",
    type=click.Choice(["gzip", "zstd", "none"]),
    default="gzip",
    help="How the layers of steps are compressed; each has another digest. Default: gzip.",
)
@click.option("--frozen", is_flag=True, help="Use the lockfile as it is, even if the image has changed.")
@click.option("--dry-run", is_flag=True, help="Print the digest; push nothing.")
@offline_option
@with_progress
def push(
    reference: str,
    image: str | None,
    *,
    target: str | None,
    compression: str,
    frozen: bool,
    dry_run: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Push the image that is locked to a registry, with no container engine.

    Prints the image by its digest, which follows from the lockfile alone. Skips what the registry has already.
    """
    from klock.bases.reference import Reference
    from klock.errors import ImageError
    from klock.layers.compression import compression_named
    from klock.registry.push import push_images, sources_of
    from klock.registry.repository import open_repository

    named = Reference.parse(reference)
    if named.digest is not None:
        raise ImageError(f"{reference} names a digest, and an image is pushed to a tag", hint="write REGISTRY/NAME:TAG")
    project = open_project(image, offline=offline, progress=progress)
    session = project.session
    lock = session.read_lockfile()
    project.refuse(lock, frozen=frozen)
    with session.store.in_use():
        images, others = _images(session, target, compression_named(compression).rule)
        if dry_run:
            for made in images:
                show(f"{named.registry}/{named.repository}@{made.digest}")
            return 0
        sources = sources_of(images, named)
        repository = open_repository(named, mirrors=session.context.mirrors, also=sources)
        pushed = push_images(images, repository, sources=sources, others=others, progress=session.context.progress)
    say(f"{named} pushed: {pushed}")
    show(pushed.name)
    return 0


def _images(session: Session, target: str | None, rule: str) -> tuple[list[MadeImage], list[dict[str, Any]]]:
    """The images that can be made here, and descriptors of those whose digests are locked."""
    from klock.layers.compression import compression_named
    from klock.registry.made import index_entry, make_image
    from klock.registry.push import refuse_another_digest
    from klock.targets import Target

    lock = session.read_lockfile()
    wanted = lock.targets if target is None else [session.locked_target(lock, target)]
    here = Target.of_this_machine().platform
    images, others = [], []
    for locked in wanted:
        known = locked.oci_image
        if locked.target.platform != here and target is None and known is not None and known.compression == rule:
            others.append(index_entry(locked, digest=known.digest, size=known.size))
            continue
        made = make_image(locked, session.context, compression_named(rule))
        refuse_another_digest(made, rule)
        images.append(made)
    return images, others
