"""OCI documents are read or refused with a reason; layout folders, home folders and mirrors mean what they should."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.bases.layout import LayoutFolder
from klock.bases.passwd import home_of, is_root
from klock.digests import digest_of_bytes
from klock.errors import FetchError, HashMismatch
from klock.fetching.mirrors import DEBIAN_ARCHIVES, Mirrors
from klock.lockfile.model import OciBlob, SettingsLock, TargetLock
from klock.oci.documents import Config, Index, Manifest, parse_config, parse_manifest
from klock.targets import Target
from tests.test_dockerfile import BASE

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
AMD64, ARM64 = Target(architecture="amd64"), Target(architecture="arm64")


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def descriptor(letter: str, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(letter), "size": 7, **more}


def image(**changes: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": descriptor("c", f"{OCI}.config.v1+json"),
        "layers": [descriptor("1", f"{OCI}.layer.v1.tar+gzip"), descriptor("2", f"{OCI}.layer.v1.tar+zstd")],
        **changes,
    }


def index(*platforms: str, media_type: str = f"{OCI}.index.v1+json") -> dict[str, Any]:
    entries = []
    for letter, name in zip("abcdef", platforms, strict=False):
        entries.append(descriptor(letter, f"{OCI}.manifest.v1+json"))
        if name:
            os_name, architecture, variant = (*name.split("/"), "")[:3]
            platform = {"os": os_name, "architecture": architecture, **({"variant": variant} if variant else {})}
            entries[-1]["platform"] = platform
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}


def read(document: Any, media_type: str | None = None) -> Index | Manifest:
    return parse_manifest(json.dumps(document).encode(), media_type=media_type, name="x:1")


def test_an_oci_manifest_gives_its_config_and_layers_in_order() -> None:
    assert read(image()) == Manifest(
        config=OciBlob(digest=digest("c"), size=7, media_type=f"{OCI}.config.v1+json"),
        layers=(
            OciBlob(digest=digest("1"), size=7, media_type=f"{OCI}.layer.v1.tar+gzip"),
            OciBlob(digest=digest("2"), size=7, media_type=f"{OCI}.layer.v1.tar+zstd"),
        ),
    )


def test_a_docker_manifest_is_read_the_same_way() -> None:
    document = image(
        mediaType=f"{DOCKER}.distribution.manifest.v2+json",
        config=descriptor("c", f"{DOCKER}.container.image.v1+json"),
        layers=[descriptor("1", f"{DOCKER}.image.rootfs.diff.tar.gzip")],
    )
    parsed = read(document)
    assert isinstance(parsed, Manifest)
    assert [layer.digest for layer in parsed.layers] == [digest("1")]


@pytest.mark.parametrize("served_as", [None, f"{OCI}.manifest.v1+json; charset=utf-8", "application/json"])
def test_a_manifest_may_leave_its_type_out(served_as: str | None) -> None:
    document = image()
    del document["mediaType"]
    assert isinstance(read(document, served_as), Manifest)


def test_an_index_may_leave_its_type_out() -> None:
    document = index("linux/amd64")
    del document["mediaType"]
    assert isinstance(read(document), Index)


SELECTED = {
    "the platform": (("linux/arm64", "linux/amd64"), AMD64, "b"),
    "arm64 with its usual variant": (("linux/amd64", "linux/arm64/v8"), ARM64, "b"),
    "the one without a variant first": (("linux/amd64/v3", "linux/amd64"), AMD64, "b"),
    "a variant when there is nothing else": (("linux/amd64/v2", "linux/amd64/v3"), AMD64, "a"),
    "the first of two alike": (("linux/amd64", "linux/amd64"), AMD64, "a"),
    "not another operating system": (("windows/amd64",), AMD64, None),
    "not 32-bit ARM": (("linux/arm/v7",), ARM64, None),
    "not an attestation": (("unknown/unknown",), AMD64, None),
    "the first that says no platform": (("linux/arm64", "", ""), AMD64, "b"),
    "the platform before what says none": (("", "linux/amd64"), AMD64, "b"),
}


@pytest.mark.parametrize(("platforms", "target", "letter"), SELECTED.values(), ids=SELECTED.keys())
@pytest.mark.parametrize("kind", [f"{OCI}.index.v1+json", f"{DOCKER}.distribution.manifest.list.v2+json"])
def test_an_index_gives(platforms: tuple[str, ...], target: Target, letter: str | None, kind: str) -> None:
    parsed = read(index(*platforms, media_type=kind))
    assert isinstance(parsed, Index)
    chosen = parsed.select(target)
    assert (chosen.digest if chosen else None) == (digest(letter) if letter else None)


def test_attestations_are_no_platforms() -> None:
    document = index("linux/amd64", "unknown/unknown", "linux/arm/v7", "", "")
    document["manifests"][3]["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    document["manifests"][4]["artifactType"] = "application/vnd.in-toto+json"
    parsed = read(document)
    assert isinstance(parsed, Index)
    assert parsed.platforms == ["linux/amd64", "linux/arm/v7"]
    assert parsed.select(ARM64) is None


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/json"])
def test_a_config_may_have_the_type_that_old_registries_gave_it(kind: str) -> None:
    assert isinstance(read(image(config=descriptor("c", kind))), Manifest)


SCHEMA_1 = "x:1 is in docker's old image format (schema 1), which has no content digests"
FOREIGN = f"{DOCKER}.image.rootfs.foreign.diff.tar.gzip"
REFUSED = {
    "schema 1 by its version": ({"schemaVersion": 1, "fsLayers": []}, SCHEMA_1),
    "schema 1 by its type": (
        {"schemaVersion": 2, "mediaType": f"{DOCKER}.distribution.manifest.v1+prettyjws"},
        SCHEMA_1,
    ),
    "a foreign layer": (
        image(layers=[descriptor("1", FOREIGN, urls=["https://microsoft.example/layer"])]),
        f"x:1 has a foreign layer ({FOREIGN}), which its registry does not hold",
    ),
    "a nondistributable layer": (
        image(layers=[descriptor("1", f"{OCI}.layer.nondistributable.v1.tar+gzip")]),
        f"x:1 has a foreign layer ({OCI}.layer.nondistributable.v1.tar+gzip), which its registry does not hold",
    ),
    "an encrypted layer": (
        image(layers=[descriptor("1", f"{OCI}.layer.v1.tar+gzip+encrypted")]),
        f"x:1 has a layer of the unknown kind '{OCI}.layer.v1.tar+gzip+encrypted'",
    ),
    "a Helm chart": (
        image(config=descriptor("c", "application/vnd.cncf.helm.config.v1+json")),
        "x:1 is an artifact (application/vnd.cncf.helm.config.v1+json), not a container image",
    ),
    "something else altogether": (
        {"schemaVersion": 2, "mediaType": "text/html"},
        "x:1 is of the unknown kind 'text/html', not a container image",
    ),
    "a list": ([], "x:1 is damaged: it is not a JSON object"),
    "no config": ({"schemaVersion": 2, "layers": []}, "x:1 is damaged: 'config' is missing"),
    "layers that are not a list": (image(layers={}), "x:1 is damaged: layers is not a list"),
    "a size that is not a number": (
        image(config=descriptor("c", f"{OCI}.config.v1+json", size="7")),
        "x:1 is damaged: '7' is not a size",
    ),
    "a negative size": (
        image(config=descriptor("c", f"{OCI}.config.v1+json", size=-1)),
        "x:1 is damaged: -1 is not a size",
    ),
    "a digest that leaves the store": (
        image(config=descriptor("c", f"{OCI}.config.v1+json", digest="sha256:../../etc")),
        "x:1 is damaged: 'sha256:../../etc' is not a SHA-256 digest",
    ),
}


@pytest.mark.parametrize(("document", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(document: Any, message: str) -> None:
    with pytest.raises(FetchError) as error:
        read(document)
    assert error.value.message == message


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(FetchError, match=r"^x:1 is damaged: "):
        parse_manifest(b"<html>", media_type="text/html", name="x:1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([digest("a"), OCI]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests"])


@given(st.dictionaries(KEYS, JSON), st.sampled_from([{}, image(), index("linux/amd64")]))
def test_any_document_is_read_or_refused(changes: dict[str, Any], document: dict[str, Any]) -> None:
    try:
        parsed = read({**document, **changes})
    except FetchError as error:
        assert error.message.startswith("x:1 ")
    else:
        assert isinstance(parsed, Index | Manifest)


@given(JSON, st.sampled_from(["config", "rootfs", "os", "architecture", "variant"]))
def test_any_config_is_read_or_refused(value: Any, key: str) -> None:
    good = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}
    try:
        parse_config(json.dumps({**good, key: value}).encode(), name="x:1 (config)")
    except FetchError as error:
        assert error.message.startswith("x:1 (config) is damaged: ")


def test_a_config_says_what_the_environment_starts_with() -> None:
    content = {
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
        "config": {"Env": ["A=1", "B=x=y", "EMPTY=", "A=2", "=x"], "WorkingDir": "/srv", "User": "app:staff"},
        "rootfs": {"type": "layers", "diff_ids": [digest("d")]},
        "history": [{"empty_layer": True}],
    }
    assert parse_config(json.dumps(content).encode(), name="x") == Config(
        platform="linux/arm64/v8",
        environment=(("A", "2"), ("B", "x=y"), ("EMPTY", "")),
        working_dir="/srv",
        user="app:staff",
        diff_ids=(digest("d"),),
    )


def test_a_config_may_say_nothing() -> None:
    content = {"os": "linux", "architecture": "amd64", "config": None, "rootfs": {"type": "layers", "diff_ids": []}}
    config = parse_config(json.dumps(content).encode(), name="x")
    assert (config.environment, config.working_dir, config.user) == ((), "/", "")


# -- layout folders


def layout(folder: Path, tags: dict[str | None, bytes]) -> Path:
    (folder / "blobs/sha256").mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entries = []
    for tag, content in tags.items():
        name = digest_of_bytes(content)
        (folder / "blobs/sha256" / name.removeprefix("sha256:")).write_bytes(content)
        entry: dict[str, Any] = {"mediaType": f"{OCI}.manifest.v1+json", "digest": name, "size": len(content)}
        entries.append(entry | ({"annotations": {"org.opencontainers.image.ref.name": tag}} if tag else {}))
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return folder


def test_a_layout_with_one_image_needs_no_tag(tmp_path: Path) -> None:
    folder = layout(tmp_path / "l", {None: b"{}"})
    document = LayoutFolder(folder, tag=None, name="oci:l").root()
    assert (document.content, document.media_type) == (b"{}", f"{OCI}.manifest.v1+json")


def test_a_tag_chooses(tmp_path: Path) -> None:
    folder = layout(tmp_path / "l", {"v1": b"1", "v2": b"2"})
    assert LayoutFolder(folder, tag="v2", name="oci:l:v2").root().content == b"2"


def test_a_layout_without_the_tag_lists_its_tags(tmp_path: Path) -> None:
    folder = layout(tmp_path / "l", {"v1": b"1", "v2": b"2"})
    for tag, problem in (("v3", "has no such image"), (None, "holds several images")):
        with pytest.raises(FetchError) as error:
            LayoutFolder(folder, tag=tag, name="oci:l").root()
        assert error.value.message == f"oci:l: the folder {problem}"
        assert error.value.hint == "name one of its images with oci:PATH:TAG: v1, v2"


def test_a_folder_that_is_no_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as error:
        LayoutFolder(tmp_path / "absent", tag=None, name="oci:absent").root()
    assert error.value.message == (f"oci:absent: {tmp_path}/absent is not an OCI layout folder: it has no oci-layout")


def test_a_changed_blob_of_a_layout_is_refused(tmp_path: Path) -> None:
    folder = layout(tmp_path / "l", {"v1": b"1"})
    next((folder / "blobs/sha256").iterdir()).write_bytes(b"2")
    with pytest.raises(HashMismatch, match="is damaged: its bytes have another digest"):
        LayoutFolder(folder, tag="v1", name="oci:l:v1").root()


def test_a_blob_that_was_removed_says_what_to_do(tmp_path: Path) -> None:
    folder = layout(tmp_path / "l", {"v1": b"1"})
    source = LayoutFolder(folder, tag="v1", name="oci:l:v1")
    with pytest.raises(FetchError) as error:
        list(source.blob(OciBlob(digest=digest("0"), size=1, media_type="x")))
    assert error.value.message == f"oci:l:v1: the folder no longer holds {digest('0')}"
    assert error.value.hint == "restore the folder, or lock again with --upgrade-base"


# -- home folders


PASSWD = (
    b"root:x:0:0:root:/root:/bin/bash\napp:x:1000:100::/srv/app:/bin/sh\nnobody:x:65534:65534::/nonexistent:\nbad\n"
)
HOMES = {
    "": "/root",
    "root": "/root",
    "0": "/root",
    "root:root": "/root",
    "app": "/srv/app",
    "app:staff": "/srv/app",
    "1000": "/srv/app",
    "1000:1000": "/srv/app",
    "4711": "/",
    "stranger": "/",
}


@pytest.mark.parametrize(("user", "home"), HOMES.items())
def test_the_home_of(user: str, home: str) -> None:
    assert home_of(user, PASSWD) == home


def test_root_has_a_home_without_an_entry() -> None:
    assert home_of("", b"") == "/root"


@pytest.mark.parametrize("has_home", [False, True])
def test_home_follows_the_user_unless_the_base_says_it(has_home: bool) -> None:
    base = replace(BASE, environment=(("HOME", "/root"), ("A", "1")), has_home=has_home, settings=None)
    steps = (SettingsLock(user="app", home="/srv/app"),)
    lock = TargetLock(target=Target(), base=base, interpreter=None, steps=steps, packages=())
    assert lock.environment == {"HOME": "/root" if has_home else "/srv/app", "A": "1"}
    assert replace(lock, steps=()).environment == {"HOME": "/root", "A": "1"}


@pytest.mark.parametrize(
    ("user", "expected"), [("", True), ("0:0", True), ("root", True), ("app", False), ("00", False)]
)
def test_is_root(user: str, expected: bool) -> None:
    assert is_root(user) is expected


# -- mirrors


def test_settings_replace_what_they_name() -> None:
    mirrors = Mirrors.from_settings(
        registries={"docker.io": "http://127.0.0.1:5000/"}, debian="http://mirror.example/debian/"
    )
    assert mirrors.registries == {"docker.io": "http://127.0.0.1:5000"}
    assert mirrors.debian == {
        "debian": "http://mirror.example/debian",
        "debian-security": DEBIAN_ARCHIVES["debian-security"],
    }


def test_without_settings_all_is_upstream() -> None:
    assert Mirrors.from_settings() == Mirrors()
