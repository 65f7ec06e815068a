"""`klock lock`: resolve the image and write the lockfile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from klock.commands.options import image_argument, offline_option, open_project, with_progress
from klock.commands.quick import remember_lock
from klock.printing import say
from klock.progress import Progress
from klock.unchanged.watching import seen

if TYPE_CHECKING:
    from klock.lockfile.model import TargetLock
    from klock.outcomes import Locked

__all__ = ["lock"]


@click.command()
@image_argument
@click.option("--stage", metavar="NAME", help="Make this stage of a Dockerfile; the same as FILE:NAME.")
@click.option(
    "--build-arg",
    "build_args",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Set an ARG of a Dockerfile. NAME alone: to your variable NAME; if there is none, unset the ARG. "
    "The lockfile keeps it.",
)
@click.option(
    "--context", metavar="DIR", help="Where a Dockerfile's COPY takes files from. Default: as locked, or beside it."
)
@click.option("--upgrade", is_flag=True, help="Upgrade everything: packages, base, what shell steps fetch.")
@click.option("--upgrade-package", "upgrade_packages", multiple=True, metavar="NAME", help="Upgrade this package.")
@click.option("--upgrade-base", is_flag=True, help="Look up the base's tag again.")
@click.option("--keep-base", is_flag=True, help="Replace no Python package that the base has.")
@click.option("--strict", is_flag=True, help="Refuse two packages that have one path with different bytes.")
@click.option("--exclude-newer", metavar="DATE", help="Ignore files uploaded to a package index later.")
@click.option("--image-digest", is_flag=True, help="Also lock the digest of the image that `klock push` makes.")
@click.option("--dry-run", is_flag=True, help="Say whether the lockfile would change; write nothing.")
@offline_option
@with_progress
def lock(
    image: str | None,
    *,
    stage: str | None,
    build_args: tuple[str, ...],
    context: str | None,
    upgrade: bool,
    upgrade_packages: tuple[str, ...],
    upgrade_base: bool,
    keep_base: bool,
    strict: bool,
    exclude_newer: str | None,
    image_digest: bool,
    dry_run: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Resolve the image and write the lockfile beside it.

    Keeps the locked versions that still fit the image, unless an --upgrade option asks for newer ones.
    """
    project = open_project(
        _with_stage(image, stage),
        offline=offline,
        progress=progress,
        build_args=dict(map(_argument, build_args)),
        context=context,
    )
    dockerfile = project.session.loaded.image._dockerfile
    notes = dockerfile.notes if dockerfile is not None else ()
    for note in notes:
        say(f"warning: {note}")
    locked = project.lock(
        upgrade=upgrade,
        upgrade_packages=upgrade_packages,
        upgrade_base=upgrade_base,
        keep_base=keep_base,
        strict=strict,
        exclude_newer=exclude_newer,
        image_digest=image_digest,
        dry_run=dry_run,
    )
    # Only now: what a base has for those who build on it (ONBUILD) may ask for one.
    loaded = project.session.loaded
    given = dict(map(_argument, build_args))
    dockerfile = loaded.image._dockerfile
    unasked = dockerfile.unused if dockerfile is not None else ()
    unused = [name for name in unasked if name in given or not loaded.is_dockerfile]
    if unused:
        say(f"warning: the build arguments {', '.join(unused)} have no effect: no ARG names them")
    for line in locked.moved:
        say(line)
    if dry_run:
        say(f"{locked.path.name} would {'change' if locked.would_change else 'not change'}")
        return 0
    watched = seen()
    lines = [_line(target, locked, image_digest=image_digest) for target in locked.lockfile.targets]
    for target, line in zip(locked.lockfile.targets, lines, strict=True):
        say(line)
        if locked.written:
            _say_what_lapses(target)
    if not unused and not notes:
        remember_lock(watched, "\n".join(lines), project.session, locked)
    return 0


def _with_stage(image: str | None, stage: str | None) -> str | None:
    if stage is None:
        return image
    from klock.project import find_image

    return f"{find_image(image).file}:{stage}"


def _argument(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return (name, value) if equals else (name, os.environ.get(name))


def _line(target: TargetLock, locked: Locked, *, image_digest: bool) -> str:
    from klock.lockfile.model import CondaLock
    from klock.words import counted

    state = "written" if locked.written else "unchanged"
    packages = len(target.packages) + sum(len(s.packages) for s in target.steps if isinstance(s, CondaLock))
    layers = f"{counted(len(target.layers), 'layer')}, {counted(packages, 'package')}"
    image = f"\nimage of {target.target}: {target.oci_image.digest}" if image_digest and target.oci_image else ""
    return f"{locked.path.name} {state}: {target.target}, {layers}, {target.fingerprint}{image}"


def _say_what_lapses(target: TargetLock) -> None:
    from klock.locking import lapsing
    from klock.words import in_bytes

    count, size = lapsing(target)
    if count:
        say(
            f"answers that upstream may not give again: {count} ({in_bytes(size)}), only in this machine's store; "
            "`klock vault push DIR` saves them for others",
        )
