"""The lockfile's text: it reads back as written, one lock has one text, and a broken file says where it is broken."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from klock import lockfile
from klock.errors import LockfileError
from klock.lockfile.model import (
    AptLock,
    DebPackage,
    EnvLock,
    FileEntry,
    FilesLock,
    ImageLock,
    LayerLock,
    LockedPackage,
    LockedRequest,
    LockedVariable,
    Lockfile,
    OciBlob,
    OciLayer,
    OciLock,
    PipLock,
    SdistArtifact,
    ShellLock,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
)
from klock.lockfile.reading import from_text
from klock.lockfile.writing import to_text
from klock.targets import Target
from tests.strategies import lockfiles

A, B, C = (f"sha256:{c * 64}" for c in "abc")
NUMPY = LockedPackage(
    name="numpy",
    version="2.4.6",
    index="https://pypi.org/simple",
    artifact=WheelArtifact(name="numpy-2.4.6-py3-none-any.whl", url="https://f/numpy.whl", size=7, sha256="d" * 64),
)
SMALL = Lockfile(
    image=ImageLock(name="python312"),
    normalisation=1,
    targets=(
        TargetLock(
            target=Target(),
            base=OciLock(
                reference="python:3.12-slim",
                index_digest=A,
                manifest=OciBlob(digest=B, size=3, media_type="m"),
                config=OciBlob(digest=C, size=4, media_type="c"),
                layers=(OciLayer(digest=A, size=5, media_type="l", diff_id=B),),
                environment=(("PATH", "/usr/bin"),),
            ),
            interpreter=None,
            steps=(
                EnvLock(variables=(LockedVariable(name="P", written="$PATH", value="/usr/bin"),)),
                PipLock(
                    requirements=("numpy>=1.20",),
                    packages=("numpy==2.4.6",),
                    layer=LayerLock(digest=C, files=1, size=2),
                ),
                ShellLock(
                    command="a\nb 'c'\n",
                    layer=LayerLock(digest=A, files=0, size=0),
                    installed=("vim 2:9.0.1378-2",),
                    requests=(
                        LockedRequest(method="GET", url="http://d/vim_9.0.deb", status=200, size=9, sha256="e" * 64),
                        LockedRequest(
                            method="GET",
                            url="https://i/simple/",
                            status=200,
                            size=8,
                            sha256="f" * 64,
                            headers=("Content-Type: text/html",),
                        ),
                    ),
                ),
            ),
            packages=(NUMPY,),
        ),
    ),
)


def test_a_small_lockfile_reads_as_a_person_would_expect() -> None:
    expected = (Path(__file__).parent.parent / "fixtures" / "lockfile" / "small.lock").read_text()
    assert to_text(SMALL) == expected


@given(lockfiles())
def test_what_is_written_reads_back_equal(lock: Lockfile) -> None:
    text = to_text(lock)
    assert from_text(text) == dataclasses.replace(lock, targets=tuple(sorted(lock.targets, key=lambda t: t.target)))
    assert to_text(from_text(text)) == text


@given(lockfiles())
def test_the_order_of_targets_and_packages_does_not_matter(lock: Lockfile) -> None:
    shuffled = dataclasses.replace(
        lock,
        targets=tuple(dataclasses.replace(t, packages=tuple(reversed(t.packages))) for t in reversed(lock.targets)),
    )
    assert to_text(shuffled) == to_text(lock)


@given(lockfiles())
def test_a_file_cut_off_anywhere_is_refused(lock: Lockfile) -> None:
    text = to_text(lock)
    for cut in {1, len(text) // 3, len(text) // 2, len(text) - 2, text.rfind("\n", 0, -2) + 1}:
        with pytest.raises(LockfileError):
            from_text(text[:cut])


def test_tables_equal_for_two_targets_stand_once() -> None:
    (cpu,) = SMALL.targets
    gpu = dataclasses.replace(cpu, target=Target(accelerator="cuda12.4"))
    text = to_text(dataclasses.replace(SMALL, targets=(cpu, gpu)))
    assert text.count("[[base]]") == 1
    assert text.count("[[packages]]") == 1
    other = dataclasses.replace(gpu, packages=(dataclasses.replace(NUMPY, index="https://other/simple"),))
    text = to_text(dataclasses.replace(SMALL, targets=(cpu, other)))
    assert text.count("[[packages]]") == 2
    assert text.count('targets = ["linux/amd64/cuda12.4"]') == 1


def edited(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text, f"the sample has no {old!r}"
        return text.replace(old, new, 1)

    return edit


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "it is not TOML": (edited("[[base]]", "[[base]"), r"kimage\.lock is not valid TOML: .*line \d+"),
    "it is from a newer klock": (
        edited('lock-version = "1.0"', 'lock-version = "2.0"'),
        r"kimage\.lock has lock-version 2\.0, this klock reads 1\.x",
    ),
    "it has no version": (edited('lock-version = "1.0"\n', ""), "not a klock lockfile: it has no lock-version"),
    "its last line is missing": (edited("# end of the lockfile\n", ""), "kimage.lock is cut off"),
    "it lost all from a table on": (lambda text: text[: text.index("[[packages]]")], "kimage.lock is cut off"),
    "a key is unknown": (edited("normalisation = 1", "normalization = 1"), "unknown key 'normalization'"),
    "a type is wrong": (edited("size = 5", 'size = "5"'), r"base\[0\]\.layers\[0\]\.size: a string where an integer"),
    "a number is negative": (edited("size = 5", "size = -5"), r"base\[0\]\.layers\[0\]\.size: -5 is negative"),
    "a digest is not one": (edited(B, "sha256:123"), "'sha256:123' is not a SHA-256 digest"),
    "a hash is not one": (
        edited("d" * 64, "d" * 63),
        r"packages\[0\]\.wheels\[0\]\.sha256: .* is not a SHA-256 in hex",
    ),
    "a hash is gone": (edited("hashes = {", "hishes = {"), r"packages\[0\]\.wheels\[0\]\.hashes\.sha256 is missing"),
    "a step's kind is unknown": (edited('"run_bash"', '"run_zsh"'), r"steps\[2\]\.kind: 'run_zsh' is not one of"),
    "a target is unknown": (edited('["linux/amd64/cpu"]', '["linux/mips/cpu"]'), "unknown target 'linux/mips/cpu'"),
    "the base is gone": (
        lambda text: re.sub(r"\[\[base\]\].*?(?=\[\[steps\]\])", "", text, flags=re.S),
        "base: 0 tables for the target linux/amd64/cpu",
    ),
    "a version was edited and its wheel was not": (
        lambda text: text.replace('version = "2.4.6"', 'version = "2.4.5"').replace("numpy==2.4.6", "numpy==2.4.5"),
        r"packages: numpy==2\.4\.5 has the wheel of another package: numpy-2\.4\.6-py3-none-any\.whl",
    ),
    "it has merge conflicts": (
        edited("[[packages]]", "<<<<<<< ours\n[[packages]]"),
        r"kimage\.lock has merge conflicts in it",
    ),
    "a request's method is none": (edited('"GET"', '"GET /"'), r"steps\[2\]\.requests\[0\]\.method: 'GET /' is not a"),
    "a request's URL steers the terminal": (
        edited("http://d/", "http://d/\\u001B[31m"),
        r"steps\[2\]\.requests\[0\]\.url: 'http://d/\\x1b\[31mvim_9\.0\.deb' is not a URL as klock writes it",
    ),
    "a request's URL is a file's": (edited("http://d/", "file:///"), "'file:///vim_9.0.deb' is not a URL as klock"),
    "a request's URL is not a URL": (edited("http://d/", "http://[d/"), "is not a URL as klock writes it"),
    "a request's port is none": (edited("http://d/", "http://d:65536/"), "is not a URL as klock writes it"),
    "a request's host is in capitals": (edited("http://d/", "http://D/"), "is not a URL as klock writes it"),
    "a request was never answered so": (edited("status = 200", "status = 101"), "101 is not a status that is ever"),
    "a body is larger than any": (edited("size = 9,", f"size = {1 << 63},"), "is too large"),
    "a header brings another one": (
        edited("text/html", "text/html\\r\\nX: y"),
        r"steps\[2\]\.requests\[1\]\.headers: 'Content-Type: text/html\\r\\nX: y' is not a header that is ever locked",
    ),
    "a header frames the answer": (
        edited("Content-Type: text/html", "Content-Length: 1"),
        "'Content-Length: 1' is not a",
    ),
    "a header has no value": (
        edited("Content-Type: text/html", "nothing"),
        "'nothing' is not a header that is ever locked",
    ),
    "what was sent has no hash": (
        edited("size = 9,", 'size = 9, body = "f",'),
        r"requests\[0\]\.body: 'f' is not a SHA-256 in hex",
    ),
    "a host's name is none": (
        edited("requests = [", 'unknown-hosts = ["a\\nb"]\nrequests = ['),
        r"steps\[2\]\.unknown-hosts\[0\]: 'a\\nb' is not",
    ),
    "a pinned package has no table": (
        lambda text: text.replace("numpy==2.4.6", "nampy==2.4.6"),
        r"steps\[1\]\.packages: nampy==2\.4\.6 has no table in packages",
    ),
}


DEB = DebPackage(name="vim", version="2:9.0-1", architecture="amd64", path="pool/v/vim.deb", size=1, sha256="a" * 64)
FILES = FilesLock(
    source="./src",
    destination="/app",
    entries=(FileEntry(path="a", mode=0o755), FileEntry(path="a/b.py", mode=0o644, digest=A)),
    tree=B,
    layer=LayerLock(digest=C, files=2, size=0),
)
BUILT = WheelArtifact(name="x-1.0-py3-none-any.whl", url="", size=1, sha256="a" * 64)
SDIST = LockedPackage(
    name="x",
    version="1.0",
    index=None,
    artifact=SdistArtifact(
        name="x-1.0.tar.gz", url="https://f/x", size=1, sha256="b" * 64, wheel=BUILT, subdirectory="inside"
    ),
)
COMMIT = LockedPackage(
    name="y",
    version="1.0",
    index=None,
    artifact=VcsArtifact(type="git", url="https://f/y", commit="c" * 40, wheel=BUILT, subdirectory="python"),
)
LEADING_OUT = {
    "a deb's name": ('name = "vim"', 'name = "../vim"', "'../vim' is not the name of a Debian package"),
    "a deb's version": ('"2:9.0-1"', '"1/../../x"', "'1/../../x' is not the version of a Debian package"),
    "a deb's architecture": ('"amd64", p', '"a/b", p', "'a/b' is not the architecture of a Debian package"),
    "a deb's path": ("pool/v", "../v", "'../v/vim.deb' is not a path below the archive's root"),
    "a file's path": ('"a/b.py"', '"../b.py"', "'../b.py' is not a path below the source"),
    "a file's absolute path": ('"a/b.py"', '"/etc/b.py"', "'/etc/b.py' is not a path below the source"),
    "the source's own path": ('"a/b.py"', '""', "'' is not a path below the source"),
    "a path below a file": ('"a"', '"a/b.py/c"', "'a/b.py/c' is not a path below a folder"),
    "a destination": ('"/app"', '"/app/../etc"', "'/app/../etc' is not an absolute path in its shortest form"),
    "a relative destination": ('"/app"', '"app"', "'app' is not an absolute path in its shortest form"),
    "a wheel's name": ("numpy-2.4.6-py3-none-any.whl", "numpy-2.4.6-/../../any-x.whl", "is not the name of a file"),
    "an sdist's name": ('"x-1.0.tar.gz"', '"../x-1.0.tar.gz"', "'../x-1.0.tar.gz' is not the name of a file"),
    "a built wheel's name": ('"x-1.0-py3-none-any.whl"', '"../x.whl"', "'../x.whl' is not the name of a file"),
    "a hidden file's name": ('"x-1.0.tar.gz"', '".bashrc"', "'.bashrc' is not the name of a file"),
    "an archive's folder": ('"inside"', '"/etc"', "'/etc' is not a folder below the top of the archive"),
    "a repository's folder": ('"python"', '"../.."', "'../..' is not a folder below the repository's root"),
}


@pytest.mark.parametrize("case", LEADING_OUT)
def test_a_lockfile_whose_names_lead_out_of_their_folder_is_refused(case: str) -> None:
    (target,) = SMALL.targets
    apt = AptLock(packages=("vim",), debs=(DEB,), layer=LayerLock(digest=C, files=1, size=2))
    steps = (*target.steps, apt, FILES)
    lock = dataclasses.replace(
        SMALL, targets=(dataclasses.replace(target, steps=steps, packages=(NUMPY, SDIST, COMMIT)),)
    )
    old, new, message = LEADING_OUT[case]
    assert from_text(to_text(lock)) == lock
    with pytest.raises(LockfileError, match=re.escape(message)):
        from_text(edited(old, new)(to_text(lock)))


@pytest.mark.parametrize("folder", [".", "./", "pk/.", ".//pk", "a/../pk"])
def test_a_repository_s_folder_may_be_written_in_any_way(folder: str) -> None:
    (target,) = SMALL.targets
    assert isinstance(COMMIT.artifact, VcsArtifact)
    commit = dataclasses.replace(COMMIT, artifact=dataclasses.replace(COMMIT.artifact, subdirectory=folder))
    lock = dataclasses.replace(SMALL, targets=(dataclasses.replace(target, packages=(NUMPY, commit)),))
    assert from_text(to_text(lock)) == lock


@pytest.mark.parametrize("case", BROKEN)
def test_a_lockfile_is_refused_when(case: str) -> None:
    edit, message = BROKEN[case]
    with pytest.raises(LockfileError, match=message) as caught:
        from_text(edit(to_text(SMALL)))
    assert caught.value.hint


def test_a_missing_file_is_no_lockfile(tmp_path: Path) -> None:
    assert lockfile.read(tmp_path / "kimage.lock") is None


def test_writing_twice_changes_nothing_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kimage.lock"
    assert lockfile.write(SMALL, path) is True
    before = path.stat()
    assert lockfile.write(SMALL, path) is False
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert [p.name for p in tmp_path.iterdir()] == ["kimage.lock"]
    assert lockfile.read(path) == SMALL


def test_a_file_that_cannot_be_written_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "kimage.lock"
    with pytest.raises(LockfileError, match="cannot write") as refused:
        lockfile.write(SMALL, path)
    assert (
        refused.value.hint == "check that its folder is there and that you may write to it, then run the command again"
    )


def test_a_full_disk_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kimage.lock"
    path.write_text("the old one")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LockfileError) as refused:
        lockfile.write(SMALL, path)
    assert refused.value.message == f"cannot write {path}: No space left on device"
    assert refused.value.hint == "free some space on its disk, then run the command again"
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("kimage.lock", "the old one")]


def test_the_fingerprint_sees_layers_and_variables_and_nothing_else() -> None:
    (target,) = SMALL.targets
    renamed = dataclasses.replace(target, packages=())
    assert renamed.fingerprint == target.fingerprint
    assert dataclasses.replace(target, steps=target.steps[1:]).fingerprint != target.fingerprint
