"""The cache in a registry: what a step made comes from there, and only if it is what is locked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from klock.digests import hex_of
from klock.oci.reference import Reference
from tests.integration.conftest import copy_store
from tests.integration.registry_server import Registry, registry
from tests.integration.small_base import SMALL_BASE, archive, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = f"""\
import klock as kt

image = (
    kt.Image()
    .from_docker("{SMALL_BASE}")
    .run_bash("mkdir /srv && for i in $(head -c 300 /bin/busybox | wc -c) 2 3; do echo line $i >> /srv/made; done")
    .rsync("./app", "/srv/app", contents=True)
    .run_bash("cat /srv/made /srv/app/main.sh > /srv/both")
)
"""


def succeeded(done: CompletedProcess[str]) -> CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("cache")) as made:
        yield made


@pytest.fixture(scope="module")
def project(root: Account, server: Registry) -> Path:
    """A project whose cache is filled, and whose base is nowhere else any more."""
    folder = root.make_folder("project")
    (folder / "app").mkdir()
    (folder / "app/main.sh").write_text("echo $GREETING\n")
    (folder / "kimage.py").write_text(IMAGE)
    (folder / "pyproject.toml").write_text(f'[tool.klock]\ncache = "oci://{server.host}/team/cache"\n')
    write_small_base(folder / "layout")
    succeeded(root.klock("lock", cwd=folder))
    done = succeeded(root.klock("push", "--cache", cwd=folder))
    assert f"oci://{server.host}/team/cache filled: 3 blobs sent" in done.stderr
    (folder / "layout").rename(folder / "gone")
    return folder


def blob_files(server: Registry) -> dict[str, Path]:
    """The registry's files of blobs, by digest."""
    found = (server.folder / "images").glob("docker/registry/v2/blobs/sha256/*/*/data")
    return {f"sha256:{path.parent.name}": path for path in found}


def empty(root: Account) -> dict[str, str]:
    return {"KLOCK_CACHE_DIR": os.fspath(root.make_folder("store"))}


def test_an_empty_machine_reaches_the_fingerprint_from_the_cache_alone(root: Account, project: Path) -> None:
    store = empty(root)
    done = succeeded(root.klock("sync", cwd=project, env=store))
    assert "step 1 (kimage.py:6): taken from the cache" in done.stderr
    assert "step 3 (kimage.py:8): taken from the cache" in done.stderr
    assert "environment synced: linux/amd64/cpu, 1 of 3 steps ran, sha256:" in done.stderr
    succeeded(root.klock("check", "--deep", cwd=project, env=store))
    again = succeeded(root.klock("sync", cwd=project, env=store))
    assert "environment unchanged" in again.stderr


def test_a_second_fill_sends_nothing(root: Account, project: Path, server: Registry) -> None:
    server.forget_requests()
    done = succeeded(root.klock("push", "--cache", cwd=project))
    assert "0 blobs sent (0 B), 0 mounted, 3 there already" in done.stderr
    assert {method for method, _ in server.requests()} == {"HEAD"}


def poison(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [poison, truncate, remove], ids=lambda damage: damage.__name__)
def test_a_damaged_blob_is_found_and_the_step_made_again(
    root: Account, project: Path, server: Registry, damage: Callable[[Path], None]
) -> None:
    layers = [path for path in blob_files(server).values() if path.read_bytes()[:2] == b"\x1f\x8b"]
    small = [path for path in layers if path.stat().st_size < 2000]
    kept = {path: path.read_bytes() for path in small}
    try:
        for path in small:
            damage(path)
        store = empty(root)
        done = succeeded(root.klock("sync", cwd=project, env=store))
        assert "3 of 3 steps ran" in done.stderr
        assert "warning: " in done.stderr
        succeeded(root.klock("check", "--deep", cwd=project, env=store))
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_a_layer_that_was_swapped_for_another_is_not_taken(root: Account, project: Path, server: Registry) -> None:
    """Each tag leads to the layer of the other step, as somebody may have it who can write to the cache."""
    tags = sorted((server.folder / "images").glob("docker/registry/v2/repositories/team/cache/_manifests/tags/step-*"))
    links = [tag / "current/link" for tag in tags]
    assert len(links) == 2
    first, second = (link.read_text() for link in links)
    try:
        links[0].write_text(second)
        links[1].write_text(first)
        done = succeeded(root.klock("sync", cwd=project, env=empty(root)))
        assert "3 of 3 steps ran" in done.stderr
    finally:
        links[0].write_text(first)
        links[1].write_text(second)


