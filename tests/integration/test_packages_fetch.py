"""Fetching locked artifacts from a real HTTP server: verified, in parallel, with credentials, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from pathlib import Path

import pytest

from klock.errors import FetchError, HashMismatch
from klock.lockfile.model import LockedPackage, SdistArtifact, WheelArtifact
from klock.packages import Credentials, fetch_packages
from klock.progress import Quiet
from klock.store import Store
from tests.integration.index_server import IndexServer, make_sdist, make_wheel

pytestmark = pytest.mark.integration


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def locked(index: IndexServer, path: Path, name: str, version: str = "1.0") -> LockedPackage:
    return LockedPackage(name=name, version=version, index=index.url, artifact=artifact(index, path))


def artifact(index: IndexServer, path: Path) -> WheelArtifact:
    content = path.read_bytes()
    url = f"http://127.0.0.1:{index.port}/files/{path.name}"
    return WheelArtifact(name=path.name, url=url, size=len(content), sha256=hashlib.sha256(content).hexdigest())


class Steps(Quiet):
    """Notes what is reported."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int | None]] = []
        self.amount = 0
        self.results: list[str] = []

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self.begun.append((task, total))

    def advance(self, amount: int) -> None:
        self.amount += amount

    def done(self, result: str) -> None:
        self.results.append(result)


def test_artifacts_come_into_the_store_once(files: Path, store: Store) -> None:
    with IndexServer(files) as index:
        packages = [locked(index, make_wheel(files, f"p{n}", "1.0"), f"p{n}") for n in range(20)]
        steps = Steps()
        fetch_packages(packages, store=store, progress=steps)
        total = sum(package.artifact.size for package in packages if isinstance(package.artifact, WheelArtifact))
        assert (steps.begun, steps.amount, steps.results) == (
            [("fetching 20 files", total)],
            total,
            ["all hashes match"],
        )
        for path in files.iterdir():
            found = store.find_blob(f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
            assert found is not None
            assert found.read_bytes() == path.read_bytes()
        asked = len(index.requests)
        fetch_packages(packages, store=store)
        assert len(index.requests) == asked == 20


def test_no_thread_is_left_for_an_engine_to_fork_with(files: Path, store: Store) -> None:
    with IndexServer(files) as index:
        before = threading.active_count()
        fetch_packages([locked(index, make_wheel(files, f"p{n}", "1.0"), f"p{n}") for n in range(4)], store=store)
        names = {thread.name for thread in threading.enumerate()}
    assert not [name for name in names if name.startswith("klock-fetch")]
    assert before >= 1


def test_other_bytes_than_the_locked_ones_are_thrown_away(files: Path, store: Store) -> None:
    with IndexServer(files) as index:
        path = make_wheel(files, "p", "1.0")
        package = locked(index, path, "p")
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises(HashMismatch) as caught:
            fetch_packages([package], store=store)
    assert caught.value.message.startswith(
        f"{path.name} from http://127.0.0.1:{index.port}/files/{path.name}: hash mismatch"
    )
    assert not list(store.root.glob("blobs/**/*.*"))
    assert list((store.root / "tmp").iterdir()) == []


def test_a_longer_file_is_cut_off_at_its_locked_size(files: Path, store: Store) -> None:
    with IndexServer(files) as index:
        path = make_wheel(files, "p", "1.0")
        package = locked(index, path, "p")
        path.write_bytes(path.read_bytes() + b"more")
        with pytest.raises(HashMismatch, match="more than the locked"):
            fetch_packages([package], store=store)


def test_a_file_that_is_gone_upstream(files: Path, store: Store) -> None:
    with IndexServer(files) as index:
        path = make_wheel(files, "p", "1.0")
        package = locked(index, path, "p")
        path.unlink()
        with pytest.raises(FetchError) as caught:
            fetch_packages([package], store=store)
    assert caught.value.message == f"http://127.0.0.1:{index.port}/files/{path.name} answers with status 404"
    assert caught.value.hint is not None and "run `klock lock`" in caught.value.hint


def test_an_upstream_that_is_not_there(files: Path, store: Store) -> None:
    with IndexServer(files) as index:
        package = locked(index, make_wheel(files, "p", "1.0"), "p")
    with pytest.raises(FetchError, match=r"^p-1.0-py3-none-any.whl cannot be fetched from http://127.0.0.1:"):
        fetch_packages([package], store=store)


def test_offline_names_what_is_missing_and_asks_nobody(files: Path, store: Store) -> None:
    with IndexServer(files) as index:
        packages = [locked(index, make_wheel(files, f"p{n}", "1.0"), f"p{n}") for n in range(5)]
        fetch_packages(packages[:1], store=store)
        asked = list(index.requests)
        with pytest.raises(FetchError) as caught:
            fetch_packages(packages, store=store, offline=True)
        assert index.requests == asked
    assert caught.value.message.startswith("4 locked files are not in the store: ")
    fetch_packages(packages[:1], store=store, offline=True)


def test_credentials_are_sent_to_their_origin_only(files: Path, store: Store) -> None:
    with IndexServer(files, username="me", password="s3cr3t") as index:
        package = locked(index, make_wheel(files, "p", "1.0"), "p")
        with pytest.raises(FetchError, match="answers with status 401"):
            fetch_packages(
                [package], store=store, credentials=Credentials.collect(urls=["https://me:s3cr3t@127.0.0.1/"])
            )
        known = Credentials.collect(environments=[{"UV_EXTRA_INDEX_URL": index.url_for("me", "s3cr3t")}])
        fetch_packages([package], store=store, credentials=known)
    assert store.find_blob(f"sha256:{package.artifact.sha256}")  # type: ignore[union-attr]


def test_a_source_is_fetched_only_where_its_wheel_is_missing(files: Path, store: Store) -> None:
    built = make_wheel(files, "src", "1.0")
    backend = make_wheel(files, "backend", "1.0")
    source = make_sdist(files, "src", "1.0", files={"pyproject.toml": ""})
    with IndexServer(files) as index:
        file = artifact(index, source)
        wheel = dataclasses.replace(artifact(index, built), url="")
        sdist = SdistArtifact(
            name=file.name, url=file.url, size=file.size, sha256=file.sha256, wheel=wheel, build=("backend==1.0",)
        )
        package = LockedPackage(name="src", version="1.0", index=index.url, artifact=sdist)
        builder = dataclasses.replace(locked(index, backend, "backend"), build_only=True)
        fetch_packages([package], store=store, all_packages=[package, builder])
        assert sorted(index.requests) == sorted([f"/files/{source.name}", f"/files/{backend.name}"])
        store.add_bytes(built.read_bytes())
        index.requests.clear()
        fetch_packages([package], store=Store(store.root), all_packages=[package, builder])
        assert index.requests == []
