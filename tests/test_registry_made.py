"""Images as documents: what follows from the lock, without a registry and without a sandbox."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes
from klock.errors import EngineError, KlockError
from klock.layers.compression import compression_named
from klock.lockfile.model import (
    EnvLock,
    LayerLock,
    LockedVariable,
    OciBlob,
    OciImage,
    OciLayer,
    OciLock,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
)
from klock.oci.reference import Reference
from klock.registry.layout import write_archive, write_folder
from klock.registry.made import MOST_LAYERS, MadeImage, make_image, make_index
from klock.registry.push import refuse_another_digest, sources_of, tag_of_target
from klock.steps.context import Context
from klock.targets import Target
from tests.memory_workshop import memory_context

NONE = compression_named("none")
LAYER = LayerLock(digest=digest_of_bytes(b"a layer"), files=1, size=3)
HERE = Target.of_this_machine()


def blob(content: bytes, media_type: str = "x") -> OciBlob:
    return OciBlob(digest=digest_of_bytes(content), size=len(content), media_type=media_type)


def oci_base(*kinds: str, reference: str = "reg.example/bases/python:3.12") -> OciLock:
    layers = tuple(
        OciLayer(digest=digest_of_bytes(b"%d" % n), size=n + 1, media_type=kind, diff_id=digest_of_bytes(b"d%d" % n))
        for n, kind in enumerate(kinds)
    )
    return OciLock(
        reference=reference, index_digest=None, manifest=blob(b"manifest"), config=blob(b"config"), layers=layers
    )


GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def lock_of(*steps: StepLock, base: OciLock | None = None, target: Target = HERE) -> TargetLock:
    return TargetLock(
        target=target,
        base=base or oci_base(GZIP),
        interpreter=None,
        steps=steps,
        packages=(),
    )


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A workshop whose layers are archives of their own digest, and a base that need not be fetched."""
    made = memory_context(tmp_path)

    def write(digest: str, archive: Path, *, derived: bool = False) -> None:
        assert not derived, "what klock derives here is not in an image"
        archive.write_bytes(digest.encode() * 10)

    monkeypatch.setattr(made.workshop, "has_layer", lambda _: True)
    monkeypatch.setattr(made.workshop, "write_layer", write)
    monkeypatch.setattr(made.workshop, "has_base", lambda _: True)
    monkeypatch.setattr(made.workshop, "write_base", write)
    return made


def manifest_of(image: MadeImage) -> dict[str, object]:
    document: dict[str, object] = json.loads(image.manifest)
    return document


def test_the_bases_archives_come_first_by_their_own_digests_and_oci_names(context: Context) -> None:
    kinds = (GZIP, "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar+zstd")
    image = make_image(lock_of(ShellLock(command="x", layer=LAYER), base=oci_base(*kinds)), context, NONE)
    layers = json.loads(image.manifest)["layers"]
    assert [layer["digest"] for layer in layers[:3]] == [digest_of_bytes(b"%d" % n) for n in range(3)]
    types = [layer["mediaType"].removeprefix("application/vnd.oci.image.layer.v1.") for layer in layers]
    assert types == ["tar+gzip", "tar", "tar+zstd", "tar"]
    assert layers[3]["annotations"] == {"org.klock.layer": LAYER.digest}
    assert json.loads(image.config)["rootfs"]["diff_ids"][0] == digest_of_bytes(b"d0")


def test_a_credential_is_no_part_of_an_image(context: Context) -> None:
    token = LockedVariable(name="TOKEN", written="${TOKEN}", value="${TOKEN}", secrets=("TOKEN",))
    plain = LockedVariable(name="PLAIN", written="1", value="1")
    image = make_image(lock_of(EnvLock(variables=(token, plain))), context, NONE)
    assert json.loads(image.config)["config"]["Env"] == ["PLAIN=1"]
    assert b"TOKEN" not in image.config + image.manifest


def test_services_are_started_by_the_entrypoint(context: Context) -> None:
    image = make_image(lock_of(ServiceLock(command="serve --port 8888 &")), context, NONE)
    assert json.loads(image.config)["config"]["Entrypoint"] == ["/usr/local/lib/klock/start"]
    with tarfile.open(image.layers[-1].path()) as archive:
        names = [(member.name, member.mode) for member in archive]
        script = archive.extractfile("usr/local/lib/klock/start")
        assert script is not None and b"serve --port 8888" in script.read()
    assert names[-1] == ("usr/local/lib/klock/start", 0o755)