def test_a_forged_annotation_does_not_make_another_layer_the_locked_one(
    root: Account, project: Path, server: Registry, tmp_path: Path
) -> None:
    """The manifest says that the other step's blob is this layer; the blob is whole by its own digest."""
    from klock.fetching.mirrors import Mirrors
    from klock.oci.artifacts import put_artifact
    from klock.oci.writing import open_repository
    from klock.registry.made import Blob
    from klock.registry.pull import read_manifest

    cache = open_repository(_reference(server), mirrors=Mirrors())
    tags = sorted((server.folder / "images").glob("docker/registry/v2/repositories/team/cache/_manifests/tags/step-*"))
    names = [tag.name for tag in tags]
    documents = [read_manifest(cache.find_document(name) or b"", name)["layers"][0] for name in names]
    kept = [(tag / "current/link").read_text() for tag in tags]
    try:
        for name, own, other in zip(names, documents, reversed(documents), strict=True):
            blob = Blob(
                digest=other["digest"],
                size=other["size"],
                media_type=other["mediaType"],
                path=lambda: tmp_path,
                layer=own["annotations"]["org.klock.layer"],
            )
            put_artifact(cache, name, [blob.descriptor()], kind="application/vnd.klock.cache.v1")
        done = succeeded(root.klock("sync", cwd=project, env=empty(root)))
        assert "the cache has something else" in done.stderr
        assert "3 of 3 steps ran" in done.stderr
    finally:
        for tag, link in zip(tags, kept, strict=True):
            (tag / "current/link").write_text(link)
    assert hex_of(documents[0]["digest"]) != hex_of(documents[1]["digest"])


def _reference(server: Registry) -> Reference:
    from klock.oci.artifacts import parse_address

    return parse_address(f"oci://{server.host}/team/cache")


def test_a_cache_that_does_not_answer_costs_one_warning(root: Account, project: Path) -> None:
    settings = (project / "pyproject.toml").read_text()
    (project / "gone").rename(project / "layout")
    try:
        (project / "pyproject.toml").write_text('[tool.klock]\ncache = "oci://127.0.0.1:9/team/cache"\n')
        done = succeeded(root.klock("sync", cwd=project, env=empty(root)))
        assert done.stderr.count("nothing is taken from the cache oci://127.0.0.1:9/team/cache: cannot reach") == 1
        assert "3 of 3 steps ran" in done.stderr
    finally:
        (project / "pyproject.toml").write_text(settings)
        (project / "layout").rename(project / "gone")


def test_a_registry_is_a_vault(root: Account, project: Path, server: Registry) -> None:
    """Every input of the base comes back on a machine that has nothing, though the base is nowhere else."""
    address = f"oci://{server.host}/team/vault"
    done = succeeded(root.klock("vault", "push", "-q", address, cwd=project))
    assert done.stderr.endswith(" new\n") and "3 blobs" in done.stderr
    server.forget_requests()
    again = succeeded(root.klock("vault", "push", "-q", address, cwd=project))
    assert again.stderr.endswith(" 0 new\n")
    assert {method for method, _ in server.requests()} == {"HEAD"}, "the tag is there, too"
    assert succeeded(root.klock("vault", "check", "-q", address, cwd=project)).stderr.endswith("all there\n")
    store = empty(root)
    succeeded(root.klock("vault", "pull", "-q", address, cwd=project, env=store))
    done = succeeded(root.klock("sync", "--offline", cwd=project, env=store))
    assert "3 of 3 steps ran" in done.stderr
    tags = (server.folder / "images").glob("docker/registry/v2/repositories/team/vault/_manifests/tags/vault-*")
    assert len(list(tags)) == 1


@pytest.mark.parametrize("place", ["registry", "folder"])
def test_a_sync_takes_from_the_vault_of_the_settings_what_the_store_lacks(
    root: Account, project: Path, server: Registry, place: str
) -> None:
    """The base is nowhere else."""
    vault = f"oci://{server.host}/team/source" if place == "registry" else "vault"
    settings = (project / "pyproject.toml").read_text()
    succeeded(root.klock("vault", "push", "-q", vault, cwd=project))
    (project / "sub").mkdir(exist_ok=True)
    try:
        (project / "pyproject.toml").write_text(f'[tool.klock]\nvault = "{vault}"\n')
        done = succeeded(root.klock("sync", cwd=project / "sub", env=empty(root)))
        assert "3 of 3 steps ran" in done.stderr
        (project / "pyproject.toml").write_text('[tool.klock]\nvault = "oci://127.0.0.1:9/team/vault"\n')
        done = root.klock("sync", cwd=project, env=empty(root))
        assert done.returncode == 2
        assert done.stderr.count("nothing is taken from the vault oci://127.0.0.1:9/team/vault: cannot reach") == 1
    finally:
        (project / "pyproject.toml").write_text(settings)


