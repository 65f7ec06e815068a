"""What makes a command trust certificates: variables, small configuration files, and the distributions' own bundles.

A command whose network is recorded speaks TLS with the recorder, whose authority is made for that one run. Most
programs take its certificate from a variable. Those that do not, or lose their variables (`su -`, `sudo`, `env -i`),
read the bundle of their distribution. A *trusting layer* has the bundles with the certificate added. It lies just below
the writable layer, so that a package's scripts can replace a bundle as they please, and shadows the bundles of the
tree, in which nothing is written. When a command changes a bundle in some other way (`chown -R`), overlayfs copies it
up with the certificate, which `forget` takes out again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from klock.workshop.overlay import resolve

__all__ = ["CERTIFICATES", "FOLDER", "VARIABLES", "TrustingLayer", "host_files", "recorded_files", "variables_of"]

FOLDER: Final = "/run/klock"
"""Where a command finds the files below; the folder is gone when it ends."""

CERTIFICATES: Final = f"{FOLDER}/ca.pem"
"""What a command trusts for TLS (PEM)."""
_APT: Final = f"{FOLDER}/apt.conf"
_WGET: Final = f"{FOLDER}/wgetrc"

VARIABLES: Final[Mapping[str, str]] = {
    "SSL_CERT_FILE": "OpenSSL, Python, Go, Ruby, uv and others",
    "CURL_CA_BUNDLE": "curl",
    "REQUESTS_CA_BUNDLE": "Python's requests, conda",
    "PIP_CERT": "pip",
    "GIT_SSL_CAINFO": "git",
    "NODE_EXTRA_CA_CERTS": "node, npm",
    "CARGO_HTTP_CAINFO": "cargo",
    "AWS_CA_BUNDLE": "the AWS clients",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": "gcloud",
    "PERL_LWP_SSL_CA_FILE": "Perl's LWP",
    "DENO_CERT": "deno",
    "HTTPLIB2_CA_CERTS": "Python's httplib2",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "gRPC",
    "BUNDLE_SSL_CA_CERT": "Ruby's bundler",
    "COMPOSER_CAFILE": "PHP's composer",
    "HEX_CACERTS_PATH": "Elixir's mix",
    "JULIA_SSL_CA_ROOTS_PATH": "Julia",
    "NIX_SSL_CERT_FILE": "nix",
}
"""Variables that name a file of certificates, and who reads them."""

_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora and Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine's libraries, and what is built like BSD
)

# Signatures and certificates of upstream do expire; what is locked by hash does not.
_APT_CONFIGURATION: Final = f"""\
Acquire::https::CAInfo "{CERTIFICATES}";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
"""


def host_files(certificates: bytes) -> dict[str, bytes]:
    """The files for FOLDER, by their paths, of a command with the host's network, which trusts what the host trusts."""
    return {CERTIFICATES: certificates}


def recorded_files(root: str, environment: Mapping[str, str], certificate: bytes) -> dict[str, bytes]:
    """The same for a command whose network is recorded. What its environment tells apt and wget stays in force."""
    apt = environment.get("APT_CONFIG", "")
    included = f'#include "{apt}";\n' if apt and '"' not in apt and os.path.isfile(resolve(root, apt)) else ""
    wget = _content(resolve(root, environment.get("WGETRC") or f"{environment.get('HOME', '/root')}/.wgetrc"))
    return {
        CERTIFICATES: certificate,
        _APT: (included + _APT_CONFIGURATION).encode("utf-8", "surrogateescape"),
        _WGET: wget + b"\n" * bool(wget) + f"ca_certificate = {CERTIFICATES}\n".encode(),
    }


def variables_of(files: Iterable[str]) -> dict[str, str]:
    """The variables that name these files."""
    named = {**dict.fromkeys(VARIABLES, CERTIFICATES), "APT_CONFIG": _APT, "WGETRC": _WGET}
    return {name: path for name, path in named.items() if path in files}


class TrustingLayer:
    """A folder to mount above the tree, with its bundles and the certificate in each; empty where it has none."""

    def __init__(self, folder: str, tree: str, certificate: bytes) -> None:
        """`folder` is empty, `tree` is where the layers below are seen as one."""
        self._folder = folder
        self._tree = tree
        self._addition = b"\n" + certificate.strip(b"\n") + b"\n"
        try:
            self._paths = {path for bundle in _BUNDLES if (path := self._add(bundle)) is not None}
        except OSError as error:
            # tmpfs does not keep every attribute. Better to trust less than to show an /etc that is not the tree's.
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._paths = set()

    @property
    def is_empty(self) -> bool:
        return not self._paths

    def forget(self, upper: Path) -> None:
        """Takes the certificate out of the bundles that were copied up into the writable layer `upper`."""
        for path in self._paths:
            # Folders of the writable layer may be symlinks by now, as the command pleased.
            copy = resolve(str(upper), os.path.dirname(path)) + "/" + os.path.basename(path)
            if _is_file(copy) and self._addition in (content := _content(copy)):
                with open(copy, "r+b") as file:
                    file.write(content.replace(self._addition, b""))
                    file.truncate()

    def _add(self, bundle: str) -> str | None:
        original = resolve(self._tree, bundle)
        path = original.removeprefix(self._tree)
        copy = self._folder + path
        if not _is_file(original) or os.path.exists(copy):
            return None
        self._make_folders(os.path.dirname(path))
        Path(copy).write_bytes(_content(original) + self._addition)
        _copy_metadata(original, copy)
        # Writing into a folder changed its time.
        above = os.path.dirname(path)
        while above != "/":
            _copy_times(self._tree + above, self._folder + above)
            above = os.path.dirname(above)
        _copy_times(self._tree, self._folder)
        return path

    def _make_folders(self, path: str) -> None:
        """Makes a folder and those above it as they are in the tree: overlayfs shows the topmost folder's own state."""
        if path.strip("/"):
            self._make_folders(os.path.dirname(path))
            if os.path.isdir(self._folder + path):
                return
            os.mkdir(self._folder + path)
        _copy_metadata(self._tree + path, self._folder + path)


def _copy_metadata(original: str, copy: str) -> None:
    status = os.stat(original)
    os.chown(copy, status.st_uid, status.st_gid)
    os.chmod(copy, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(original):
        value = os.getxattr(original, name)
        with contextlib.suppress(PermissionError):  # labels of security modules, which are the host's
            os.setxattr(copy, name, value)
    _copy_times(original, copy)


def _copy_times(original: str, copy: str) -> None:
    status = os.stat(original)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""
