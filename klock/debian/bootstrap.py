"""A tree made of some .debs and of nothing else, by mmdebstrap, offline: the same bytes for root and for anyone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from klock.bases.mirrors import DEBIAN_ARCHIVES
from klock.debian.flat_repository import INDEX_SCRIPT, lay_out
from klock.digests import Digest
from klock.errors import EngineError
from klock.layers.normalisation import MTIME
from klock.lockfile.model import DebPackage
from klock.store import Store
from klock.targets import Target

__all__ = ["bootstrap", "check_host"]

_PROGRAMS: Final = {"mmdebstrap": "mmdebstrap", "apt-get": "apt", "dpkg-deb": "dpkg"}
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MERGED_USR: Final = "/usr/share/mmdebstrap/hooks/merged-usr"
_CHUNK: Final = 1 << 20

_SOURCES: Final = """\
Types: deb
URIs: {debian}
Suites: {suites}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def check_host(architecture: str) -> None:
    """Raises EngineError, with the way out, when this machine cannot make such a tree."""
    for program, package in _PROGRAMS.items():
        if shutil.which(program, path=_PATH) is None:
            raise EngineError(
                f"from_debian needs {program} on this machine",
                hint=f"run `apt-get install {package}`, or use a base from a registry",
            )
    here = Target.of_this_machine()
    emulator = Path(f"/proc/sys/fs/binfmt_misc/qemu-{Target(architecture=architecture).machine}")
    if architecture != here.architecture and not emulator.exists():
        raise EngineError(
            f"this {here.architecture} machine cannot make a Debian base for {architecture}: it cannot run the "
            "base's programs",
            hint="install qemu-user-static, or use a base from a registry",
        )


@contextlib.contextmanager
def bootstrap(suite: str, debs: Sequence[DebPackage], *, store: Store) -> Iterator[tuple[Path, Digest]]:
    """The tree as a tar archive in the store's temporary folder, and the digest of it. All `debs` are in the store.

    `hostname` and `resolv.conf` are empty, the apt sources are Debian's for the suite, /dev is left to the engine.
    Raises EngineError when mmdebstrap fails, with the end of what it said.
    """
    architecture = next(deb.architecture for deb in debs if deb.architecture != "all")
    check_host(architecture)
    # In a folder for everyone: an unprivileged mmdebstrap reads as another user.
    with tempfile.TemporaryDirectory(prefix="klock-debian-") as folder, store.temporary_file() as archive:
        root = Path(folder)
        root.chmod(0o755)
        repository = root / "repository"
        lay_out(debs, repository, store=store)
        _write_index(repository, suite)
        command = _command(suite, architecture, debs, repository)
        with open(root / "log", "w+b") as log, open(archive, "wb") as output:
            digest = _run(command, output, log, root)
        yield archive, digest


def _write_index(repository: Path, suite: str) -> None:
    index = subprocess.run(
        ["sh", "-ec", INDEX_SCRIPT],
        env={"repository": str(repository), "PATH": _PATH, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if index.returncode != 0:
        raise EngineError(f"dpkg-deb cannot read a locked package: {index.stderr.decode('utf-8', 'replace').strip()}")
    files = {"Packages": index.stdout}
    hashes = "".join(f" {hashlib.sha256(c).hexdigest()} {len(c)} {name}\n" for name, c in files.items())
    files["Release"] = f"Suite: {suite}\nCodename: {suite}\nSHA256:\n{hashes}".encode()
    for name, content in files.items():
        (repository / name).write_bytes(content)
        (repository / name).chmod(0o644)


def _command(suite: str, architecture: str, debs: Sequence[DebPackage], repository: Path) -> list[str]:
    names = sorted({deb.name for deb in debs})
    # base-files brings the merged layout itself where there is no such package among them.
    hooks = [f"--hook-dir={_MERGED_USR}"] if "usr-is-merged" in names and Path(_MERGED_USR).is_dir() else []
    return [
        "mmdebstrap",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--variant=essential",
        "--format=tar",
        f"--architectures={architecture}",
        f"--include={','.join(names)}",
        "--skip=output/dev",
        *hooks,
        f"--customize-hook={_customization(suite)}",
        suite,
        "-",
        f"deb [trusted=yes] copy:{repository} ./",
    ]


def _customization(suite: str) -> str:
    suites = suite if suite in ("sid", "unstable", "experimental") else f"{suite} {suite}-updates"
    sources = _SOURCES.format(debian=DEBIAN_ARCHIVES["debian"], suites=suites)
    if suites != suite:
        sources += "\n" + _SOURCES.format(debian=DEBIAN_ARCHIVES["debian-security"], suites=f"{suite}-security")
    lists = '"$1"/etc/apt/sources.list.d'
    return "; ".join(
        [
            "set -eu",
            # mmdebstrap copies the host's, modes included, for its own use of the network.
            'rm -f "$1"/etc/hostname "$1"/etc/resolv.conf',
            'touch "$1"/etc/hostname "$1"/etc/resolv.conf',
            f'rm -rf "$1"/etc/apt/sources.list {lists}/*',
            f"printf %s {shlex.quote(sources)} > {lists}/debian.sources",
        ]
    )


def _run(command: Sequence[str], output: IO[bytes], log: IO[bytes], folder: Path) -> Digest:
    hasher = hashlib.sha256()
    process = subprocess.Popen(
        command,
        env={
            "PATH": _PATH,
            "LC_ALL": "C.UTF-8",
            "SOURCE_DATE_EPOCH": str(MTIME),
            "TMPDIR": str(folder.parent),
            "HOME": "/nonexistent",
            "USER": _user_name(),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        umask=0o022,
    )
    assert process.stdout is not None
    try:
        while chunk := process.stdout.read(_CHUNK):
            hasher.update(chunk)
            output.write(chunk)
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        process.stdout.close()
    if status != 0:
        log.seek(0)
        lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        raise EngineError(
            f"mmdebstrap failed with status {status}:\n  " + "\n  ".join(lines[-15:]),
            hint=None
            if os.geteuid() == 0
            else "install uidmap and allow user namespaces, with ranges of ids for you in /etc/subuid and /etc/subgid",
        )
    return "sha256:" + hasher.hexdigest()


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
