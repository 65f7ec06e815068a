"""Debian packages by hash: bases made of nothing else (`from_debian`), and packages added to any base (`apt_install`).

suite, packages --apt, private root--.
the environment's own apt sources ---+--> DebPackage (archive, path, size, SHA-256) --> .debs in the store
                                     .--------------------------------------------------'
                                     '--> flat repository --> mmdebstrap, or apt-get in the sandbox, offline
"""

from __future__ import annotations

from klock.debian.install import fetch_debs, install_apt, resolve_apt

__all__ = ["fetch_debs", "install_apt", "resolve_apt"]
