"""Real container engines with storage of their own: podman as root and without privileges, and a dockerd.

What they need to be told here is what small machines need: limits that are not raised, a runtime that needs no systemd.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from _pytest.mark import ParameterSet

from klock.workshop import linux
from tests.integration.unprivileged import Account, require_program
from tests.run_folder import clear_away, readable_folder

__all__ = [
    "ALL_ENGINES",
    "ContainerHost",
    "docker_host",
    "docker_host_over_tls",
    "engine_host",
    "on",
    "podman_host",
    "podman_service",
    "some_of",
]

ALL_ENGINES = ("sandbox", "sandbox, unprivileged", "podman", "podman, unprivileged", "docker")
"""Parameters of a fixture that uses `engine_host`."""


def on(*engines: str) -> pytest.MarkDecorator:
    """For a test whose `host` is an engine by parameter: `make test` runs it on these, `make soak` on all."""
    return pytest.mark.on(*engines)


def some_of(cases: Iterable[str], *quick: str) -> list[ParameterSet]:
    """The names of cases, for a test's parameter: `make test` runs these few of them, `make soak` all."""
    return [pytest.param(case, marks=[] if case in quick else [pytest.mark.soak]) for case in cases]


_PATIENCE = 30.0
_LONGEST = 35


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerHost:
    """An engine that belongs to an account. `variables` lead klock and the engine's own program to it."""

    engine: str
    account: Account
    variables: dict[str, str]

    def klock(self, *arguments: str | Path, cwd: Path) -> CompletedProcess[str]:
        """Runs klock with `--engine` after its verb."""
        verb, *rest = arguments
        return self.account.klock(verb, "--engine", self.engine, *rest, cwd=cwd, env=self.variables)

    def native(self, *arguments: str) -> str:
        """What the engine's own program prints. Fails the test when it fails."""
        done = self.account.run([self.engine, *arguments], cwd=self.account.folder, env=self.variables)
        assert done.returncode == 0, f"{self.engine} {arguments}: {done.stderr}"
        return done.stdout

    def containers(self) -> list[str]:
        return self.native("ps", "--all", "--quiet").split()


@contextmanager
def engine_host(request: pytest.FixtureRequest) -> Iterator[ContainerHost]:
    """The engine that the fixture's parameter names, one of ALL_ENGINES."""
    account = request.getfixturevalue("unprivileged" if "unprivileged" in request.param else "root")
    if "podman" in request.param:
        with podman_host(account) as made:
            yield made
    elif request.param == "docker":
        with docker_host(account) as made:
            yield made
    else:
        yield ContainerHost(engine="sandbox", account=account, variables={})


@contextmanager
def podman_host(account: Account) -> Iterator[ContainerHost]:
    require_program("podman", package="podman")
    require_program("runc", package="runc")
    with _engine_folder("p") as folder:
        yield _make_podman(account, folder)


@contextmanager
def _engine_folder(name: str) -> Iterator[Path]:
    """A place for an engine's storage. What the engine left running in it and mounted is taken away at the end."""
    with readable_folder(name) as folder:
        # From 36 bytes on podman 4.3 does not notice that a container has ended, and waits for 20 seconds.
        assert len(str(folder)) <= _LONGEST, f"{folder} has too long a name for podman: set TMPDIR to a shorter one"
        try:
            yield folder
        finally:
            # Such as the process that keeps the namespaces of a podman without privileges.
            clear_away(folder)


def _make_podman(account: Account, folder: Path) -> ContainerHost:
    (folder / "run").mkdir(mode=0o700)
    limits = ", ".join(f'"{name}={_hard(limit)}:{_hard(limit)}"' for name, limit in _LIMITS.items())
    (folder / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = [{limits}]\n[engine]\nruntime = "runc"\n'
        'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run/containers"\n'
    )
    account.give(folder)
    variables = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "HOME": str(folder),
    }
    return ContainerHost(engine="podman", account=account, variables=variables)


@contextmanager
def podman_service(host: ContainerHost) -> Iterator[str]:
    """A service of an account's podman, as `systemctl start podman.socket` gives one; its URL, for CONTAINER_HOST."""
    path = Path(host.variables["HOME"]) / "run/podman.sock"
    environment = {**host.account.environment, **host.variables}
    process = subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{path}"], env=environment, **host.account.identity
    )
    try:
        deadline = time.monotonic() + _PATIENCE
        while not path.exists():
            assert process.poll() is None and time.monotonic() < deadline, "podman's service does not start"
            time.sleep(0.02)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(_PATIENCE)


@contextmanager
def docker_host(account: Account, *options: str) -> Iterator[ContainerHost]:
    """A dockerd of its own, which only root can run."""
    program = require_program("dockerd", package="docker.io")
    require_program("iptables", package="iptables")
    parent = os.getpid()
    with _engine_folder("d") as folder, open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [
                *(program, "--iptables=false", "--bridge=none", "--storage-driver=overlay2"),
                *("-H", f"unix://{folder}/docker.sock", "-p", f"{folder}/pid"),
                *("--data-root", f"{folder}/root", "--exec-root", f"{folder}/exec", *options),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: linux.die_with_parent(parent),  # noqa: PLW1509 - one thread
            start_new_session=True,
        )
        variables = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
        host = ContainerHost(engine="docker", account=account, variables=variables)
        try:
            _wait_for(host, process, folder / "log")
            yield host
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE)


@contextmanager
def docker_host_over_tls(account: Account, certificates: Path) -> Iterator[ContainerHost]:
    """A dockerd that speaks TLS alone over TCP, and wants a certificate: ca.pem, cert.pem and key.pem of a folder."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{found.getsockname()[1]}"
    files = (("cacert", "ca"), ("cert", "cert"), ("key", "key"))
    tls = [f"--tls{option}={certificates}/{name}.pem" for option, name in files]
    with docker_host(account, "-H", address, "--tlsverify", *tls) as host:
        variables = {"DOCKER_HOST": address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
        yield replace(host, variables=variables)


def _wait_for(host: ContainerHost, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while host.account.run(["docker", "version"], cwd=Path("/"), env=host.variables).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"dockerd does not start:\n{log.read_text()[-3000:]}", pytrace=False)
        time.sleep(0.05)


_LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}


def _hard(limit: int) -> int:
    """The limit that cannot be raised, at most 32768."""
    hard = resource.getrlimit(limit)[1]
    return 32768 if hard == resource.RLIM_INFINITY else min(hard, 32768)
