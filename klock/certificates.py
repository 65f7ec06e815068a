"""The certificates klock trusts: the host's, and those of the project's `ca-bundle` besides them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from klock.errors import KlockError
from klock.store import Store

__all__ = ["host_bundle", "joined_bundle"]

_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",
)


def host_bundle(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The PEM file of what this machine trusts: that of SSL_CERT_FILE, or else of the system."""
    configured = environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    candidates = [configured, *_BUNDLES] if configured else _BUNDLES
    return next((path for path in map(Path, candidates) if path.is_file()), None)


def joined_bundle(ca_bundle: Path, store: Store, environ: Mapping[str, str] = os.environ) -> Path:
    """One PEM file with the host's certificates and those of `ca_bundle`, for programs that read a single file.

    It is a blob of the store, so that equal ones are one. Raises KlockError when `ca_bundle` cannot be read.
    """
    host = host_bundle(environ)
    try:
        ours = ca_bundle.read_bytes()
    except OSError as error:
        raise KlockError(f"cannot read the ca-bundle {ca_bundle}: {error.strerror or error}") from error
    if b"-----BEGIN CERTIFICATE-----" not in ours:
        raise KlockError(f"the ca-bundle {ca_bundle} has no certificate in it", hint="name a PEM file")
    theirs = host.read_bytes().rstrip(b"\n") + b"\n" if host else b""
    return store.blob_path(store.add_bytes(theirs + ours))
