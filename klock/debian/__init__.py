"""Debian packages by hash: bases made of nothing else (`from_debian`), and packages added to any base (`apt_install`).

suite, packages --the suite's own apt--.
the environment's own apt sources -----+--> DebPackage (archive, path, size, SHA-256) --> .debs in the store
                                       .--------------------------------------------------'
                                       +--> tools, unpacked by klock --> dpkg, apt-get in the sandbox, offline: a base
                                       '--> flat repository --> apt-get in the sandbox, offline: a layer
"""

from __future__ import annotations

from klock.debian.install import fetch_debs, install_apt, resolve_apt

__all__ = ["fetch_debs", "install_apt", "resolve_apt"]
