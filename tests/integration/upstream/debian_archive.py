"""A Debian archive of real packages, signed, as apt fetches it: InRelease, Packages by hash, pool.

greeter depends on libgreeting, which has a configuration file and a maintainer script; speaker stands alone; keymaker
makes a random key when it is installed, as openssh-server and ssl-cert do.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from tests.integration.unprivileged import require_program
from tests.integration.upstream.connections import Answer, Request, conditional

__all__ = ["KEY", "DebianArchive", "file_server", "make_archive"]

KEY: Final = "upstream.asc"
_SCRIPT: Final = "#!/bin/sh\necho {line}\n"
_PACKAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "greeter": {
        "DEBIAN/control": "Depends: libgreeting (>= 1.0)\n",
        "usr/bin/greeter": "#!/bin/sh\ncat /usr/share/libgreeting/text /etc/greeting.conf /var/lib/greeting\n",
    },
    "libgreeting": {
        "DEBIAN/control": "",
        "DEBIAN/conffiles": "/etc/greeting.conf\n",
        "DEBIAN/postinst": "#!/bin/sh\nset -e\necho configured > /var/lib/greeting\n",
        "etc/greeting.conf": "tone = kind\n",
        "usr/share/libgreeting/text": "good morning\n",
    },
    "keymaker": {
        "DEBIAN/control": "",
        "DEBIAN/postinst": "#!/bin/sh\nset -e\nmkdir -p /etc/keys && head -c 16 /dev/urandom > /etc/keys/host\n",
    },
    "speaker": {"DEBIAN/control": "", "usr/bin/speaker": _SCRIPT.format(line="hear, hear")},
}
_RELEASE: Final = {
    "Origin": "Upstream",
    "Label": "Upstream",
    "Suite": "stable",
    "Codename": "stable",
    "Components": "main",
    "Acquire-By-Hash": "yes",
}


class DebianArchive:
    """Serves the folder that `make_archive` returned, below /debian: files with validators and ranges."""

    def __init__(self, folder: Path) -> None:
        self._files = {f"/debian/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}

    def __call__(self, request: Request) -> Answer:
        path = self._files.get(request.path)
        if path is None:
            return Answer(status=404, body=b"not found\n", headers={"Content-Type": "text/plain"})
        return conditional(
            request, Answer(body=path.read_bytes(), headers={"Content-Type": "application/octet-stream"})
        )


@contextmanager
def file_server(folder: Path, address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[str]:
    """Serves the files in `folder` as they are until the block ends; its URL."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, directory=str(folder), **options)  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(address, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def make_archive(folder: Path, packages: Mapping[str, Mapping[str, str]] = _PACKAGES) -> Path:
    """Makes the archive in `folder/debian` and returns that. KEY in it is the public key. `packages` are by name, each
    the files of what `dpkg-deb --build` takes."""
    require_program("apt-ftparchive", package="apt-utils")
    require_program("gpg-agent", package="gpg-agent")
    archive = folder / "debian"
    (archive / "pool").mkdir(parents=True)
    for name, files in packages.items():
        _make_package(folder / "sources", name, files, archive / "pool")
    architecture = _output("dpkg", "--print-architecture").decode().strip()
    suite = archive / "dists/stable"
    indexes = suite / f"main/binary-{architecture}"
    indexes.mkdir(parents=True)
    (indexes / "Packages").write_bytes(_output("apt-ftparchive", "packages", "pool", cwd=archive))
    _call("xz", "--keep", "Packages", cwd=indexes)
    for path in sorted(indexes.iterdir()):
        by_hash = path.parent / "by-hash/SHA256" / hashlib.sha256(path.read_bytes()).hexdigest()
        by_hash.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, by_hash)
    fields = {**_RELEASE, "Architectures": architecture, "ValidTime": "604800"}
    options = [f"--option=APT::FTPArchive::Release::{name}={value}" for name, value in fields.items()]
    (folder / "Release").write_bytes(_output("apt-ftparchive", *options, "release", "dists/stable", cwd=archive))
    _sign(folder / "Release", suite / "InRelease", archive / KEY)
    return archive


def _make_package(sources: Path, name: str, files: Mapping[str, str], pool: Path) -> None:
    tree = sources / name
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o755 if text.startswith("#!") else 0o644)
    fields = {
        "Package": name,
        "Version": "1.0-1",
        "Architecture": "all",
        "Maintainer": "Upstream <upstream@upstream.test>",
        "Description": f"the package {name}",
    }
    with open(tree / "DEBIAN/control", "a") as control:
        control.writelines(f"{key}: {value}\n" for key, value in fields.items())
    _call("dpkg-deb", "--root-owner-group", "--build", str(tree), str(pool / f"{name}_1.0-1_all.deb"))


def _sign(release: Path, signed: Path, public_key: Path) -> None:
    home = release.parent / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase="]
    try:
        _call(*gpg, "--quick-generate-key", "Upstream <upstream@upstream.test>", "ed25519", "sign", "never")
        _call(*gpg, "--output", str(signed), "--clear-sign", str(release))
        _call(*gpg, "--output", str(public_key), "--armor", "--export")
    finally:
        _call("gpgconf", "--homedir", str(home), "--kill", "gpg-agent")


def _call(*command: str, cwd: Path | None = None) -> None:
    _output(*command, cwd=cwd)


def _output(*command: str, cwd: Path | None = None) -> bytes:
    done = subprocess.run(command, cwd=cwd, env=os.environ | {"LC_ALL": "C.UTF-8"}, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stderr.decode(errors='replace')}", pytrace=False)
    return done.stdout
