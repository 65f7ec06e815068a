"""Where upstream no longer says what is locked, and who still has the locked bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from klock.asking import Asker
from klock.errors import StoreError
from klock.lockfile.model import (
    AptLock,
    CopyLock,
    DebianLock,
    DebPackage,
    DownloadedFile,
    ImageLock,
    LockedRequest,
    Lockfile,
    OciBlob,
    OciLock,
    ShellLock,
    StepLock,
    TargetLock,
)
from klock.steps.kind import UNKNOWN_LAYER
from klock.targets import Target
from klock.upstream.moved import Keepers, moved_findings
from klock.vault import Input, Vault, VaultFolder
from klock.vault.protocol import Count, uncounted
from tests.memory_workshop import memory_context
from tests.test_asking import server

Served = tuple[int, dict[str, str], bytes]
GONE: Served = (404, {}, b"no")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def lock_of(*steps: StepLock, base: DebianLock | OciLock | None = None) -> Lockfile:
    empty = DebianLock(suite="bookworm", packages=(), debs=(), tree="sha256:" + "1" * 64)
    target = TargetLock(target=Target(), base=base or empty, interpreter=None, steps=steps, packages=())
    return Lockfile(image=ImageLock(), normalisation=1, targets=(target,))


def found_in(
    lock: Lockfile, folder: Path, *, vault: Vault | None = None, seconds: float = 60
) -> tuple[list[str], list[str]]:
    context = memory_context(folder)
    asker = Asker(context.store, seconds=seconds)
    keepers = Keepers.of_lock(lock, context, vault)
    found = moved_findings(lock, context, asker, keepers, base_location="kimage.py:3")
    return [f"{each.code.value}: {each}" for each in found], asker.notes


def got(url: str, content: bytes, **more: Any) -> LockedRequest:
    return LockedRequest(method="GET", url=url, status=200, size=len(content), sha256=sha256(content), **more)


def test_answers_of_a_shell_step(tmp_path: Path) -> None:
    store = memory_context(tmp_path).store
    store.add_bytes(b"one 1.0")
    answers: dict[str, list[Served]] = {
        "/same": [(200, {}, b"same")],
        "/one-1.0.tar.gz": [GONE],
        "/two-2.0.tar.gz": [(200, {}, b"TWO 2.0")],
        "/InRelease": [(200, {}, b"today")],
        "/Packages": [(200, {}, b"today")],
        "/broken": [(500, {}, b"")],
    }
    with server({path: list(each) for path, each in answers.items()}) as (url, asked):
        requests = (
            got(f"{url}/same", b"same"),
            got(f"{url}/one-1.0.tar.gz", b"one 1.0"),
            got(f"{url}/two-2.0.tar.gz", b"two 2.0"),
            got(f"{url}/InRelease", b"yesterday"),
            got(f"{url}/Packages", b"yesterday"),
            got(f"{url}/with-a-credential", b"", authorized=True),
            got("http://169.254.169.254/latest/meta-data", b"nobody named it"),
        )
        step = ShellLock(command=f"curl {url}/same", layer=UNKNOWN_LAYER, requests=requests)
        found, notes = found_in(lock_of(step), tmp_path)
    assert found == [
        f"moved-gone: step 1: {url}/one-1.0.tar.gz answers with status 404 now, 200 is locked; "
        "this machine's store has it",
        f"moved-answer: step 1: {url}/two-2.0.tar.gz has other bytes now",
        f"moved-answer: step 1: {url}/InRelease has other bytes now (and 1 more)",
    ]
    assert notes == []
    assert sorted(asked) == ["/InRelease", "/Packages", "/one-1.0.tar.gz", "/same", "/two-2.0.tar.gz"]


def test_a_large_answer_is_not_fetched_and_its_length_is_compared(tmp_path: Path) -> None:
    size = (1 << 20) + 1
    with server({"/x-1.0.zip": [(200, {"Content-Length": "7"}, b"")]}) as (url, _):
        request = LockedRequest(method="GET", url=f"{url}/x-1.0.zip", status=200, size=size, sha256="0" * 64)
        found, _ = found_in(lock_of(ShellLock(command=url, layer=UNKNOWN_LAYER, requests=(request,))), tmp_path)
    assert found == [f"moved-answer: step 1: {url}/x-1.0.zip has 7 bytes now, {size} are locked"]


def test_debs_of_the_base_and_of_a_step_and_what_the_vault_has(tmp_path: Path) -> None:
    vault = VaultFolder(tmp_path / "vault")
    with server({"/d/a.deb": [(200, {}, b"abc")], "/d/b.deb": [GONE], "/d/c.deb": [(200, {}, b"longer")]}) as (url, _):

        def deb(name: str) -> DebPackage:
            return DebPackage(
                name=name,
                version="1",
                architecture="all",
                path=f"{name}.deb",
                size=3,
                sha256=name * 64,
                archive=f"{url}/d",
            )

        blob = vault.blob_path("sha256:" + "b" * 64)
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"bbb")
        base = DebianLock(suite="bookworm", packages=(), debs=(deb("a"), deb("b")), tree="sha256:" + "1" * 64)
        step = AptLock(packages=("c",), debs=(deb("c"),), layer=UNKNOWN_LAYER)
        found, notes = found_in(lock_of(step, base=base), tmp_path, vault=vault)
    assert found == [
        f"moved-gone: kimage.py:3: b 1 is no longer at {url}/d/b.deb; the vault {vault.name} has it",
        f"moved-file: step 1: c 1 has 6 bytes at {url}/d/c.deb now, 3 are locked",
    ]
    assert notes == []


def test_a_vault_that_cannot_be_read_is_asked_once_and_said(tmp_path: Path) -> None:
    asked: list[str] = []

    class Unreadable(VaultFolder):
        def holds(self, item: Input, *, verify: bool = False, count: Count = uncounted) -> bool:
            asked.append(item.name)
            raise StoreError("it is locked away")

    with server({"/d/b.deb": [GONE], "/d/c.deb": [GONE]}) as (url, _):
        debs = tuple(
            DebPackage(
                name=n, version="1", architecture="all", path=f"{n}.deb", size=3, sha256=n * 64, archive=f"{url}/d"
            )
            for n in "bc"
        )
        base = DebianLock(suite="bookworm", packages=(), debs=debs, tree="sha256:" + "1" * 64)
        found, notes = found_in(lock_of(base=base), tmp_path, vault=Unreadable(tmp_path / "vault"))
    assert len(found) == 2
    assert len(asked) == 1
    assert notes == [f"the vault {tmp_path / 'vault'} was not asked: it is locked away"]


def test_a_file_that_add_fetched(tmp_path: Path) -> None:
    with server({"/x": [(200, {}, b"other")]}) as (url, _):
        file = DownloadedFile(url=f"{url}/x", path="x", sha256=sha256(b"first"), size=5)
        step = CopyLock(sources=("x",), destination="/srv/", downloads=(file,), layer=UNKNOWN_LAYER)
        found, notes = found_in(lock_of(step), tmp_path)
    assert (found, notes) == ([f"moved-file: step 1: {url}/x has other bytes now"], [])


def blob(content: bytes, kind: str = "config.v1+json") -> OciBlob:
    media_type = f"application/vnd.oci.image.{kind}"
    return OciBlob(digest=f"sha256:{sha256(content)}", size=len(content), media_type=media_type)


def image(created: str) -> tuple[bytes, bytes]:
    """A manifest and its config."""
    config = json.dumps({"created": created, "os": "linux", "architecture": "amd64"}).encode()
    described = blob(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": described.media_type, "digest": described.digest, "size": described.size},
        "layers": [],
    }
    return json.dumps(manifest).encode(), config


@pytest.mark.parametrize("is_there", [True, False])
def test_a_base_whose_tag_has_moved(is_there: bool, tmp_path: Path) -> None:
    (old, old_config), (new, new_config) = image("2026-10-02T01:02:03.5Z"), image("2026-11-28T00:00:00Z")
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    path, (locked, now) = "/v2/team/python", (blob(old, "manifest.v1+json"), blob(new, "manifest.v1+json"))
    answers: dict[str, list[Served]] = {
        f"{path}/manifests/3.12": [(200, kind, new)],
        f"{path}/manifests/{locked.digest}": [(200, kind, old) if is_there else GONE],
        f"{path}/blobs/{blob(old_config).digest}": [(200, {}, old_config)],
        f"{path}/blobs/{blob(new_config).digest}": [(200, {}, new_config)],
    }
    with server(answers) as (url, _):
        reference = f"{url.removeprefix('http://')}/team/python:3.12"
        base = OciLock(reference=reference, index_digest=None, manifest=locked, config=blob(old_config), layers=())
        found, notes = found_in(lock_of(base=base), tmp_path)
        gone = f"moved-gone: kimage.py:3: {reference}: the registry no longer has the locked image {locked.digest}"
        assert found == [
            f"moved-base: kimage.py:3: {reference} leads to {now.digest}, made 2026-11-28T00:00:00Z now; locked is "
            f"{locked.digest}, made 2026-10-02T01:02:03Z",
            *([] if is_there else [gone]),
        ]
    assert notes == []


def test_what_cannot_be_asked_is_said_and_is_no_finding(tmp_path: Path) -> None:
    closed = "http://127.0.0.1:1"
    step = ShellLock(command=closed, layer=UNKNOWN_LAYER, requests=(got(f"{closed}/x-1.0.zip", b"x"),))
    found, notes = found_in(lock_of(step), tmp_path)
    assert found == []
    assert notes == ["step 1: cannot reach 127.0.0.1:1: Connection refused"]
    assert found_in(lock_of(step), tmp_path, seconds=1e-9)[0] == []
