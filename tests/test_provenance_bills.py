"""Bills of materials: valid by their own schemas, equal for equal locks, and true of what is locked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from klock.digests import digest_of_bytes
from klock.lockfile.model import (
    AptLock,
    DebianLock,
    DebPackage,
    FileEntry,
    FilesLock,
    LayerLock,
    LockedPackage,
    LockedRequest,
    PipLock,
    ShellLock,
    TargetLock,
    WheelArtifact,
)
from klock.provenance.bills import bill_of
from klock.store import Store
from klock.targets import Target

FORMS = ("cyclonedx", "spdx")
LAYER = LayerLock(digest=digest_of_bytes(b"layer"), files=1, size=1)


def hex_digest(text: str) -> str:
    return digest_of_bytes(text.encode()).removeprefix("sha256:")


def wheel_in(store: Store, folder: Path, metadata: str) -> WheelArtifact:
    """A wheel in the store, with this METADATA."""
    path = folder / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x-1.0.dist-info/METADATA", f"Metadata-Version: 2.4\nName: x\nVersion: 1.0\n{metadata}\n\n")
    digest = store.add_bytes(path.read_bytes())
    url = "https://files.example/x-1.0-py3-none-any.whl"
    size = path.stat().st_size
    return WheelArtifact(name="x-1.0-py3-none-any.whl", url=url, size=size, sha256=digest.removeprefix("sha256:"))


def lock_with(wheel: WheelArtifact) -> TargetLock:
    deb = DebPackage(
        name="g++", version="1:12.2-1+b1", architecture="amd64", path="g.deb", size=7, sha256=hex_digest("g")
    )
    url = "https://models.example/weights?token=***"
    request = LockedRequest(method="GET", url=url, status=200, size=9, sha256=hex_digest("w"))
    private = LockedRequest(
        method="GET", url="https://x/private", status=200, size=9, sha256=hex_digest("p"), private=True
    )
    file = FileEntry(path="main.py", mode=0o644, size=3, digest=digest_of_bytes(b"abc"))
    return TargetLock(
        target=Target(),
        base=DebianLock(suite="bookworm", packages=("g++",), debs=(deb,), tree=digest_of_bytes(b"tree")),
        interpreter=None,
        steps=(
            PipLock(requirements=("x",), packages=("x==1.0",), layer=LAYER),
            AptLock(packages=(), debs=(deb,), layer=LAYER),
            ShellLock(command="curl", layer=LAYER, requests=(request, private)),
            FilesLock(source=".", destination="/srv", entries=(file,), tree=digest_of_bytes(b"t"), layer=LAYER),
        ),
        packages=(LockedPackage(name="x", version="1.0", index=None, artifact=wheel),),
    )


def problems(form: str, text: str) -> Any:
    """What is wrong with a document by its own rules; empty or None."""
    if form == "cyclonedx":
        return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    document = JsonLikeDictParser().parse(json.loads(text))  # type: ignore[no-untyped-call]
    return [message.validation_message for message in validate_full_spdx_document(document)]


@pytest.mark.parametrize("form", FORMS)
def test_a_document_is_valid_and_the_same_each_time(form: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lock = lock_with(wheel_in(store, tmp_path, "License-Expression: MIT OR Apache-2.0"))
    text = bill_of(form, lock, store, name="app")
    assert not problems(form, text)
    assert bill_of(form, lock, store, name="app") == text
    for named in ("pkg:deb/debian/g%2B%2B@1:12.2-1%2Bb1?arch=amd64&distro=bookworm", "pkg:pypi/x@1.0"):
        assert text.count(named) == 1, "once, though base and step bring it"
    for named in ("MIT OR Apache-2.0", "https://models.example/weights?token=***", "/srv/main.py", hex_digest("w")):
        assert named in text
    assert "https://x/private" not in text


LICENCES = {
    "an expression": ("License-Expression: BSD-3-Clause", "BSD-3-Clause"),
    "an older field": ("License: MIT", "MIT"),
    "words that SPDX does not know": ("License: Free for friends", None),
    "a whole text": ("License: " + "All rights. " * 20, None),
    "none": ("Summary: x", None),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", LICENCES)
def test_licences_are_those_that_the_wheel_names(case: str, form: str, tmp_path: Path) -> None:
    metadata, licence = LICENCES[case]
    store = Store(tmp_path / "store")
    text = bill_of(form, lock_with(wheel_in(store, tmp_path, metadata)), store, name="app")
    assert not problems(form, text)
    assert licence is None or licence in text


def test_a_wheel_that_is_no_archive_has_no_licence(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    digest = store.add_bytes(b"PK\x05\x06 no archive")
    broken = WheelArtifact(name="x-1.0-py3-none-any.whl", url="", size=1, sha256=digest.removeprefix("sha256:"))
    assert not problems("cyclonedx", bill_of("cyclonedx", lock_with(broken), store, name="app"))
