"""`klock lock`: resolve the image and write the lockfile."""

from __future__ import annotations

import click

from klock.commands.session import image_argument, offline_option, open_session, progress_options
from klock.errors import KlockError
from klock.lockfile.model import Lockfile, TargetLock
from klock.progress import Progress

__all__ = ["lock"]


@click.command()
@image_argument
@click.option("--upgrade", is_flag=True, help="Let everything move: packages, base, what shell steps make.")
@click.option("--upgrade-package", "upgrade_packages", multiple=True, metavar="NAME", help="Let this package move.")
@click.option("--upgrade-base", is_flag=True, help="Look up the base's tag again.")
@click.option("--dry-run", is_flag=True, help="Say what would change, write nothing.")
@offline_option
@progress_options
def lock(
    image: str | None,
    *,
    upgrade: bool,
    upgrade_packages: tuple[str, ...],
    upgrade_base: bool,
    dry_run: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Resolve the image and write the lockfile beside it.

    What is locked already and still satisfies the image is kept; the --upgrade options let it move.
    """
    from packaging.utils import canonicalize_name

    from klock import lockfile
    from klock.locking import Upgrade, lock_image
    from klock.locking.moved import moved
    from klock.words import counted

    session = open_session(image, offline=offline, progress=progress)
    previous = lockfile.read(session.lockfile)
    moving = Upgrade(
        everything=upgrade, base=upgrade_base, packages=frozenset(canonicalize_name(n) for n in upgrade_packages)
    )
    _check_names(upgrade_packages, previous)
    locked = lock_image(
        session.loaded.image,
        session.targets,
        previous=previous,
        context=session.context,
        upgrade=moving,
    )
    for line in moved(previous, locked) if previous else ():
        click.echo(line, err=True)
    if dry_run:
        from klock.lockfile.document import to_text

        changed = previous is None or to_text(previous) != to_text(locked)
        click.echo(f"{session.lockfile.name} would {'change' if changed else 'not change'}", err=True)
        return 0
    changed = locked != previous and lockfile.write(locked, session.lockfile)
    for target in locked.targets:
        layers = f"{counted(len(target.layers), 'layer')}, {counted(len(target.packages), 'package')}"
        state = "written" if changed else "unchanged"
        click.echo(f"{session.lockfile.name} {state}: {target.target}, {layers}, {target.fingerprint}", err=True)
        if changed:
            _say_what_lapses(target)
    return 0


def _say_what_lapses(target: TargetLock) -> None:
    from klock.locking.shell_steps import lapsing
    from klock.words import in_bytes

    count, size = lapsing(target)
    if count:
        click.echo(
            f"answers that upstream may not give again: {count} ({in_bytes(size)}), kept in the store here; "
            "`klock vault push DIR` saves them for others",
            err=True,
        )


def _check_names(names: tuple[str, ...], previous: Lockfile | None) -> None:
    """Raises KlockError for a name that is not locked: most likely it is misspelled."""
    from packaging.utils import canonicalize_name

    locked = {package.name for target in (previous.targets if previous else ()) for package in target.packages}
    for name in names:
        if canonicalize_name(name) not in locked:
            raise KlockError(f"--upgrade-package {name}: there is no such package in the lockfile")
