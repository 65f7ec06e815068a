"""The way out for uv and git, which run inside: through the recorder, which adds credentials to what they read."""

from __future__ import annotations

from pathlib import Path

from klock.packages.credentials import Credentials
from klock.recorder import Doors, Passes
from klock.store import Store

__all__ = ["passes_with"]


def passes_with(
    credentials: Credentials, *, store: Store, ca_bundle: Path | None = None, local_hosts: tuple[str, ...] = ()
) -> Passes:
    """To any server, and to those on this machine that the user names; credentials go to the origins they are for."""
    return Passes(
        store=store,
        doors=Doors(origins=credentials.named),
        authorize=credentials.headers,
        secrets=credentials.passwords,
        ca_bundle=ca_bundle,
        local_hosts=local_hosts,
    )
