"""Known vulnerabilities of locked packages, as the OSV format and PyPI's API tell of them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from klock.errors import KlockError
from klock.lockfile.model import AptLock, DebianLock, DebPackage, ImageLock, Lockfile, OciLock, TargetLock
from klock.steps.kind import UNKNOWN_LAYER
from klock.targets import Target
from klock.upstream.advisories import Locked, _of_pypi, affects, from_folder, locked_in
from tests.memory_workshop import memory_context
from tests.test_lockfile import SMALL


def pypi(version: str, name: str = "numpy") -> Locked:
    return Locked(
        ecosystem="PyPI", name=name, version=version, shown=f"{name} {version}", step=1, location="kimage.py:4"
    )


def ranges(*events: dict[str, str], kind: str = "ECOSYSTEM") -> dict[str, Any]:
    return {"ranges": [{"type": kind, "events": list(events)}]}


CASES: dict[str, tuple[dict[str, Any], str, bool]] = {
    "before it is fixed": (ranges({"introduced": "0"}, {"fixed": "2.0"}), "1.9", True),
    "the version that fixes it": (ranges({"introduced": "0"}, {"fixed": "2.0"}), "2.0", False),
    "before it was introduced": (ranges({"introduced": "1.5"}, {"fixed": "2.0"}), "1.4", False),
    "the version that introduced it": (ranges({"introduced": "1.5"}), "1.5", True),
    "the last that is affected": (ranges({"introduced": "0"}, {"last_affected": "1.9"}), "1.9", True),
    "after the last that is affected": (ranges({"introduced": "0"}, {"last_affected": "1.9"}), "1.9.1", False),
    "introduced again": (
        ranges({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "2.1"}),
        "2.0.5",
        True,
    ),
    "events in another order": (ranges({"fixed": "1.0"}, {"introduced": "0"}), "0.5", True),
    "versions by number": (ranges({"introduced": "0"}, {"fixed": "1.10"}), "1.9", True),
    "a version that is named": ({"versions": ["1.9", "1.8"]}, "1.9", True),
    "commits say nothing of a version": (ranges({"introduced": "0"}, kind="GIT"), "1.9", False),
    "a version that is none": (ranges({"introduced": "0"}, {"fixed": "?"}), "1.9", True),
    "no range": ({}, "1.9", False),
    "what is not a list": ({"ranges": "x", "versions": 3}, "1.9", False),
}


@pytest.mark.parametrize(("affected", "version", "expected"), CASES.values(), ids=CASES)
def test_whether_a_version_is_affected(affected: dict[str, Any], version: str, expected: bool) -> None:
    assert affects(affected, pypi(version)) is expected


def test_debian_versions_have_debians_order() -> None:
    deb = Locked(ecosystem="Debian:12", name="expat", version="2.5.0-1+deb12u9", shown="libexpat1")
    assert affects(ranges({"introduced": "0"}, {"fixed": "2.5.0-1+deb12u10"}), deb)


def advisory(**more: Any) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": "NumPy"}
    affected = [{"package": package, **ranges({"introduced": "0"}, {"fixed": "2.0"})}]
    return {"id": "GHSA-1", "aliases": ["CVE-1"], "summary": "It eats\nfiles", "affected": affected, **more}


def written(folder: Path, *documents: object) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.json", json.dumps({"id": "X", "affected": []}))
        for number, document in enumerate(documents, 1):
            text = document if isinstance(document, str) else json.dumps(document)
            archive.writestr(f"{number}.json", text)
    return folder


def test_a_folder_of_advisories(tmp_path: Path) -> None:
    folder = written(
        tmp_path, advisory(), advisory(id="GHSA-2", withdrawn="2026-01-01T00:00:00Z"), '{"numpy": "numpy"', "[]"
    )
    notes: list[str] = []
    (found,) = from_folder(folder, [pypi("1.9"), pypi("3.0"), pypi("1.0", "other")], notes.append)
    assert str(found) == "step 1 (kimage.py:4): numpy 1.9: GHSA-1 (CVE-1): It eats files; fixed in 2.0"
    assert notes == [f"skipped 2 advisories in {folder} that cannot be read: 3.json, 4.json"]
    (folder / "more").mkdir()
    (folder / "more/x.json").write_text(json.dumps(advisory(id="X-3", aliases=None, summary=None)))
    assert [each.found for each in from_folder(folder, [pypi("1.9")], notes.append)] == ["GHSA-1", "X-3"]


def test_a_folder_without_any_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KlockError, match="there are no advisories in"):
        list(from_folder(tmp_path, [pypi("1")], print))
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(KlockError, match="there are no advisories in"):
        list(from_folder(tmp_path, [pypi("1")], print))
    (tmp_path / "bad.zip").write_bytes(b"PK")
    with pytest.raises(KlockError, match=r"cannot read .*bad\.zip"):
        list(from_folder(tmp_path, [pypi("1")], print))


def test_what_pypi_tells() -> None:
    told = {"id": "PYSEC-1", "aliases": ["CVE-1"], "details": "x" * 300, "fixed_in": ["2.0"], "link": "https://x"}
    message = _of_pypi(told).about(pypi("1.9")).message
    assert message.startswith("numpy 1.9: PYSEC-1 (CVE-1): xxx") and message.endswith("xxx...; fixed in 2.0")
    assert _of_pypi({}).about(pypi("1.9")).message == "numpy 1.9: an advisory without a name; no fixed version is known"


def deb(version: str = "2.5.0-1+deb12u5+b2") -> DebPackage:
    path = "pool/main/e/expat/libexpat1_2.5.0-1_amd64.deb"
    return DebPackage(name="libexpat1", version=version, architecture="amd64", path=path, size=1, sha256="0" * 64)


def lock_with(base: DebianLock | OciLock, *debs: DebPackage) -> Lockfile:
    step = AptLock(packages=(), debs=debs, layer=UNKNOWN_LAYER)
    target = TargetLock(target=Target(), base=base, interpreter=None, steps=(step,), packages=())
    return Lockfile(image=ImageLock(), normalisation=1, targets=(target,))


DEBIAN = DebianLock(suite="trixie", packages=(), debs=(deb(),), tree="sha256:" + "1" * 64)
assert isinstance(SMALL.targets[0].base, OciLock)


@pytest.mark.parametrize(
    ("lock", "found", "notes"),
    [
        (lock_with(DEBIAN), [("Debian:13", "expat", "2.5.0-1+deb12u5")], 0),
        (lock_with(SMALL.targets[0].base, deb()), [("Debian:12", "expat", "2.5.0-1+deb12u5")], 0),
        (lock_with(SMALL.targets[0].base, deb("2.5.0-1ubuntu1")), [], 1),
    ],
    ids=["the suite says it", "the versions say it", "nothing says it"],
)
def test_debian_packages_are_told_by_source_and_release(
    lock: Lockfile, found: list[tuple[str, str, str]], notes: int, tmp_path: Path
) -> None:
    said: list[str] = []
    packages = locked_in(lock, memory_context(tmp_path), base_location=None, note=said.append)
    assert [(each.ecosystem, each.name, each.version) for each in packages] == found
    assert len(said) == notes
