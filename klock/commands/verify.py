"""`klock verify`: who vouches for a lockfile, and whether an image is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from klock.commands.options import image_argument, offline_option, open_project
from klock.printing import say, say_note, show

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["verify"]

_BY_DIGEST = "@sha256:"


@click.command()
@click.argument("pushed", metavar="[REGISTRY/NAME@sha256:...]", required=False)
@image_argument
@click.option(
    "--key",
    "keys",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A public key to trust. Default: trusted-keys of [tool.klock].",
)
@offline_option
def verify(pushed: str | None, image: str | None, *, keys: tuple[Path, ...], offline: bool) -> int:
    """Say whether a trusted key signed the lockfile as it is now; or, of an image, whether it is the locked one.

    Without an image klock uses no network. Exit status: 0 if so, 1 if the image is another one or no trusted
    key signed its provenance, 2 if no trusted key signed the lockfile.
    """
    if pushed is not None and _BY_DIGEST in pushed:
        return _verify_image(pushed, image, keys, offline=offline)
    if pushed is not None and (image is not None or _is_in_registry(pushed)):
        raise click.UsageError(f"{pushed} names no image of a registry by its digest: write REGISTRY/NAME@sha256:...")
    from klock import signing

    session = open_project(pushed).session
    trusted = keys or session.settings.trusted_keys
    if not trusted:
        raise click.UsageError("name a key to trust: --key FILE, or trusted-keys in [tool.klock]")
    keyid = signing.verify(session.lockfile, trusted)
    say(f"{session.lockfile.name} is signed, key {keyid[:12]}")
    return 0


def _is_in_registry(written: str) -> bool:
    """Whether this is rather the name of an image in a registry than FILE[:NAME]."""
    from klock.oci.reference import names_registry

    folder = Path(written.partition("/")[0])
    return names_registry(written) and ".py" not in written and not folder.exists()


def _verify_image(pushed: str, image: str | None, keys: Sequence[Path], *, offline: bool) -> int:
    from klock.errors import KlockError
    from klock.oci.reference import Reference
    from klock.oci.writing import open_repository
    from klock.registry.verify import signer_of, verify_image

    if keys and offline:
        raise click.UsageError("--key needs the registry, to see who signed the image: leave out --offline")
    session = open_project(image, offline=offline).session
    lock = session.read_lockfile()
    named = Reference.parse(pushed)
    assert named.digest is not None
    repository = None if offline else open_repository(named, mirrors=session.context.mirrors, actions="pull")
    with session.store.in_use():
        verified = verify_image(named.digest, lock, session.context, repository)
    if not verified.is_known:
        raise KlockError(
            f"nothing on this machine says which digest the image of {session.lockfile.name} has",
            hint="run `klock sync`, or lock the digest: klock lock --image-digest; or leave out --offline",
        )
    findings = list(verified.findings)
    trusted = keys or session.settings.trusted_keys
    signed = ""
    if trusted and repository is not None and not findings:
        keyid, why = signer_of(named.digest, session.lockfile, trusted, repository)
        signed = f", signed by key {keyid[:12]}" if keyid else ""
        findings += [] if keyid else [f"no trusted key vouches for it: {why}"]
    elif trusted and not findings:
        say_note("with --offline klock does not check who signed the image")
    for finding in findings:
        show(f"{pushed}: {finding}")
    if findings:
        return 1
    say(f"{pushed} is the image of {session.lockfile.name}: {', '.join(verified.targets)}{signed}")
    return 0
