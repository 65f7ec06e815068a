"""A project's `ca-bundle` is trusted besides what the machine trusts, never instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from klock.certificates import host_bundle, joined_bundle
from klock.errors import KlockError
from klock.session import open_session
from klock.store import Store

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
    assert caught.value.hint == "it must be a PEM file"


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
