"""Engines on another machine: docker behind TLS, podman behind ssh, and the clear words where there is no way.

The "other machine" is this one, over TCP.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.integration.container_engines import ContainerHost, docker_host_over_tls, podman_host, podman_service
from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.ssh_server import ssh_server
from tests.integration.unprivileged import Account

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="starts daemons")]

LARGE = 3_000_000


@pytest.fixture(scope="module")
def docker(root: Account, certificates: Path) -> Iterator[ContainerHost]:
    with docker_host_over_tls(root, certificates) as host:
        yield host


@pytest.fixture(scope="module")
def project(root: Account) -> Path:
    folder = root.make_folder("project")
    base = f'kt.Image().from_docker("{SMALL_BASE}")'
    (folder / "kimage.py").write_text(
        f'import klock as kt\nimage = {base}.run_bash("mkdir /srv; echo hello > /srv/x")\n'
    )
    (folder / "pyproject.toml").touch()
    write_small_base(folder / "layout")
    succeeded(root.klock("lock", cwd=folder))
    return folder


def succeeded(done: CompletedProcess[str]) -> CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def passes_streams(host: ContainerHost, project: Path, tmp_path: Path) -> None:
    """Input that ends before the output does, both larger than any buffer, and an exit status."""
    (tmp_path / "in").write_bytes(os.urandom(LARGE))
    words: list[str | Path] = [host.account.python, "-m", "klock", "run", "--engine", host.engine, "--"]
    words += ["sh", "-c", "cat; cat /srv/x; exit 7"]
    with open(tmp_path / "in", "rb") as given, open(tmp_path / "out", "wb") as taken:
        done = subprocess.run(
            words,
            cwd=project,
            env={**host.account.environment, **host.variables},
            stdin=given,
            stdout=taken,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    assert done.returncode == 7, done.stderr
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes() + b"hello\n"


def test_docker_behind_tls(docker: ContainerHost, project: Path, tmp_path: Path) -> None:
    succeeded(docker.klock("sync", cwd=project))
    passes_streams(docker, project, tmp_path)
    succeeded(docker.klock("check", "--env", cwd=project))
    assert docker.native("ps", "--all", "--quiet") == ""


WRONG: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "another authority": ({}, (), "the TLS certificate is not trusted"),
    "no TLS": ({"DOCKER_TLS_VERIFY": ""}, (), "docker does not answer at tcp://127.0.0.1:"),
    "half a pair": ({}, ("ca.pem", "cert.pem"), "has no key.pem"),
    "no client's certificate": ({}, ("ca.pem",), "which DOCKER_HOST names: TLS: "),
    "nobody there": ({"DOCKER_HOST": "tcp://127.0.0.1:1"}, ("ca.pem",), "which DOCKER_HOST names: Connection refused"),
    "a kind of address": ({"DOCKER_HOST": "fd://"}, (), "DOCKER_HOST is 'fd://', which klock cannot connect to"),
    "no address": ({"DOCKER_HOST": "tcp://[::1"}, (), "DOCKER_HOST is 'tcp://[::1', which klock cannot connect to"),
}
"""Variables, and the files in DOCKER_CERT_PATH."""


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(docker: ContainerHost, project: Path, tmp_path: Path, case: str) -> None:
    changed, files, said = WRONG[case]
    for file in files:
        (tmp_path / file).write_bytes((Path(docker.variables["DOCKER_CERT_PATH"]) / file).read_bytes())
    variables = {**docker.variables, "DOCKER_CERT_PATH": str(tmp_path), **changed}
    done = replace(docker, variables=variables).klock("sync", cwd=project)
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.soak
def test_podman_behind_ssh(root: Account, project: Path, tmp_path: Path) -> None:
    with podman_host(root) as host, podman_service(host) as url, ssh_server(tmp_path) as variables:
        path = url.removeprefix("unix://")
        there = replace(host, variables={**host.variables, **variables, "CONTAINER_HOST": f"ssh://root@engine{path}"})
        succeeded(there.klock("sync", cwd=project))
        passes_streams(there, project, tmp_path)
        assert host.containers() == []
        gone = replace(there, variables={**there.variables, "CONTAINER_HOST": "ssh://root@engine/nowhere.sock"})
        done = gone.klock("sync", cwd=project)
        assert done.returncode == 2 and "error: " in done.stderr
        (tmp_path / "user.pub").write_text("")
        done = there.klock("sync", cwd=project)
        assert done.returncode == 2
        assert "ssh does not reach ssh://root@engine/" in done.stderr
        assert "Permission denied" in done.stderr
