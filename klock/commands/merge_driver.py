"""`klock merge-driver`: git's merges of lockfiles."""

from __future__ import annotations

from pathlib import Path

import click

from klock.commands.options import with_progress
from klock.printing import say
from klock.progress import Progress

__all__ = ["merge_driver"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("merge-driver")
@click.argument("ancestor", type=_FILE, required=False)
@click.argument("ours", type=_FILE, required=False)
@click.argument("theirs", type=_FILE, required=False)
@click.argument("lockfile", type=click.Path(path_type=Path), required=False)
@click.option("--install", "installs", is_flag=True, help="Have the git repository of this folder use it.")
@click.option("--local", "locally", is_flag=True, help="With --install: in this clone alone; nothing to commit.")
@with_progress
def merge_driver(
    ancestor: Path | None,
    ours: Path | None,
    theirs: Path | None,
    lockfile: Path | None,
    *,
    installs: bool,
    locally: bool,
    progress: Progress,
) -> int:
    """Merge lockfiles of two branches for git; --install has git use it.

    Takes independent changes from both. Locks the others again, if the image is the same in both. Writes OURS. Exit
    status: 0 when it is merged, 1 when you still have to run `klock lock`.
    """
    from klock.merging import ATTRIBUTE, install, merge_files

    if locally and not installs:
        raise click.UsageError("--local is for --install: klock merge-driver --install --local")
    if installs and locally:
        say(f"git uses klock to merge lockfiles in this clone: {ATTRIBUTE!r} is in {install(Path.cwd(), locally=True)}")
        return 0
    if installs:
        file = install(Path.cwd())
        say(
            f"git uses klock to merge lockfiles: {ATTRIBUTE!r} is in {file.name}; commit it. "
            "Run this command in every other clone, too"
        )
        return 0
    if ancestor is None or ours is None or theirs is None or lockfile is None:
        raise click.UsageError("git calls it with %O %A %B %P; to have it do so, run klock merge-driver --install")
    merged = merge_files(ancestor, ours, theirs, lockfile.absolute(), progress=progress)
    if merged.relocked:
        say(f"{lockfile}: both sides changed {', '.join(merged.dependent)}: locked again")
    if merged.is_clean:
        return 0
    say(f"{lockfile}: both sides changed {', '.join(merged.dependent)}; it has our side now")
    say("")
    upgrade = "".join(f" --upgrade-package {name}" for name in merged.theirs[:10])
    say(f"hint: when the image file is merged, run `klock lock{upgrade}`, then `git add {lockfile}`")
    return 1
