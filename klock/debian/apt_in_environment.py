"""apt inside an environment: one command that resolves against its sources and state, and leaves nothing behind.

What apt needs is brought in by read-only mounts below /run, which no layer holds; its lists and caches are there too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.debian.apt_root import explain
from klock.debian.archive import parse_uris
from klock.debian.flat_repository import INDEX_SCRIPT, lay_out
from klock.errors import FetchError, ImageError, StepFailed
from klock.fetching.mirrors import Mirrors
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.lockfile.model import DebPackage
from klock.recorder import Passes
from klock.store import Store
from klock.values import dataclass
from klock.words import listed
from klock.workshop.protocol import Command, Completed, Mount, Network, Uplink, Workspace
from klock.workshop.scratch import scratch_folder
from klock.workshop.trust import CERTIFICATES

__all__ = ["POLICY", "AptInEnvironment", "OnOutput", "failure"]

_PROXY: Final = re.compile(r"(https?|all|no)_proxy", re.IGNORECASE)

OnOutput = Callable[[bytes], None]

_REQUEST: Final = "/run/klock/apt"
"""Where the mounts are; what apt writes is in /run/klock-apt."""

_CONFIGURATION: Final = """\
Dir::State::lists "/run/klock-apt/lists";
Dir::Cache "/run/klock-apt/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "/run/klock-apt/log";
Dir::Etc::sourcelist "/run/klock-apt/sources.list";
Dir::Etc::preferences "/run/klock-apt/preferences";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
APT::Update::Error-Mode "any";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "3";
Dpkg::Use-Pty "false";
Dpkg::Options { "--force-confdef"; "--force-confold"; "--force-unsafe-io"; };
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
"""
# In front of the recorder neither the image's proxies nor its other ways to know a server mean anything: klock checks
# the server's certificate on the far side.
_THROUGH_RECORDER: Final = f"""\
#clear Acquire::http::Proxy;
#clear Acquire::http::Proxy-Auto-Detect;
#clear Acquire::http::ProxyAutoDetect;
#clear Acquire::https;
Acquire::https::CAInfo "{CERTIFICATES}";
"""
_ONLY_THESE: Final = """\
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""

_PREPARE: Final = f"""\
set -eu
mkdir -p /run/klock-apt/lists/partial /run/klock-apt/cache/archives/partial /run/klock-apt/log
repository={_REQUEST}/repository
cp {_REQUEST}/preferences /run/klock-apt/preferences
: > /run/klock-apt/sources.list
if ls $repository/*.deb >/dev/null 2>&1; then
    mkdir /run/klock-apt/repository
    ln -s $repository/*.deb /run/klock-apt/repository
    {{ {INDEX_SCRIPT}}} > /run/klock-apt/repository/Packages
    echo 'deb [trusted=yes] file:/run/klock-apt/repository ./' > /run/klock-apt/sources.list
fi
apt="apt-get -c={_REQUEST}/apt.conf"
update() {{
    $apt update > /run/klock-apt/out 2>&1 || {{ cat /run/klock-apt/out; return 1; }}
}}
"""
# What the image itself says to apt, and not what the sandbox says to a recorded step: here upstream is asked, and what
# it signed must still be valid.
_OWN_SOURCES: Final = """\
unset APT_CONFIG
if [ -n "${KLOCK_APT_CONFIG:-}" ]; then export APT_CONFIG="$KLOCK_APT_CONFIG"; fi
for name in sources.list preferences; do
    if [ -f /etc/apt/$name ]; then cat /etc/apt/$name >> /run/klock-apt/$name; fi
done
"""
_UPDATE_FAILED: Final = 41
_RESOLVE_FAILED: Final = 42

_RESOLVE: Final = f"""\
update || exit {_UPDATE_FAILED}
$apt install --print-uris -- "$@" 2> /run/klock-apt/errors || {{ cat /run/klock-apt/errors; exit {_RESOLVE_FAILED}; }}
"""
_POLICY: Final = f"""\
update || exit {_UPDATE_FAILED}
apt-cache -c={_REQUEST}/apt.conf policy -- "$@"
"""
_INSTALL: Final = f"""\
update || exit {_UPDATE_FAILED}
$apt install -- "$@"
"""

_STANZA: Final = re.compile(r"^(?P<name>[a-z0-9][a-z0-9+.-]*)(?::\w+)?:\n(?P<lines>(?: .*\n?)*)", re.MULTILINE)
_CANDIDATE: Final = re.compile(r"^  Candidate: (\S+)$", re.MULTILINE)
_OFFERED: Final = re.compile(r"^ (?:\*\*\*|   ) (\S+) -?\d+$", re.MULTILINE)

_NOT_INSTALLED: Final = re.compile(r"error processing (?:package|archive) (\S+)")