def test_a_base_that_makes_too_many_layers_is_one(context: Context) -> None:
    few, many = oci_base(*[GZIP] * (MOST_LAYERS - 2)), oci_base(*[GZIP] * (MOST_LAYERS - 1))
    step = ShellLock(command="x", layer=LAYER)
    assert len(make_image(lock_of(step, base=few), context, NONE).layers) == MOST_LAYERS - 1
    assert len(make_image(lock_of(step, base=many), context, NONE).layers) == 2


def test_a_layout_of_this_machine_leaves_no_path_of_it(context: Context) -> None:
    base = oci_base(GZIP, reference="oci:/home/somebody/layout:x")
    image = make_image(lock_of(base=base), context, NONE)
    assert b"somebody" not in image.config + image.manifest


def test_the_archive_and_the_folder_are_the_same_each_time(context: Context, tmp_path: Path) -> None:
    image = make_image(lock_of(ShellLock(command="x", layer=LAYER), base=oci_base()), context, NONE)
    write_archive(image, tmp_path / "one.tar", name="a:1")
    write_archive(image, tmp_path / "two.tar", name="a:1")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        for member in archive:
            if member.name.startswith("blobs/sha256/") and member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                assert digest_of_bytes(content.read()) == f"sha256:{member.name.rpartition('/')[2]}"


def test_a_folder_is_brought_up_to_date_and_nothing_else_is_overwritten(context: Context, tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    write_folder(make_image(lock_of(base=oci_base()), context, NONE), folder, name=None)
    image = make_image(lock_of(ShellLock(command="x", layer=LAYER), base=oci_base()), context, NONE)
    write_folder(image, folder, name=None)
    assert len(list((folder / "blobs/sha256").iterdir())) == 3
    assert json.loads((folder / "index.json").read_text())["manifests"][0]["digest"] == image.digest
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    with pytest.raises(KlockError, match="is not empty, and no OCI layout"):
        write_folder(image, tmp_path / "mine", name=None)


def test_an_index_names_each_target(context: Context) -> None:
    cuda = replace(HERE, accelerator="cuda12.4")
    images = [make_image(lock_of(target=target), context, NONE) for target in (HERE, cuda)]
    entries = json.loads(make_index(images))["manifests"]
    assert [entry["annotations"]["org.klock.target"] for entry in entries] == [str(HERE), str(cuda)]
    assert [tag_of_target("v1", image) for image in images] == [
        f"v1-linux-{HERE.architecture}-cpu",
        f"v1-linux-{HERE.architecture}-cuda12.4",
    ]


def test_another_digest_than_the_locked_one_is_refused(context: Context) -> None:
    lock = lock_of(ShellLock(command="x", layer=LAYER))
    image = make_image(lock, context, NONE)
    good = OciImage(digest=image.digest, size=len(image.manifest), compression="none")
    refuse_another_digest(make_image(replace(lock, oci_image=good), context, NONE), "none")
    bad = replace(good, digest=digest_of_bytes(b"another"))
    refuse_another_digest(make_image(replace(lock, oci_image=bad), context, NONE), "gzip-1")
    with pytest.raises(KlockError, match="is not the one whose digest is locked"):
        refuse_another_digest(make_image(replace(lock, oci_image=bad), context, NONE), "none")


def test_another_platform_cannot_be_made_here_and_says_where(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.workshop, "has_layer", lambda _: False)
    other = Target(architecture="arm64" if HERE.architecture == "amd64" else "amd64")
    with pytest.raises(EngineError, match=f"the layers of {other} are not on this machine") as caught:
        make_image(lock_of(ShellLock(command="x", layer=LAYER), target=other), context, NONE)
    assert f"--target {HERE}" in (caught.value.hint or "")


def test_blobs_are_mounted_from_the_base_in_the_same_registry_alone(context: Context) -> None:
    image = make_image(lock_of(), context, NONE)
    assert sources_of([image, image], Reference.parse("reg.example/team/app:v1")) == ["bases/python"]
    assert sources_of([image], Reference.parse("other.example/team/app:v1")) == []
    assert sources_of([image], Reference.parse("reg.example/bases/python:mine")) == []


def test_a_damaged_record_of_what_was_packed_is_packed_again(context: Context) -> None:
    lock = lock_of(ShellLock(command="x", layer=LAYER))
    image = make_image(lock, context, NONE)
    for path in (context.store.root / "records/compressed").iterdir():
        path.write_text('{"digest": "sha256:no", "size": "7"}')
    assert make_image(lock, context, NONE).digest == image.digest
    assert io.BytesIO(image.layers[-1].path().read_bytes()).read()
