"""Where bytes are fetched from instead of their usual place. Digests stay what they are, so a mirror needs no trust."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from klock.values import dataclass, field

__all__ = ["DEBIAN_ARCHIVES", "Mirrors"]

DEBIAN_ARCHIVES: Final[Mapping[str, str]] = {
    "debian": "http://deb.debian.org/debian",
    "debian-security": "http://deb.debian.org/debian-security",
}
"""Debian's archives by the name a lockfile gives them. Plain http, as Debian has it: signatures and hashes protect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """`registries`: a registry's name to the URL asked instead of it (`{"docker.io": "http://127.0.0.1:5000"}`); a path
    in the URL is put before the repository's name. `debian`: the URLs of Debian's archives, by their names.
    `ca_bundle`: a PEM file of certificates that are trusted besides the host's."""

    registries: Mapping[str, str] = field(default_factory=dict)
    debian: Mapping[str, str] = field(default_factory=lambda: DEBIAN_ARCHIVES)
    ca_bundle: Path | None = None

    @classmethod
    def from_settings(
        cls,
        *,
        registries: Mapping[str, str] | None = None,
        debian: str | None = None,
        ca_bundle: Path | None = None,
    ) -> Mirrors:
        """What a project's settings say. `debian` replaces the main archive only: security updates keep coming from
        Debian, as most mirrors do not carry them."""
        archives = dict(DEBIAN_ARCHIVES)
        if debian is not None:
            archives["debian"] = debian.rstrip("/")
        return cls(
            registries={name: url.rstrip("/") for name, url in (registries or {}).items()},
            debian=archives,
            ca_bundle=ca_bundle,
        )