@pytest.mark.parametrize(
    ("damage", "word"), [(poison, "damaged"), (truncate, "damaged"), (remove, "missing")], ids=["poison", "cut", "gone"]
)
def test_a_vault_that_was_damaged_is_found_out(
    root: Account, project: Path, server: Registry, damage: Callable[[Path], None], word: str
) -> None:
    address = f"oci://{server.host}/team/vault"
    succeeded(root.klock("vault", "push", "-q", address, cwd=project))
    largest = max(blob_files(server).values(), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    try:
        damage(largest)
        done = root.klock("vault", "check", "-q", address, cwd=project)
        assert done.returncode == 1 and done.stderr.startswith("1 finding\nhint: fill it from the store")
        assert done.stdout.startswith(f"{word}: oci:./layout:image (layer)")
        done = root.klock("vault", "pull", "-q", address, cwd=project, env=empty(root))
        assert done.returncode == 2
        assert f"1 blob cannot be taken from {address}" in done.stderr
        done = root.klock("vault", "push", "-q", "--verify", address, cwd=project)
        if word == "missing":
            succeeded(done)
        else:
            assert "is damaged there, and the registry does not replace it" in done.stderr
    finally:
        largest.write_bytes(content)


@pytest.mark.soak
def test_a_debian_base_comes_from_the_cache_with_upstream_cut_off(
    root: Account, server: Registry, small_debian: Path
) -> None:
    """Its tree is compared with the locked one, so that no package has to be installed again, and none fetched."""
    folder = root.make_folder("debian")
    (folder / "kimage.py").write_text('import klock as kt\nimage = kt.images.from_debian("bookworm", ["jq"])\n')
    (folder / "pyproject.toml").write_text(f'[tool.klock]\ncache = "oci://{server.host}/team/debian"\n')
    (folder / "kimage.lock").write_text((small_debian / "kimage.lock").read_text())
    full = {"KLOCK_CACHE_DIR": os.fspath(root.make_folder("full") / "store")}
    copy_store(small_debian / "store", Path(full["KLOCK_CACHE_DIR"]))
    succeeded(root.klock("push", "--cache", "--frozen", cwd=folder, env=full))
    cut_off = {**empty(root), "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = succeeded(root.klock("sync", "--frozen", cwd=folder, env=cut_off))
    assert "unpack Debian bookworm\n  as locked\n" in done.stderr
    assert "make Debian" not in done.stderr
    assert "environment synced: linux/amd64/cpu, sha256:" in done.stderr
    assert succeeded(root.klock("run", "--frozen", "--", "jq", "--version", cwd=folder, env=cut_off)).stdout


@pytest.mark.soak
def test_another_tree_is_not_taken_for_a_debian_base(
    root: Account, server: Registry, small_debian: Path, tmp_path: Path
) -> None:
    """Somebody put an archive of another tree under the base's tag; klock then makes the base, which it cannot here."""
    from klock.digests import digest_of_bytes
    from klock.fetching.mirrors import Mirrors
    from klock.lockfile.reading import from_text
    from klock.oci.artifacts import parse_address, put_artifact
    from klock.oci.writing import Outgoing, content_reader, open_repository
    from klock.registry.made import Blob

    text = (small_debian / "kimage.lock").read_text()
    evil = archive([("etc/", None), ("etc/passwd", "root::0:0::/:/bin/sh\n")])
    cache = open_repository(parse_address(f"oci://{server.host}/team/evil"), mirrors=Mirrors())
    digest = digest_of_bytes(evil)
    cache.upload(Outgoing(digest=digest, size=len(evil), read=content_reader(evil)))
    media_type = "application/vnd.oci.image.layer.v1.tar"
    blob = Blob(digest=digest, size=len(evil), media_type=media_type, path=lambda: tmp_path)
    base = hex_of(from_text(text).targets[0].base.id)
    put_artifact(cache, f"base-{base}", [blob.descriptor()], kind="application/vnd.klock.cache.v1")

    folder = root.make_folder("evil")
    (folder / "kimage.py").write_text('import klock as kt\nimage = kt.images.from_debian("bookworm", ["jq"])\n')
    (folder / "pyproject.toml").write_text(f'[tool.klock]\ncache = "oci://{server.host}/team/evil"\n')
    (folder / "kimage.lock").write_text(text)
    cut_off = {**empty(root), "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = root.klock("sync", "--frozen", cwd=folder, env=cut_off)
    assert done.returncode == 2
    assert "the archive of the base has other files than the locked ones" in done.stderr
    assert "cannot reach" in done.stderr
