"""Debian packages by hash: bases made of nothing else (`from_debian`), and packages added to any base (`apt_install`).

suite, packages    --apt, private root--.
apt sources of the environment ---------+--> DebPackage (URL, size, SHA-256) --> .debs in the store
                                        .----------------------------------------'
                                        '--> flat repository --> mmdebstrap, or apt-get in the sandbox, without a network
"""

from __future__ import annotations
