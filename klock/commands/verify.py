"""`klock verify`: who vouches for a lockfile."""

from __future__ import annotations

from pathlib import Path

import click

from klock.commands.options import image_argument, open_project
from klock.commands.printing import say

__all__ = ["verify"]


@click.command()
@image_argument
@click.option(
    "--key",
    "keys",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A public key to trust. Default: trusted-keys of [tool.klock].",
)
def verify(image: str | None, *, keys: tuple[Path, ...]) -> int:
    """Say whether a trusted key signed the lockfile as it is now. Uses no network.

    Exit status: 0 when one did, 2 when none did.
    """
    from klock import signing

    session = open_project(image).session
    trusted = keys or session.settings.trusted_keys
    if not trusted:
        raise click.UsageError("name a key to trust: --key FILE, or trusted-keys in [tool.klock]")
    keyid = signing.verify(session.lockfile, trusted)
    say(f"{session.lockfile.name} is signed, key {keyid[:12]}")
    return 0
