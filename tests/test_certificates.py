"""A project's `ca-bundle` is trusted besides what the machine trusts, never instead."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from klock.certificates import host_bundle, joined_bundle
from klock.connections import Pools
from klock.errors import KlockError
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Transport
from klock.lockfile.model import Interpreter, PipLock
from klock.pages.page import Form, Page
from klock.progress import Quiet
from klock.recorder.authority import Authority
from klock.session import open_session
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.exporting import Exporting
from klock.steps.pip import export
from klock.store import Store
from tests.memory_workshop import MemoryWorkshop
from tests.test_lockfile import SMALL

HOST = "-----BEGIN CERTIFICATE-----\nhost\n-----END CERTIFICATE-----"
OURS = "-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "host.pem"
    path.write_text(HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def test_the_variable_says_what_the_host_trusts(host: Path) -> None:
    assert host_bundle() == host


def test_the_joined_bundle_has_both(tmp_path: Path) -> None:
    (tmp_path / "ours.pem").write_text(OURS)
    joined = joined_bundle(tmp_path / "ours.pem", Store(tmp_path / "store"))
    assert joined.read_text() == f"{HOST}\n{OURS}"
    assert joined_bundle(tmp_path / "ours.pem", Store(tmp_path / "store")) == joined


def test_a_bundle_without_certificates_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ours.der").write_bytes(b"\x30\x82")
    with pytest.raises(KlockError) as caught:
        joined_bundle(tmp_path / "ours.der", Store(tmp_path / "store"))
    assert caught.value.message == f"the ca-bundle {tmp_path}/ours.der has no certificate in it"
    assert caught.value.hint == "name a PEM file"


def test_a_bundle_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KlockError, match=f"cannot read the ca-bundle {tmp_path}: Is a directory"):
        joined_bundle(tmp_path, Store(tmp_path / "store"))


def test_everything_klock_starts_trusts_the_projects_bundle(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "ours.pem").write_text(OURS)
    (project / "pyproject.toml").write_text('[tool.klock]\nca-bundle = "ours.pem"\n')
    (project / "kimage.py").write_text("import klock as kt\nimage = kt.images.Debian()\n")
    before = dict(os.environ)
    session = open_session(str(project / "kimage.py"))
    for bundle in (session.workshop.ca_bundle, session.context.mirrors.ca_bundle):
        assert bundle is not None
        assert bundle.read_text() == f"{HOST}\n{OURS}"
    assert dict(os.environ) == before


ANSWER = b"what the server has"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def server(authority: Authority) -> Iterator[str]:
    """The URL of a server whose certificate is signed by `authority`."""
    with HTTPServer(("127.0.0.1", 0), _Handler) as listening:
        listening.socket = authority.context("127.0.0.1").wrap_socket(listening.socket, server_side=True)
        thread = Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.server_port}/"
        finally:
            listening.shutdown()
            thread.join()


@pytest.mark.parametrize("whose", ["the host's", "the project's"])
def test_every_connection_trusts_both(whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorities = {"the host's": Authority(), "the project's": Authority()}
    (tmp_path / "host.pem").write_bytes(authorities["the host's"].certificate)
    ours = tmp_path / "ours.pem"
    ours.write_bytes(authorities["the project's"].certificate)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with server(authorities[whose]) as url:
        assert Pools(ca_bundle=ours).for_url(url).request("GET", url, retries=False).data == ANSWER
        assert Transport(ca_bundle=ours).get(url).body == ANSWER


def test_the_pip_that_a_dockerfile_ships_is_fetched_with_the_project_s_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    ours = tmp_path / "ours.pem"
    ours.write_bytes(authority.certificate)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    context = Context(
        root=tmp_path,
        mirrors=Mirrors(ca_bundle=ours),
        store=Store(tmp_path / "store"),
        workshop=MemoryWorkshop(),
        progress=Quiet(),
        environ={},
    )
    python = Interpreter(path="/usr/bin/python3", version="3.12.1", implementation="cpython", sha256="0" * 64, libc="")
    at: StepAt[PipLock] = StepAt(lock=dataclasses.replace(SMALL.targets[0], interpreter=python), position=1)
    with server(authority) as url:
        sha256 = hashlib.sha256(ANSWER).hexdigest()
        pip = dataclasses.replace(export.PIP, url=url, size=len(ANSWER), sha256=sha256)
        monkeypatch.setattr(export, "PIP", pip)
        page = Page(form=Form.DOCKER)
        export.write_pip_step(at, Exporting(page=page, context=context))
    assert [file.path for file in page.files] == [f"step-02/{pip.name}"]
