"""Names that lead to this machine: an /etc/hosts and a certificate authority that only chosen processes see.

    names = PrivateNames(folder, {"my-pypi.com": "127.83.0.1"})
    names.server_context("my-pypi.com")     # for a server that says it is my-pypi.com
    names.ca_certificate                    # who vouches for it, a PEM file
    account.run(["curl", "https://my-pypi.com/"], cwd=folder, enter=names.enter)

Processes started so have a mount namespace of their own (mount_namespaces(7)), so nothing of the machine changes.
It needs root.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.unprivileged import require_program

__all__ = ["PrivateNames"]

_UNSHARE = ("unshare", "--mount", "--propagation", "private", "--")
_ENTER = 'mount --bind "$1" /etc/hosts; shift; exec "$@"'


class PrivateNames:
    """`names` are host names with the loopback address of each."""

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._folder = folder
        self._openssl = require_program("openssl", package="openssl")
        self._hosts = folder / "hosts"
        lines = "".join(f"{address} {name}\n" for name, address in names.items())
        self._hosts.write_text(Path("/etc/hosts").read_text() + lines)
        self._hosts.chmod(0o644)
        self.ca_certificate = folder / "ca.pem"
        self._make_key("ca")
        subject = ["-subj", "/CN=klock test authority", "-days", "7", "-sha256"]
        extensions = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        self._call("req", "-x509", "-new", "-key", "ca.key", "-out", "ca.pem", *subject, *extensions)
        self.ca_certificate.chmod(0o644)

    def server_context(self, name: str) -> ssl.SSLContext:
        """A TLS context with a certificate for `name`, or for an address, signed by the authority."""
        self._make_key(name)
        self._call("req", "-new", "-key", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        kind = "IP" if name[-1].isdigit() else "DNS"
        (self._folder / "extensions").write_text(
            f"subjectAltName={kind}:{name}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions", "-days", "7"]
        self._call("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-sha256", *signed)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        return context

    @property
    def enter(self) -> tuple[str, ...]:
        """For `Account.run` and `klock`: where the names are known. The tests must run as root."""
        return (*_UNSHARE, "sh", "-e", "-c", _ENTER, "sh", str(self._hosts))

    def _make_key(self, name: str) -> None:
        self._call("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    def _call(self, *arguments: str) -> None:
        command = [self._openssl, *arguments]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)}\n{done.stderr}", pytrace=False)
