"""`klock export squashfs`: the environment as one file that clusters' runtimes mount."""

from __future__ import annotations

from pathlib import Path

import click

from klock.commands.options import (
    compression_option,
    frozen_option,
    image_argument,
    offline_option,
    open_project,
    target_option,
    with_progress,
)
from klock.printing import say
from klock.progress import Progress

__all__ = ["squashfs"]


@click.command()
@click.argument("output", metavar="OUTPUT", type=click.Path(path_type=Path))
@image_argument
@click.option(
    "--mount-point",
    "mount_points",
    metavar="PATH",
    multiple=True,
    help="Add this folder, for the cluster to mount something on; may be repeated.",
)
@compression_option("How to compress it. Default: gzip, which every kernel reads.")
@frozen_option
@target_option
@offline_option
@with_progress
def squashfs(
    output: Path,
    image: str | None,
    *,
    mount_points: tuple[str, ...],
    compression: str,
    frozen: bool,
    target: str | None,
    offline: bool,
    progress: Progress,
) -> int:
    """Write the environment as one squashfs file, for charliecloud and apptainer.

    One lockfile gives one file, byte for byte, with one version of mksquashfs, which must be installed.
    """
    from klock.export.mount_points import folder_named
    from klock.export.squashfs import refuse_output, write_squashfs
    from klock.words import in_bytes

    refuse_output(output)
    points = [folder_named(path) for path in mount_points]
    project = open_project(image, offline=offline, progress=progress)
    session, lock = project.session, project.read_lockfile(frozen=frozen)
    locked = session.locked_target(lock, target)
    with session.store.in_use():
        made = write_squashfs(locked, session.context, output, compression=compression, mount_points=points)
    say(f"{output} written by {made.program}: {locked.target}, {in_bytes(made.size)}, {made.digest}")
    return 0
