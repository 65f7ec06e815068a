"""What a suite has: the host's apt fetches the lists of its archives and checks their signatures, and the suite's own
apt, in the workshop and without network, says which packages the names come to.

The host's apt works in a folder of its own, without privileges, with none of the host's configuration: the host's state
takes no part, and neither does the version of its apt, which only chooses what the suite's own apt runs on. Signatures
are checked with the host's copy of Debian's keys, and each file in an archive has a SHA-256.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.debian.archive import parse_uris, sources_list
from klock.errors import EngineError, FetchError, KlockError, ResolutionError
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.lockfile.model import DebPackage
from klock.values import dataclass
from klock.words import listed
from klock.workshop.protocol import Command, Mount, Workspace

__all__ = ["Lists", "explain", "known_names", "prepare", "required_names"]

_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_NEEDLESS: Final = "usrmerge"
"""A program that converts old systems, with all of perl. A new tree has the merged layout from the start."""
_INSTEAD: Final = "usr-is-merged"

_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}

_UNKNOWN: Final = re.compile(r"Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation candidate")
_NO_VERSION: Final = re.compile(r"Version '([^']*)' for '([^']*)' was not found")
_NO_SUITE: Final = re.compile(r"does not have a Release file|404 +Not Found")

_INSIDE: Final = "/run/klock/suite"
"""Where the suite's apt finds the lists."""
_RESOLVE: Final = f"""\
apt-get -c={_INSIDE}/inside.conf install --yes --print-uris -- "$@" 2> /run/klock-errors || {{
    status=$?
    cat /run/klock-errors
    exit $status
}}
"""

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
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The lists of a suite and its updates, signed, in a folder in which apt finds its way."""

    suite: str
    archives: Mapping[str, str]
    folder: Path
    required: frozenset[str] = frozenset()

    @classmethod
    def fetch(
        cls, suite: str, *, architecture: str, archives: Mapping[str, str], ca_bundle: Path | None, folder: Path
    ) -> Lists:
        """Fetches them into `folder`, which is empty.

        Raises ResolutionError for an unknown suite, FetchError when an archive does not answer, EngineError when the
        host has no apt or no keys.
        """
        if shutil.which("apt-get") is None:
            raise EngineError(
                "from_debian needs apt on this machine to find out what Debian has",
                hint="lock on Debian or Ubuntu, or use a base from a registry; `klock sync` needs no apt",
            )
        if not Path(_KEYRING).exists():
            raise EngineError(
                f"there are no Debian keys at {_KEYRING}", hint="run `apt-get install debian-archive-keyring`"
            )
        prepare(folder, suite, architecture, archives, ca_bundle)
        lists = cls(suite=suite, archives=archives, folder=folder)
        lists.apt("update")
        return dataclasses.replace(lists, required=frozenset(required_names(lists.indexes)))

    @property
    def indexes(self) -> tuple[Path, ...]:
        """The files that describe the packages, one of each archive and suite (`Packages`)."""
        return tuple(sorted(self.downloaded.glob("*_Packages")))

    @property
    def downloaded(self) -> Path:
        """Where apt has put what it fetched."""
        return self.folder / "state/lists"

    def check(self, names: Sequence[str]) -> None:
        """Raises ResolutionError for a name that no package has, before the tools that resolve are fetched."""
        known = known_names(self.indexes)
        for name in names:
            if name not in known:
                raise _unknown(name, where=f"Debian {self.suite}")

    def tools(self, names: Sequence[str]) -> tuple[DebPackage, ...]:
        """What the host's apt thinks that the suite's own apt runs on."""
        return self._chosen((), names, lambda wanted: self.apt("install", "--yes", "--print-uris", "--", *wanted))

    def resolve(self, names: Sequence[str], workspace: Workspace) -> tuple[DebPackage, ...]:
        """The packages of the smallest tree of the suite that has apt and `names`, without recommended ones: what is
        essential, what has priority required, apt, and what all these depend on. `workspace` has the suite's apt.

        Raises ResolutionError for an unknown package or a conflict.
        """
        return self._chosen(names, names, lambda wanted: self._apt_inside(wanted, workspace))

    def _chosen(
        self, wanted: Sequence[str], names: Sequence[str], ask: Callable[[Sequence[str]], str]
    ) -> tuple[DebPackage, ...]:
        # By name: not every apt knows the patterns ?essential and ?priority (apt-patterns(7)).
        wanted = [*sorted(self.required), "apt", *wanted]
        debs = parse_uris(ask(wanted), archives=self.archives)
        if _NEEDLESS not in names and any(deb.name == _NEEDLESS for deb in debs):
            debs = parse_uris(ask([*wanted, _INSTEAD]), archives=self.archives)
        return debs

    def _apt_inside(self, wanted: Sequence[str], workspace: Workspace) -> str:
        written = bytearray()
        command = Command(
            argv=("/bin/sh", "-c", _RESOLVE, "klock", *wanted),
            environment={**STEP_ENVIRONMENT, **_ENVIRONMENT},
            mounts=(Mount(source=self.folder, target=_INSIDE),),
        )
        done = workspace.run(command, on_output=written.extend)
        output = written.decode("utf-8", "replace")
        if done.status != 0:
            raise explain(output, where=f"Debian {self.suite}")
        return output

    def apt(self, *arguments: str) -> str:
        """What the host's apt prints."""
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        done = subprocess.run(
            ["apt-get", *arguments],
            env={
                **proxies,
                **_ENVIRONMENT,
                "APT_CONFIG": str(self.folder / "apt.conf"),
                "TMPDIR": str(self.folder / "tmp"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        if arguments[0] != "update":
            raise explain(done.stderr, where=f"Debian {self.suite}")
        if _NO_SUITE.search(done.stderr):
            raise ResolutionError(
                f"the Debian archive has no suite {self.suite!r}",
                hint="write a suite such as bookworm or trixie; for one of archive.debian.org set debian-mirror",
            )
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err"))]
        raise FetchError(
            f"cannot read the Debian archive for {self.suite}:" + listed(complaints, most=5),
            hint="check the network, or set debian-mirror",
        )


def required_names(indexes: Sequence[Path]) -> set[str]:
    """The packages that every tree must have: those that are essential, and those of priority required."""
    found = set()
    for index in indexes:
        name = b""
        with open(index, "rb") as file:
            for line in file:
                if line.startswith(b"Package: "):
                    name = line[9:].strip()
                elif line in (b"Essential: yes\n", b"Priority: required\n"):
                    found.add(name.decode("ascii", "replace"))
    return found


def known_names(indexes: Sequence[Path]) -> set[str]:
    """The names by which apt finds packages: their own, and those that they provide."""
    found = set()
    for index in indexes:
        with open(index, "rb") as file:
            for line in file:
                if line.startswith((b"Package: ", b"Provides: ")):
                    _, _, names = line.decode("ascii", "replace").partition(": ")
                    found |= {name.split()[0].partition(":")[0] for name in names.split(",") if name.strip()}
    return found


def _unknown(name: str, *, where: str) -> ResolutionError:
    return ResolutionError(f"{where}: there is no package {name!r}", hint="check the name")


def explain(output: str, *, where: str) -> KlockError:
    """What apt's messages mean. `where` says which archive or environment was asked."""
    if match := _NO_VERSION.search(output):
        return ResolutionError(
            f"{where}: there is no version {match[1]!r} of the package {match[2]!r}",
            hint="leave the version out: an archive keeps only the newest, and the lockfile pins it",
        )
    if match := _UNKNOWN.search(output):
        return _unknown(match[1] or match[2], where=where)
    complaints = [line.strip() for line in output.splitlines() if line.strip()][-20:]
    return ResolutionError(
        f"{where}: apt finds no way to install the packages\n" + "\n".join(f"  | {line}" for line in complaints)
    )


def prepare(root: Path, suite: str, architecture: str, archives: Mapping[str, str], ca_bundle: Path | None) -> None:
    """Makes `root` the folder that apt knows of: with `apt.conf` here, with `inside.conf` in the workshop."""
    for name in (
        "state/lists/partial",
        "cache/archives/partial",
        "etc/apt.conf.d",
        "etc/preferences.d",
        "etc/sources.list.d",
        "etc/trusted.gpg.d",
        "log",
        "tmp",
    ):
        (root / name).mkdir(parents=True)
    (root / "state/status").touch()
    (root / "etc/sources.list").write_text(sources_list(suite, archives, keyring=_KEYRING))
    (root / "inside.conf").write_text(_CONFIGURATION.format(root=_INSIDE, architecture=architecture))
    configuration = _CONFIGURATION.format(root=root, architecture=architecture)
    if authority := ca_bundle or os.environ.get("SSL_CERT_FILE"):
        configuration += f'Acquire::https::CAInfo "{authority}";\n'
    (root / "apt.conf").write_text(configuration)
