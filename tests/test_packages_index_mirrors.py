"""Where bytes come from instead, and that neither URLs nor hashes in the lockfile change with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from klock.errors import FetchError, HashMismatch, KlockError
from klock.lockfile.model import LockedPackage, WheelArtifact
from klock.packages.credentials import Credentials
from klock.packages.fetch import fetch_packages
from klock.packages.index_mirrors import IndexMirrors
from klock.packages.index_pages import IndexPages
from klock.packages.indexes import Index
from klock.store import Store
from tests.integration.index_server import IndexServer, make_wheel

DEAD = "http://127.0.0.1:9/simple"


def mirrors(*pairs: str) -> IndexMirrors:
    return IndexMirrors.of({}, {"KLOCK_INDEX_MIRRORS": " ".join(pairs)})


def test_the_longest_url_counts_and_the_way_back_is_the_same() -> None:
    table = mirrors("https://h/simple/=https://m/a/", "https://h/simple/more=https://u:p@m/b")
    pairs = [
        ("https://h/simple/x/", "https://m/a/x/"),
        ("https://h/simple", "https://m/a"),
        ("https://h/simple/more/x/", "https://m/b/x/"),
        ("https://h/simplest/", "https://h/simplest/"),
    ]
    assert [(url, table.towards(url)) for url, _ in pairs] == pairs
    assert [(table.back(mirror), mirror) for _, mirror in pairs] == pairs


def test_the_variable_comes_before_the_setting() -> None:
    settings = {"https://h/simple": "https://one/s", "https://i/simple": "https://two/s"}
    table = IndexMirrors.of(settings, {"KLOCK_INDEX_MIRRORS": "https://h/simple=https://three/s"})
    assert table.towards("https://h/simple/x/") == "https://three/s/x/"
    assert table.towards("https://i/simple/x/") == "https://two/s/x/"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("https://h/simple", "https://h/simple"),
        ("pypi=https://m", "pypi=https://m"),
        ("https://h/simple=m", "https://h/simple=m"),
        ("https://u:secret@h/simple=https://m", "https://***@h/simple=https://m"),
    ],
)
def test_a_variable_that_cannot_be_read(written: str, shown: str) -> None:
    with pytest.raises(KlockError) as caught:
        mirrors(written)
    assert caught.value.message == f"KLOCK_INDEX_MIRRORS has {shown!r} in it, which is not URL=MIRROR"


def locked(wheel: Path, *, index: str = DEAD, sha256: str | None = None) -> LockedPackage:
    digest = sha256 or hashlib.sha256(wheel.read_bytes()).hexdigest()
    artifact = WheelArtifact(
        name=wheel.name, url=f"http://127.0.0.1:9/files/{wheel.name}", size=wheel.stat().st_size, sha256=digest
    )
    return LockedPackage(name="lib", version="1.0", index=index, artifact=artifact)


@pytest.mark.parametrize("pair", [f"{DEAD}=MIRROR/simple", "http://127.0.0.1:9/files=MIRROR/files"])
def test_a_dead_index_with_a_living_mirror_is_fetched_from_with_credentials(tmp_path: Path, pair: str) -> None:
    wheel = make_wheel(tmp_path, "lib", "1.0")
    store = Store(tmp_path / "store")
    with IndexServer(tmp_path, username="me", password="pa:ss") as index:
        table = mirrors(pair.replace("MIRROR", f"http://me:pa%3Ass@127.0.0.1:{index.port}"))
        package = locked(wheel)
        fetch_packages([package], store=store, credentials=Credentials(mirrors=table))
    assert store.find_blob(f"sha256:{package.artifact.sha256}")  # type: ignore[union-attr]


def test_a_mirror_gives_no_other_bytes_and_no_other_index_is_asked_instead(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "lib", "1.0")
    package = locked(wheel)
    with IndexServer(tmp_path, without_hashes=True) as index:
        credentials = Credentials(mirrors=mirrors(f"{DEAD}={index.url}"))
        with pytest.raises(HashMismatch):
            other = locked(wheel, sha256="0" * 64)
            fetch_packages([other], store=Store(tmp_path / "store"), credentials=credentials)
        wheel.unlink()
        with pytest.raises(FetchError) as caught:
            fetch_packages([package], store=Store(tmp_path / "store"), credentials=credentials)
    assert caught.value.message == f"{wheel.name} is not in {index.url.rstrip('/')}, the mirror of {DEAD}"


def test_pages_are_read_from_the_mirror(tmp_path: Path) -> None:
    make_wheel(tmp_path, "lib", "1.0")
    with IndexServer(tmp_path) as index:
        pages = IndexPages(credentials=Credentials(mirrors=mirrors(f"{DEAD}={index.url}")), list_folder=lambda _: [])
        assert pages.offers(Index(url=DEAD), "lib")
        assert not pages.offers(Index(url=DEAD), "other")
