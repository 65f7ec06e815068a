"""Asking apt which packages a suite and some names come to, in a folder of its own: the host's state takes no part.

Works without privileges. The archive's signature is checked with the host's copy of Debian's keys, and each file in it
has a SHA-256.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.debian.archive import parse_uris, sources_list
from klock.errors import EngineError, FetchError, KlockError, ResolutionError
from klock.lockfile.model import DebPackage
from klock.words import listed

__all__ = ["explain", "resolve_suite"]

_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ROOT_PACKAGES: Final = ("?essential", "?priority(required)", "apt")
_NEEDLESS: Final = "usrmerge"
"""A program that converts old systems, with all of perl. A new tree has the merged layout from the start."""
_INSTEAD: Final = "usr-is-merged"

_UNKNOWN: Final = re.compile(r"Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation candidate")
_NO_VERSION: Final = re.compile(r"Version '([^']*)' for '([^']*)' was not found")
_NO_SUITE: Final = re.compile(r"does not have a Release file|404 +Not Found")

_CONFIGURATION: Final = """\
Dir "{root}/";
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc "{root}/etc";
Dir::Log "{root}/log";
Dir::Bin::methods "/usr/lib/apt/methods";
Dir::Bin::dpkg "/usr/bin/dpkg";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "3";
"""


def resolve_suite(
    suite: str,
    packages: Sequence[str],
    *,
    architecture: str,
    archives: Mapping[str, str],
    ca_bundle: Path | None = None,
) -> tuple[DebPackage, ...]:
    """The packages of the smallest tree of `suite` that has apt and `packages`, without recommended ones.

    That is what is essential, what has priority required, apt, and what all these depend on.
    Raises ResolutionError for an unknown package or suite, FetchError when an archive does not answer, EngineError when
    the host has no apt or no keys.
    """
    if shutil.which("apt-get") is None:
        raise EngineError(
            "from_debian needs apt on this machine to resolve packages", hint="use a base from a registry instead"
        )
    if not Path(_KEYRING).exists():
        raise EngineError(
            f"there are no Debian keys at {_KEYRING}", hint="run `apt-get install debian-archive-keyring`"
        )
    with tempfile.TemporaryDirectory(prefix="klock-apt-") as folder:
        root = Path(folder)
        environment = _prepare(root, suite, architecture, archives, ca_bundle)
        _apt(["update"], environment, suite)
        wanted = [*_ROOT_PACKAGES, *packages]
        debs = parse_uris(_simulate(wanted, environment, suite), archives=archives)
        if _NEEDLESS not in packages and any(deb.name == _NEEDLESS for deb in debs):
            debs = parse_uris(_simulate([*wanted, _INSTEAD], environment, suite), archives=archives)
    return debs


def explain(output: str, *, where: str) -> KlockError:
    """What apt's messages mean. `where` says which archive or environment was asked."""
    if match := _NO_VERSION.search(output):
        return ResolutionError(
            f"{where}: there is no version {match[1]!r} of the package {match[2]!r}",
            hint="leave the version out: an archive keeps only the newest, and the lockfile pins it",
        )
    if match := _UNKNOWN.search(output):
        name = match[1] or match[2]
        return ResolutionError(f"{where}: there is no package {name!r}", hint="check the name")
    complaints = [line.strip() for line in output.splitlines() if line.strip()][-20:]
    return ResolutionError(
        f"{where}: apt finds no way to install the packages\n" + "\n".join(f"  | {line}" for line in complaints)
    )


def _prepare(
    root: Path, suite: str, architecture: str, archives: Mapping[str, str], ca_bundle: Path | None
) -> dict[str, str]:
    for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "log"):
        (root / name).mkdir(parents=True)
    (root / "etc/sources.list.d").mkdir()
    (root / "etc/trusted.gpg.d").mkdir()
    (root / "state/status").touch()
    (root / "etc/sources.list").write_text(sources_list(suite, archives, keyring=_KEYRING))
    configuration = _CONFIGURATION.format(root=root, architecture=architecture)
    if authority := ca_bundle or os.environ.get("SSL_CERT_FILE"):
        configuration += f'Acquire::https::CAInfo "{authority}";\n'
    (root / "apt.conf").write_text(configuration)
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {
        **proxies,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "APT_CONFIG": str(root / "apt.conf"),
        "TMPDIR": str(root),
    }


def _simulate(packages: Sequence[str], environment: Mapping[str, str], suite: str) -> str:
    return _apt(["install", "--yes", "--print-uris", "--", *packages], environment, suite)


def _apt(arguments: Sequence[str], environment: Mapping[str, str], suite: str) -> str:
    done = subprocess.run(
        ["apt-get", *arguments],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    if arguments[0] != "update":
        raise explain(done.stderr, where=f"Debian {suite}")
    if _NO_SUITE.search(done.stderr):
        raise ResolutionError(
            f"the Debian archive has no suite {suite!r}",
            hint="write a suite such as bookworm or trixie; for one of archive.debian.org set debian-mirror",
        )
    complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err"))]
    raise FetchError(
        f"cannot read the Debian archive for {suite}:" + listed(complaints, most=5),
        hint="check the network, or set debian-mirror",
    )
