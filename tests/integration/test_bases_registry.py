"""Bases from a real registry: resolved to digests, fetched by digest, unpacked by the engine as they were pushed."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from klock.bases import fetch_base, resolve_base
from klock.errors import FetchError, HashMismatch
from klock.fetching.mirrors import Mirrors
from klock.image.steps import LayoutBase, RegistryBase
from klock.lockfile.model import OciLock
from klock.store import Store
from klock.targets import Target
from klock.workshop import SandboxWorkshop
from tests.integration.registry_server import Registry, registry, write_layout

pytestmark = pytest.mark.integration

HERE = Target.of_this_machine()
OTHER = Target(architecture="arm64" if HERE.architecture == "amd64" else "amd64")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nmaker:x:1000:1000::/home/maker:/bin/sh\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    tar = small_tar(folder / "small.tar", {"etc/passwd": PASSWD, "etc/motd": b"hello\n"})
    with registry(folder) as server:
        server.push_rootfs(tar, "library/python", "3.12-slim", config={"Env": ["LANG=C.UTF-8"], "WorkingDir": "/srv"})
        server.push_rootfs(tar, "team/tool", "v1", platforms=("linux/amd64", "linux/arm64"))
        server.push_rootfs(tar, "team/tool", "other-only", platforms=(OTHER.platform,))
        server.push_rootfs(tar, "team/tool", "as-maker", config={"User": "maker", "Env": ["PATH=/bin"]})
        yield server


def small_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def resolve(reference: str, server: Registry, store: Store, *, target: Target = HERE, offline: bool = False) -> OciLock:
    lock = resolve_base(
        RegistryBase(reference=reference),
        target=target,
        root=Path("/"),
        store=store,
        workshop=SandboxWorkshop(store),
        mirrors=Mirrors.from_settings(registries={"docker.io": server.url}),
        offline=offline,
    )
    assert isinstance(lock, OciLock)
    return lock


def fetch(lock: OciLock, server: Registry, store: Store, *, root: Path = Path("/"), offline: bool = False) -> None:
    mirrors = Mirrors.from_settings(registries={"docker.io": server.url})
    fetch_base(lock, workshop=SandboxWorkshop(store), store=store, root=root, mirrors=mirrors, offline=offline)


def test_a_tag_becomes_digests_and_what_the_config_says(server: Registry, store: Store) -> None:
    lock = resolve("python:3.12-slim", server, store)

    assert lock.reference == "python:3.12-slim"
    assert lock.index_digest is None
    assert lock.working_dir == "/srv"
    assert dict(lock.environment) == {
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
    }


def test_an_index_gives_each_platform_its_own_manifest(server: Registry, store: Store) -> None:
    reference = f"{server.host}/team/tool:v1"
    here, other = resolve(reference, server, store), resolve(reference, server, store, target=OTHER)

    assert here.index_digest == other.index_digest is not None
    assert here.manifest.digest != other.manifest.digest
    assert here.id == other.id, "the same files, so the same unpacked base"


def test_a_reference_by_digest_is_kept_as_written(server: Registry, store: Store) -> None:
    digest = resolve(f"{server.host}/team/tool:v1", server, store).index_digest
    lock = resolve(f"{server.host}/team/tool@{digest}", server, store)

    assert (lock.reference, lock.index_digest) == (f"{server.host}/team/tool@{digest}", digest)


def test_the_home_of_another_user_comes_from_the_images_passwd(server: Registry, store: Store) -> None:
    lock = resolve(f"{server.host}/team/tool:as-maker", server, store)

    assert (lock.user, dict(lock.environment)) == ("maker", {"PATH": "/bin", "HOME": "/home/maker"})


def test_fetching_asks_by_digest_only_and_the_engine_has_the_files(
    server: Registry, store: Store, engine: SandboxWorkshop
) -> None:
    lock = resolve("python:3.12-slim", server, store)
    server.forget_requests()

    fetch(lock, server, store)

    assert server.requests() == [("GET", f"/v2/library/python/blobs/{lock.layers[0].digest}")]
    assert [path for path, entry in engine.base_manifest(lock.id).items() if entry.digest] == ["etc/motd", "etc/passwd"]
    with engine.open(lock.id, []) as workspace:
        assert workspace.read("/etc/motd") == b"hello\n"


def test_a_second_fetch_asks_nothing(server: Registry, store: Store) -> None:
    lock = resolve("python:3.12-slim", server, store)
    fetch(lock, server, store)
    server.forget_requests()

    fetch(lock, server, store)
    fetch(lock, server, store, offline=True)

    assert server.requests() == []


def test_offline_resolves_what_was_resolved_before(server: Registry, store: Store) -> None:
    with pytest.raises(FetchError) as error:
        resolve("python:3.12-slim", server, store, offline=True)
    assert error.value.message == "docker.io/library/python:3.12-slim is not in the store, and klock is offline"

    online = resolve("python:3.12-slim", server, store)

    assert resolve("python:3.12-slim", server, store, offline=True) == online


def test_offline_without_the_layers_says_what_is_missing(server: Registry, store: Store) -> None:
    lock = resolve("python:3.12-slim", server, store)

    with pytest.raises(FetchError) as error:
        fetch(lock, server, store, offline=True)

    assert error.value.message == (
        f"fetch python:3.12-slim: python:3.12-slim (layer {lock.layers[0].digest}) not in the store, "
        "and klock is offline"
    )


def test_a_tag_that_moved_does_not_move_the_lock(server: Registry, store: Store, tmp_path: Path) -> None:
    first = small_tar(tmp_path / "first.tar", {"version": b"1"})
    server.push_rootfs(first, "team/moving", "latest")
    lock = resolve(f"{server.host}/team/moving", server, store)
    server.push_rootfs(small_tar(tmp_path / "second.tar", {"version": b"2"}), "team/moving", "latest")

    fetch(lock, server, store)

    with SandboxWorkshop(store).open(lock.id, []) as workspace:
        assert workspace.read("/version") == b"1"
    assert resolve(f"{server.host}/team/moving", server, store).id != lock.id


def test_an_unknown_image_is_named_with_its_registry(server: Registry, store: Store) -> None:
    with pytest.raises(FetchError) as error:
        resolve("python:3.99-slim", server, store)

    assert error.value.message == (f"docker.io/library/python:3.99-slim: {server.host} has no such image (status 404)")
    assert error.value.hint == "check the name and tag; images of another registry are written REGISTRY/NAME:TAG"


def test_a_platform_that_is_not_there_lists_those_that_are(server: Registry, store: Store) -> None:
    reference = f"{server.host}/team/tool:other-only"
    with pytest.raises(FetchError) as error:
        resolve(reference, server, store)

    assert error.value.message == f"{reference} has no image for {HERE.platform}"
    assert error.value.hint == f"choose another base or target; this base is for: {OTHER.platform}"


def test_a_single_image_of_another_platform_is_not_taken(server: Registry, store: Store) -> None:
    with pytest.raises(FetchError, match=f"has no image for {OTHER.platform}"):
        resolve("python:3.12-slim", server, store, target=OTHER)


def test_a_registry_that_is_not_there_is_unreachable(store: Store, server: Registry) -> None:
    with pytest.raises(FetchError) as error:
        resolve("127.0.0.1:9/team/tool:v1", server, store)

    assert error.value.message == "cannot reach 127.0.0.1:9: Connection refused"


def test_a_damaged_blob_in_the_registry_is_refused(server: Registry, store: Store, tmp_path: Path) -> None:
    server.push_rootfs(small_tar(tmp_path / "good.tar", {"good": b"1" * 3000}), "team/damaged", "v1")
    lock = resolve(f"{server.host}/team/damaged:v1", server, store)
    digits = lock.layers[0].digest.removeprefix("sha256:")
    data = server.folder / f"images/docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")

    with pytest.raises(HashMismatch) as error:
        fetch(lock, server, store)

    assert error.value.message.startswith(f"{lock.reference} (layer {lock.layers[0].digest}): hash mismatch: locked ")
    assert not SandboxWorkshop(store).has_base(lock.id)
    assert store.find_blob(lock.layers[0].digest) is None


def test_a_private_registry_wants_the_credentials_of_the_docker_config(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "docker"
    config.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    with registry(tmp_path, password=True) as private:
        private.push_rootfs(small_tar(tmp_path / "s.tar", {"a": b"1"}), "team/secret", "v1")
        reference = f"{private.host}/team/secret:v1"

        with pytest.raises(FetchError) as error:
            resolve(reference, private, store)
        assert error.value.message == f"{reference}: {private.host} wants credentials, or there is no such repository"
        assert error.value.hint == f"check the name; if it is private, run `docker login {private.host}`"

        (config / "config.json").write_text(json.dumps({"auths": {private.host: {"auth": "dXNlcjp3cm9uZw=="}}}))
        with pytest.raises(FetchError, match="does not accept the login that this machine has"):
            resolve(reference, private, store)

        (config / "config.json").write_text(json.dumps({"auths": {private.host: {"auth": "dXNlcjpzZWNyZXQ="}}}))
        fetch(resolve(reference, private, store), private, store)


def test_an_image_in_a_layout_folder_is_found_relative_to_the_image_file(
    tmp_path: Path, store: Store, engine: SandboxWorkshop
) -> None:
    tar = small_tar(tmp_path / "s.tar", {"etc/motd": b"from a folder\n"})
    write_layout(tmp_path / "bases/tool", {"linux/amd64": [tar], "linux/arm64": [tar]}, tag="v1")
    base = LayoutBase(path="bases/tool", tag="v1")

    lock = resolve_base(base, target=HERE, root=tmp_path, store=store, workshop=engine)
    fetch_base(lock, workshop=engine, store=store, root=tmp_path)

    assert isinstance(lock, OciLock)
    assert lock.reference == "oci:bases/tool:v1"
    with engine.open(lock.id, []) as workspace:
        assert workspace.read("/etc/motd") == b"from a folder\n"


def test_a_real_base_image_runs_python(
    server: Registry, store: Store, engine: SandboxWorkshop, debian_oci_layout: Path
) -> None:
    from klock.workshop.protocol import Command

    server.push_layout(debian_oci_layout, "library/debian", "bookworm")
    lock = resolve("debian:bookworm", server, store)
    fetch(lock, server, store)

    with engine.open(lock.id, []) as workspace:
        done = workspace.run(
            Command(
                argv=("python3", "-c", "print('ran')"), environment=dict(lock.environment), working_dir=lock.working_dir
            )
        )
    assert (done.status, done.output) == (0, b"ran\n")
