"""klock in a container of its own, where this machine lets nobody make a namespace: over sockets and TCP.

Not in `make test`: an engine has to take in Debian, and klock with all its packages.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.integration.container_engines import (
    ContainerHost,
    docker_host,
    docker_host_over_tls,
    podman_host,
    podman_service,
)
from tests.integration.debian_image import debian_rootfs
from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.ssh_server import ssh_server
from tests.integration.unprivileged import Account, require_program

pytestmark = [pytest.mark.integration, pytest.mark.soak]

BASE = "localhost/python:test"
IMAGE = f"""\
import klock as kt

image = (
    kt.Image()
    .from_docker("{SMALL_BASE}")
    .set_env_vars({{"GREETING": "hello"}})
    .rsync("./app", "/srv/app", contents=True)
    .run_bash("echo $GREETING > /srv/made; ln -s app /srv/link")
)
"""


@dataclass(frozen=True, kw_only=True)
class Laptop:
    """An account that may make no namespace, and an engine that it reaches over its API alone."""

    account: Account
    host: ContainerHost
    variables: Mapping[str, str]

    def klock(self, *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        cage = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--disable-userns", "--"]
        program = [str(self.account.python), "-m", "klock", *map(str, arguments)]
        return self.account.run([*cage, *program], cwd=cwd, env={**self.variables, **(env or {})})


WAYS = ("podman", "podman, unprivileged", "docker", "podman, TCP", "docker, TCP", "docker, TLS", "podman, ssh")


@pytest.fixture(scope="module", params=WAYS)
def laptop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    engine = request.param.partition(",")[0]
    account: Account = request.getfixturevalue("unprivileged" if "unprivileged" in request.param else "root")
    tls = request.getfixturevalue("certificates") if "TLS" in request.param else None
    with ExitStack() as stack:
        host = stack.enter_context(_engine(engine, account, tls))
        url = stack.enter_context(_url(host))
        _import_base(host)
        variables = dict(host.variables) if tls else {}
        if "TCP" in request.param:
            url = stack.enter_context(_over_tcp(url))
        elif "ssh" in request.param:
            variables |= stack.enter_context(ssh_server(tmp_path_factory.mktemp("ssh")))
            url = f"ssh://root@engine{url.removeprefix('unix://')}"
        variables |= {
            "CONTAINER_HOST" if engine == "podman" else "DOCKER_HOST": url,
            "KLOCK_WORKSHOP": engine,
            "KLOCK_WORKSHOP_IMAGE": BASE,
            "PYTHONPATH": _as_installed(account),
        }
        yield Laptop(account=account, host=host, variables=variables)


def _engine(engine: str, account: Account, tls: Path | None) -> AbstractContextManager[ContainerHost]:
    if engine == "podman":
        return podman_host(account)
    return docker_host(account) if tls is None else docker_host_over_tls(account, tls)


def _as_installed(account: Account) -> str:
    """Where the account's Python finds klock: with its metadata, as if it were installed."""
    folder = account.make_folder("metadata")
    text = metadata.distribution("klock-env").read_text("METADATA")
    assert text is not None
    (folder / "klock_env-0.dist-info").mkdir()
    (folder / "klock_env-0.dist-info/METADATA").write_text(text)
    account.give(folder)
    return f"{account.source}:{folder}"


@contextmanager
def _url(host: ContainerHost) -> Iterator[str]:
    if host.engine == "docker":
        yield host.variables["DOCKER_HOST"]
    else:
        with podman_service(host) as url:
            yield url


def _import_base(host: ContainerHost) -> None:
    """Debian with Python and bubblewrap: nothing has to be fetched from anywhere."""
    folder = host.account.make_folder("base")
    archive = folder / "base.tar"
    shutil.copyfile(debian_rootfs(), archive)
    (folder / "usr/bin").mkdir(parents=True)
    shutil.copy(require_program("bwrap", package="bubblewrap"), folder / "usr/bin/bwrap")
    subprocess.run(["tar", "--append", "-f", archive, "-C", folder, "./usr/bin/bwrap"], check=True)
    host.native("import", str(archive), BASE)


@contextmanager
def _over_tcp(url: str) -> Iterator[str]:
    """Passes bytes between a TCP port and a Unix socket, one direction's end by itself."""
    path = url.removeprefix("unix://")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    near, _ = server.accept()
                except OSError:
                    return
                far = socket.socket(socket.AF_UNIX)
                far.connect(path)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_pass, args=(source, target), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def _pass(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture(scope="module")
def project(root: Account) -> Path:
    folder = root.make_folder("project")
    (folder / "app").mkdir()
    (folder / "app/main.sh").write_text("echo $GREETING; cat /srv/made\n")
    (folder / "app/main.sh").chmod(0o750)
    (folder / "app/link").symlink_to("main.sh")
    (folder / "kimage.py").write_text(IMAGE)
    (folder / "pyproject.toml").touch()
    write_small_base(folder / "layout")
    return folder


def succeeded(done: CompletedProcess[str]) -> CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_locks_syncs_runs_and_checks(laptop: Laptop, root: Account, project: Path, tmp_path: Path) -> None:
    """The lockfile is the one that this machine makes with a sandbox."""
    laptop.account.give(project)
    lockfile = project / "kimage.lock"
    lockfile.unlink(missing_ok=True)
    succeeded(root.klock("lock", cwd=project))
    here = lockfile.read_bytes()
    lockfile.unlink()

    refused = laptop.klock("lock", cwd=project, env={"KLOCK_WORKSHOP": "sandbox"})
    assert refused.returncode == 2
    assert "does not let klock make a user namespace" in refused.stderr
    assert "KLOCK_WORKSHOP=docker" in refused.stderr
    assert "fetch" not in refused.stderr, "it is said before anything is fetched"

    succeeded(laptop.klock("lock", cwd=project))
    assert lockfile.read_bytes() == here
    assert lockfile.stat().st_uid == project.stat().st_uid
    done = succeeded(laptop.klock("sync", cwd=project))
    assert "environment synced: linux/amd64/cpu" in done.stderr
    run = ("run", "--network", "none", "-m", ".:/work", "--")
    done = succeeded(laptop.klock(*run, "sh", "-c", "sh /srv/app/main.sh; echo $X > /work/out.txt", cwd=project))
    assert done.stdout == "hello\nhello\n"
    assert (project / "out.txt").read_text() == "\n"
    (project / "out.txt").unlink()
    assert laptop.klock(*run, "sh", "-c", "exit 7", cwd=project).returncode == 7
    succeeded(laptop.klock("check", "--env", cwd=project))
    unasked = succeeded(laptop.klock("check", "--env", cwd=project, env={"KLOCK_WORKSHOP": ""}))
    assert "this machine does not let klock make a user namespace, so klock runs in a container of " in unasked.stderr
    (project / "app/main.sh").write_text("changed\n")
    done = laptop.klock("check", cwd=project)
    assert (done.returncode, "main.sh" in done.stdout) == (1, True)
    (project / "app/main.sh").write_text("echo $GREETING; cat /srv/made\n")


def test_a_lock_that_fails_leaves_the_project_and_no_container(laptop: Laptop, project: Path) -> None:
    laptop.account.give(project)
    before = (project / "kimage.py").read_text()
    (project / "kimage.py").write_text(before.replace("ln -s", "false;"))
    try:
        done = laptop.klock("lock", cwd=project)
        assert done.returncode == 2 and "error: step 3 (kimage.py:" in done.stderr
        assert laptop.host.containers() == []
    finally:
        (project / "kimage.py").write_text(before)