# invoke-rc.d asks this program before it starts a service: none is started while an image is made.
POLICY: Final = "#!/bin/sh\nexit 101\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class AptInEnvironment:
    """apt in a workspace. `environment`: the variables of the image; `where` names the step in messages. `passes` is
    the way to the environment's own sources."""

    workspace: Workspace
    environment: Mapping[str, str]
    store: Store
    mirrors: Mirrors
    where: str
    passes: Passes | None = None

    def policy(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """By name, which version apt would install now, by its own preferences, and the newest that its sources have.

        Raises FetchError when the sources cannot be read.
        """
        from klock.debian.versions import DebVersion

        written = bytearray()
        completed, refused = self._ask(_OWN_SOURCES + _POLICY, names, (), written, own_sources=True)
        output = written.decode("utf-8", "replace")
        if completed.status != 0:
            raise self._unreadable(output, refused)
        found = {}
        for stanza in _STANZA.finditer(output):
            candidate = _CANDIDATE.search(stanza["lines"])
            if candidate is not None and candidate[1] != "(none)":
                offered = [DebVersion(version) for version in _OFFERED.findall(stanza["lines"])]
                found[stanza["name"]] = (candidate[1], str(max(offered, default=candidate[1])))
        return found

    def resolve(
        self, packages: Sequence[str], *, known: Sequence[DebPackage], own_sources: bool
    ) -> tuple[DebPackage, ...]:
        """What installing `packages` would install now. `known` are offered and preferred; the store has them.

        Without the environment's own sources no network is used. Raises ResolutionError when it cannot be.
        """
        written = bytearray()
        script = (_OWN_SOURCES if own_sources else "") + _RESOLVE
        completed, refused = self._ask(script, packages, known, written, own_sources=own_sources)
        output = written.decode("utf-8", "replace")
        if completed.status == _UPDATE_FAILED:
            raise self._unreadable(output, refused)
        if completed.status == _RESOLVE_FAILED:
            raise explain(output, where=f"{self.where}apt_install")
        if completed.status != 0:
            raise StepFailed(f"{self.where}apt failed with status {completed.status}:\n" + _tail(output))
        return parse_uris(output, archives=self.mirrors.debian, known=known)

    def install(self, packages: Sequence[str], debs: Sequence[DebPackage], *, on_output: OnOutput | None) -> None:
        """Installs `packages` with nothing but `debs`, all in the store, and no network. Raises StepFailed."""
        versions = {deb.name: deb.version for deb in debs}
        chosen = [f"{package}={versions[package]}" if package in versions else package for package in packages]
        with scratch_folder(self.store) as folder:
            mounts = self._request(folder / "request", debs, own_sources=False)
            completed = self._run(
                _INSTALL,
                chosen,
                mounts=mounts,
                network=Network.NONE,
                on_output=on_output,
                variables={"DEBIAN_FRONTEND": "noninteractive"},
            )
        if completed.status != 0:
            output = completed.output.decode("utf-8", "replace")
            raise failure(self.where, output, program="apt", status=completed.status)

    def _ask(
        self,
        script: str,
        arguments: Sequence[str],
        known: Sequence[DebPackage],
        written: bytearray,
        *,
        own_sources: bool,
    ) -> tuple[Completed, tuple[str, ...]]:
        """Runs `script`, which writes to `written`. Also what it asked of the network and was refused."""

        def run(network: Network | Uplink) -> Completed:
            written.clear()
            return self._run(
                script,
                arguments,
                mounts=mounts,
                network=network,
                on_output=written.extend,
                variables={"LC_ALL": "C.UTF-8", "KLOCK_APT_CONFIG": self.environment.get("APT_CONFIG", "")},
            )

        with scratch_folder(self.store) as folder:
            mounts = self._request(folder / "request", known, own_sources=own_sources)
            if not own_sources:
                return run(Network.NONE), ()
            assert self.passes is not None
            completed, report = self.passes.run(run)
            return completed, tuple(report.refused)

    def _unreadable(self, output: str, refused: Sequence[str]) -> FetchError:
        return FetchError(
            f"{self.where}cannot read the apt sources of the environment:\n" + _tail(output) + listed(refused),
            hint="check the network, and the sources in /etc/apt of the base",
        )

    def _request(self, folder: Path, debs: Sequence[DebPackage], *, own_sources: bool) -> list[Mount]:
        folder.mkdir()
        folder.chmod(0o755)
        lay_out(debs, folder / "repository", store=self.store)
        pins = [f"Package: {deb.name}\nPin: version {deb.version}\nPin-Priority: 995\n" for deb in debs]
        _write(folder / "preferences", "\n".join(pins))
        _write(folder / "apt.conf", _CONFIGURATION + (_THROUGH_RECORDER if own_sources else _ONLY_THESE))
        policy = folder / "policy-rc.d"
        _write(policy, POLICY)
        policy.chmod(0o755)
        return [Mount(source=folder, target=_REQUEST), Mount(source=policy, target="/usr/sbin/policy-rc.d")]

    def _run(
        self,
        script: str,
        arguments: Sequence[str],
        *,
        mounts: Sequence[Mount],
        network: Network | Uplink,
        on_output: OnOutput | None,
        variables: Mapping[str, str],
    ) -> Completed:
        if self.workspace.read("/usr/bin/apt-get") is None:
            raise ImageError(
                f"{self.where}the image has no apt-get",
                hint="use a base made of Debian or Ubuntu, or install the packages with run_bash()",
            )
        own = {name: value for name, value in self.environment.items() if not _PROXY.fullmatch(name)}
        command = Command(
            argv=("/bin/sh", "-c", _PREPARE + script, "klock-apt", *arguments),
            environment={**STEP_ENVIRONMENT, **own, **variables},
            user="",
            network=network,
            mounts=tuple(mounts),
        )
        return self.workspace.run(command, on_output=on_output)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def failure(where: str, output: str, *, program: str, status: int) -> StepFailed:
    """What `program`, apt or dpkg, complains of, after the packages that it names."""
    names = ", ".join(dict.fromkeys(_NOT_INSTALLED.findall(output)))
    what = f"{names} cannot be installed" if names else f"{program} failed with status {status}"
    return StepFailed(f"{where}{what}:\n" + _tail(output))


def _tail(output: str) -> str:
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    return "\n".join(f"  | {line}" for line in lines[-15:])
