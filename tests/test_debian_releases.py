"""Without news in the archives, names come to the packages that they came to before; else apt is asked."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from klock.debian.releases import Resolutions
from klock.fetching.mirrors import Mirrors
from klock.image.steps import DebianBase
from klock.store import Store
from tests.debs import package

DEBS = (package(b"1", name="a"), package(b"2", name="b"))
SUITES = {"main": ("bookworm", "bookworm-updates"), "security": ("bookworm-security",)}
RELEASE = "Origin: Debian\nSuite: {}\nValid-Until: Sat, 10 Jun 2090 09:00:00 UTC\nSHA256:\n 1 1 main\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[Path, Mirrors]]:
    """Two archives, and who serves them."""
    folder = tmp_path / "archive"
    for name, suites in SUITES.items():
        for suite in suites:
            (folder / name / "dists" / suite).mkdir(parents=True)
            (folder / name / "dists" / suite / "InRelease").write_text(RELEASE.format(suite))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    yield folder, Mirrors(debian={"debian": f"{url}/main", "debian-security": f"{url}/security"})
    server.shutdown()
    server.server_close()


@pytest.fixture
def known(archive: tuple[Path, Mirrors], tmp_path: Path) -> Resolutions:
    folder, mirrors = archive
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in folder.rglob("InRelease"):
        (lists / f"host_{path.parent.name}_InRelease").write_bytes(path.read_bytes())
        (lists / f"host_{path.parent.name}_main_Packages").write_text("")
    base = DebianBase(suite="bookworm", packages=("a",))
    resolutions = Resolutions(base=base, architecture="amd64", mirrors=mirrors, store=Store(tmp_path / "store"))
    assert resolutions.find() is None
    resolutions.remember(DEBS, lists)
    return resolutions


def test_without_news_they_are_the_same(known: Resolutions) -> None:
    assert known.find() == DEBS


def test_another_question_has_no_answer(known: Resolutions) -> None:
    elsewhere = Mirrors(debian={**known.mirrors.debian, "debian": "http://127.0.0.1:9/main"})
    for other in (
        {"base": DebianBase(suite="bookworm", packages=("a", "b"))},
        {"base": DebianBase(suite="trixie", packages=("a",))},
        {"architecture": "arm64"},
        {"mirrors": elsewhere},
    ):
        assert dataclasses.replace(known, **other).find() is None


@pytest.mark.parametrize("suite", [suite for suites in SUITES.values() for suite in suites])
def test_news_in_any_archive_are_apts(known: Resolutions, archive: tuple[Path, Mirrors], suite: str) -> None:
    path = next(archive[0].rglob(f"{suite}/InRelease"))
    path.write_text(RELEASE.format(suite) + " 2 2 main\n")
    assert known.find() is None
    path.unlink()
    assert known.find() is None


def test_what_is_no_longer_valid_is_apts(archive: tuple[Path, Mirrors], known: Resolutions, tmp_path: Path) -> None:
    for until in ("Sat, 10 Jun 2023 09:00:00 UTC", "some day"):
        path = archive[0] / "security/dists/bookworm-security/InRelease"
        path.write_text(RELEASE.format("bookworm-security").replace("Sat, 10 Jun 2090 09:00:00 UTC", until))
        (tmp_path / "lists/host_bookworm-security_InRelease").write_bytes(path.read_bytes())
        known.remember(DEBS, tmp_path / "lists")
        assert known.find() is None


def test_a_damaged_record_is_none(known: Resolutions) -> None:
    (record,) = (known.store.root / "records").rglob("*.json")
    for damage in ("[]", "{}", '{"releases": []}', record.read_text().replace('"sha256"', '"other"')):
        record.write_text(damage)
        assert known.find() is None
