"""`klock sign`: vouch for a lockfile."""

from __future__ import annotations

from pathlib import Path

import click

from klock.commands.options import image_argument, open_project
from klock.printing import say

__all__ = ["sign"]


@click.command()
@image_argument
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    envvar="KLOCK_SIGNING_KEY",
    show_envvar=True,
    metavar="FILE",
    help="The private key: ed25519, PEM.",
)
@click.option("--make-key", type=click.Path(path_type=Path), metavar="FILE", help="Make a key pair: FILE and FILE.pub.")
def sign(image: str | None, *, key: Path | None, make_key: Path | None) -> int:
    """Sign the lockfile as it is; the signature is written beside it.

    The signature is a DSSE envelope. List the public key in trusted-keys of [tool.klock], and `klock sync --frozen`
    refuses a lockfile that no such key signed.
    """
    from klock import signing

    if make_key is not None:
        public, keyid = signing.make_key(make_key)
        say(f"{make_key} written, keep it secret; {public} written, key {keyid[:12]}")
        return 0
    if key is None:
        raise click.UsageError("name a key: --key FILE, or KLOCK_SIGNING_KEY; make one: klock sign --make-key FILE")
    session = open_project(image).session
    session.read_lockfile()
    keyid = signing.sign(session.lockfile, key, session.environ)
    say(f"{signing.signature_path(session.lockfile).name} written, key {keyid[:12]}")
    return 0
