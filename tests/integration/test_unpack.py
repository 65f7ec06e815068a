"""Unpacking base images: every kind of path arrives as it was packed, and no archive can write outside."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klock.digests import digest_of_bytes
from klock.errors import FetchError, HashMismatch
from klock.extras import missing_extra_hint
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.unpack import unpack
from klock.progress import Quiet
from klock.store import Store
from klock.words import in_bytes
from klock.workshop import SandboxWorkshop
from klock.workshop.namespace import in_namespace
from klock.workshop.protocol import BaseLayer
from tests.integration.sandbox_fixtures import BASE, TAR, Archive, base_layer, member

pytestmark = pytest.mark.integration

DIR, SYM, LNK, FIFO, CHR = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
CAPABILITY_V3 = bytes.fromhex("0100000300200000000000000000000000000000e8030000")


def file(path: str, content: bytes = b"", **attributes: object) -> Entry:
    values = {"mode": 0o644, **attributes}
    return Entry(path=path, kind=Kind.FILE, size=len(content), digest=digest_of_bytes(content), **values)  # type: ignore[arg-type]


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path=path, kind=Kind.FOLDER, mode=mode)


def symlink(path: str, target: str) -> Entry:
    return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=target)


def add(engine: SandboxWorkshop, folder: Path, *layers: Archive) -> Manifest:
    return engine.add_base(BASE, [base_layer(folder, layer.to_bytes()) for layer in layers])


def with_xattr(name: str, value: bytes) -> dict[str, str]:
    return {f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")}


ORDINARY = {
    "a file with its mode and owner": (
        [(member("etc/x", mode=0o640, uid=0, gid=42), b"hi")],
        [folder("etc"), file("etc/x", b"hi", mode=0o640, gid=42)],
    ),
    "setuid and sticky bits survive the change of owner": (
        [(member("su", mode=0o6755, uid=3, gid=4), b"x"), (member("t", DIR, mode=0o1777), b"")],
        [file("su", b"x", mode=0o6755, uid=3, gid=4), folder("t", 0o1777)],
    ),
    "missing parents are made for everybody to read": (
        [(member("./a/b/c"), b"")],
        [folder("a"), folder("a/b"), file("a/b/c")],
    ),
    "absolute names lie below the root": ([(member("/abs"), b"1")], [file("abs", b"1")]),
    "symlinks keep their text": (
        [(member("l", SYM, linkname="/etc/passwd"), b""), (member("m", SYM, linkname="../../x"), b"")],
        [symlink("l", "/etc/passwd"), symlink("m", "../../x")],
    ),
    "hard links are the same file": (
        [(member("a"), b"1"), (member("b", LNK, linkname="a"), b"")],
        [file("a", b"1"), file("b", b"1")],
    ),
    "a hard link keeps its file when the first name gets another": (
        [(member("a"), b"1"), (member("b", LNK, linkname="./a"), b""), (member("a"), b"2")],
        [file("a", b"2"), file("b", b"1")],
    ),
    "the last of two entries of one name counts": (
        [(member("a", DIR), b""), (member("a/x"), b"1"), (member("a"), b"2")],
        [file("a", b"2")],
    ),
    "names that are not UTF-8, and long ones": (
        [(member("\udcff"), b"1"), (member("n" * 200 + "/" + "m" * 200), b"2")],
        [file("\udcff", b"1"), folder("n" * 200), file("n" * 200 + "/" + "m" * 200, b"2")],
    ),
    "file capabilities, also those of a namespace": (
        [
            (member("v2", pax_headers=with_xattr("security.capability", CAPABILITY)), b""),
            (member("v3", pax_headers=with_xattr("security.capability", CAPABILITY_V3)), b""),
        ],
        [
            file("v2", xattrs=(("security.capability", CAPABILITY.hex()),)),
            file("v3", xattrs=(("security.capability", CAPABILITY.hex()),)),
        ],
    ),
    "users' attributes, but not those of security modules": (
        [(member("a", pax_headers=with_xattr("user.x", b"\xff1") | with_xattr("security.selinux", b"s")), b"")],
        [file("a", xattrs=(("user.x", "ff31"),))],
    ),
    "devices are left out, FIFOs are not": (
        [(member("sda", CHR, devmajor=8), b""), (member("null", CHR), b""), (member("f", FIFO), b"")],
        [Entry(path="f", kind=Kind.FIFO, mode=0o644)],
    ),
    "what is never locked is unpacked and not described": (
        [(member("tmp/x"), b"1"), (member("var/log/dpkg.log"), b"1")],
        [folder("tmp"), folder("var"), folder("var/log")],
    ),
    "an empty archive": ([], []),
}


@pytest.mark.parametrize(("members", "expected"), ORDINARY.values(), ids=ORDINARY)
def test_unpacks(
    engine: SandboxWorkshop, tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], expected: list[Entry]
) -> None:
    assert add(engine, tmp_path, Archive(members)).to_bytes().decode() == Manifest(expected).to_bytes().decode()
    assert engine.base_manifest(BASE) == Manifest(expected)


LOWER = [(member("d", DIR), b""), (member("d/a"), b"1"), (member("d/b"), b"2"), (member("f"), b"3")]
OVER = {
    "a whiteout removes a file": ([(member("d/.wh.a"), b"")], [folder("d"), file("d/b", b"2"), file("f", b"3")]),
    "a whiteout removes a folder": ([(member(".wh.d"), b"")], [file("f", b"3")]),
    "a whiteout that hides nothing is no harm": (
        [(member(".wh.no"), b"")],
        [folder("d"), file("d/a", b"1"), file("d/b", b"2"), file("f", b"3")],
    ),
    "an opaque folder shows only its own": (
        [(member("d", DIR), b""), (member("d/.wh..wh..opq"), b""), (member("d/c"), b"4")],
        [folder("d"), file("d/c", b"4"), file("f", b"3")],
    ),
    "a folder that is removed and made again is empty": (
        [(member(".wh.d"), b""), (member("d", DIR), b""), (member("d/c"), b"4")],
        [folder("d"), file("d/c", b"4"), file("f", b"3")],
    ),
    "the same in the other order": (
        [(member("d", DIR), b""), (member("d/c"), b"4"), (member(".wh.d"), b"")],
        [folder("d"), file("d/c", b"4"), file("f", b"3")],
    ),
    "a file in place of a folder": ([(member("d"), b"5")], [file("d", b"5"), file("f", b"3")]),
    "marks of aufs mean nothing": (
        [(member(".wh..wh.plnk", DIR), b"")],
        [folder("d"), file("d/a", b"1"), file("d/b", b"2"), file("f", b"3")],
    ),
    "a layer cannot hide files by overlayfs' own attribute": (
        [(member("d", DIR, pax_headers=with_xattr("user.overlay.opaque", b"y")), b"")],
        [folder("d"), file("d/a", b"1"), file("d/b", b"2"), file("f", b"3")],
    ),
}


@pytest.mark.parametrize(("members", "expected"), OVER.values(), ids=OVER)
def test_a_second_layer(
    engine: SandboxWorkshop, tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], expected: list[Entry]
) -> None:
    assert add(engine, tmp_path, Archive(LOWER), Archive(members)) == Manifest(expected)


def test_a_sparse_file_of_gnu_tar(engine: SandboxWorkshop, tmp_path: Path) -> None:
    import subprocess

    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as written:
        written.seek(5 << 20)
        written.write(b"end")
        written.truncate(9 << 20)
    packed = tmp_path / "sparse.tar"
    owner = ("--owner=0", "--group=0", "--numeric-owner", "--mode=0644")
    subprocess.run(["tar", "--sparse", *owner, "-C", tmp_path, "-cf", packed, "sparse"], check=True)
    assert packed.stat().st_size < 1 << 20
    manifest = engine.add_base(BASE, [BaseLayer(path=packed, media_type=TAR, diff_id="")])
    assert manifest == Manifest([file("sparse", sparse.read_bytes())])


def test_a_gzip_layer_is_checked_against_its_uncompressed_digest(engine: SandboxWorkshop, tmp_path: Path) -> None:
    plain = Archive([(member("a"), b"1")]).to_bytes()
    layer = base_layer(tmp_path, gzip.compress(plain), media_type=TAR + "+gzip", diff_id=digest_of_bytes(plain))
    assert list(engine.add_base(BASE, [layer])) == ["a"]


def test_what_is_removed_loses_its_name_first(
    engine: SandboxWorkshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody takes what is left of it, when that is cut short, for all of it."""

    def cut_short(*_: object) -> None:
        raise KeyboardInterrupt

    before = add(engine, tmp_path, Archive(LOWER))
    with monkeypatch.context() as patched:
        patched.setattr("klock.workshop.sandbox.remove_trees", cut_short)
        with pytest.raises(KeyboardInterrupt):
            engine.remove_unused()
    assert not list((engine._store.root / "trees").iterdir())
    assert add(engine, tmp_path, Archive(LOWER)) == before


def test_where_a_symlink_in_the_store_leads_nothing_is_removed(engine: SandboxWorkshop, tmp_path: Path) -> None:
    """Two stores may share a tree."""
    add(engine, tmp_path, Archive(LOWER))
    trees = engine._store.root / "trees"
    (diff,) = trees.glob("diff-*")
    elsewhere = tmp_path / "elsewhere"
    shutil.move(diff, elsewhere)
    diff.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    engine.remove_unused()
    assert not list(trees.iterdir())
    assert sorted(elsewhere.rglob("*")) == before != []


class Counting(Quiet):
    """Keeps how far each stage was at its end."""

    def __init__(self) -> None:
        self.counted: list[str] = []

    @contextlib.contextmanager
    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> Iterator[None]:
        yield
        if how_far is not None:
            self.counted.append(f"{name}, {how_far()}")


@pytest.mark.parametrize("way", ["", "+gzip", "+xz"])
def test_what_was_read_and_hashed_is_counted(way: str, engine: SandboxWorkshop, tmp_path: Path) -> None:
    plain = Archive([(member(f"f{number}"), os.urandom(1000)) for number in range(600)]).to_bytes()
    packed = {"": lambda: plain, "+gzip": lambda: gzip.compress(plain), "+xz": lambda: lzma.compress(plain)}[way]()
    layer = base_layer(tmp_path, packed, media_type=TAR + way, diff_id=digest_of_bytes(plain))
    progress = Counting()
    engine.add_base(BASE, [layer], progress=progress)
    size = in_bytes(len(packed))
    assert progress.counted == [f"unpack, {size} of {size}", "hash, 600 of 600 paths"]


def test_two_bases_share_an_archive(engine: SandboxWorkshop, tmp_path: Path) -> None:
    shared = base_layer(tmp_path, Archive(LOWER).to_bytes())
    engine.add_base(BASE, [shared])
    shared.path.unlink()
    other = digest_of_bytes(b"another base")
    top = base_layer(tmp_path, Archive([(member(".wh.d"), b"")]).to_bytes())
    assert list(engine.add_base(other, [shared, top])) == ["f"]
    assert engine.has_base(BASE)
    assert engine.has_base(other)
    assert engine.remove_unused(keep=[other]) > 0
    assert not engine.has_base(BASE)
    assert list(engine.base_manifest(other)) == ["f"]


HUGE = member("huge")
HUGE.size = 1 << 60
REFUSED: dict[str, tuple[bytes, str]] = {
    "a name with ..": (
        Archive([(member("a/../../b"), b"1")]).to_bytes(),
        "refused: the name 'a/../../b' leads out of the layer",
    ),
    "a hard link that leads out": (
        Archive([(member("a", LNK, linkname="../../etc/passwd"), b"")]).to_bytes(),
        "refused: the name '../../etc/passwd' leads out of the layer",
    ),
    "a hard link to what is not in the layer": (
        Archive([(member("a", LNK, linkname="/etc/passwd"), b"")]).to_bytes(),
        "refused: /a is a hard link to /etc/passwd, which is not a file of the layer",
    ),
    "a hard link to a folder": (
        Archive([(member("d", DIR), b""), (member("a", LNK, linkname="d"), b"")]).to_bytes(),
        "refused: /a is a hard link to /d, which is not a file of the layer",
    ),
    "a whiteout of ..": (
        Archive([(member("d/.wh..."), b"")]).to_bytes(),
        "refused: the whiteout /d/.wh... names no file",
    ),
    "a whiteout of nothing": (Archive([(member(".wh."), b"")]).to_bytes(), "refused: the whiteout /.wh. names no file"),
    "a root that is a file": (Archive([(member("."), b"1")]).to_bytes(), "refused: its root is not a folder"),
    "a name with a NUL byte": (
        Archive([(member("x", pax_headers={"path": "a\0b"}), b"1")]).to_bytes(),
        "refused: the name 'a\\x00b' holds a NUL byte",
    ),
    "a name longer than a disk can hold": (
        Archive([(member("n" * 300), b"1")]).to_bytes(),
        "has a path that the file system does not accept: ",
    ),
    "a size larger than the disk": (
        HUGE.tobuf(tarfile.GNU_FORMAT) + bytes(1024),
        f"/huge claims {1 << 60} bytes, more than the disk has left",
    ),
    "an end in the middle of a file": (
        Archive([(member("a"), b"1" * 5000)]).to_bytes()[:3000],
        "is a broken archive: unexpected end of data",
    ),
    "no archive at all": (b"<html>404 not found</html>" * 50, "is a broken archive: "),
    "nothing": (b"", "is a broken archive: empty file"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(engine: SandboxWorkshop, tmp_path: Path, content: bytes, message: str) -> None:
    layer = base_layer(tmp_path, content)
    with pytest.raises(FetchError) as caught:
        engine.add_base(BASE, [layer])
    assert caught.value.message.removeprefix(layer.path.name).lstrip(": ").startswith(message)
    assert not engine.has_base(BASE)
    assert left_in(engine._store) == []


PLAIN = Archive([(member("a"), b"1" * 100_000)]).to_bytes()


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        pytest.param(TAR, PLAIN, "hash mismatch: its uncompressed digest is sha256:", id="other bytes"),
        pytest.param(TAR + "+gzip", gzip.compress(PLAIN)[:-50], "is a broken archive: ", id="cut gzip"),
        pytest.param(TAR + "+gzip", PLAIN, "hash mismatch: its uncompressed digest is sha256:", id="no gzip"),
        pytest.param("text/html", PLAIN, "klock cannot read a layer of media type 'text/html'", id="media type"),
    ],
)
def test_refuses_other_bytes(engine: SandboxWorkshop, tmp_path: Path, kind: str, content: bytes, message: str) -> None:
    layer = base_layer(tmp_path, content, media_type=kind, diff_id=digest_of_bytes(b"what was locked"))
    with pytest.raises(FetchError) as caught:
        engine.add_base(BASE, [layer])
    assert caught.value.message.removeprefix(layer.path.name).lstrip(": ").startswith(message)
    assert isinstance(caught.value, HashMismatch) == message.startswith("hash mismatch")
    assert left_in(engine._store) == []


def test_zstd_needs_a_library_and_says_so(
    engine: SandboxWorkshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    layer = base_layer(tmp_path, b"\x28\xb5\x2f\xfd", media_type=TAR + "+zstd")
    with pytest.raises(FetchError, match="is compressed with zstd, which this klock cannot read") as caught:
        engine.add_base(BASE, [layer])
    assert caught.value.hint == missing_extra_hint("zstd")


CONTAINED = {
    "a file through a symlink that leads out": [
        (member("out", SYM, linkname="../../.."), b""),
        (member("out/evil"), b"1"),
    ],
    "a file through an absolute symlink": [(member("etc", SYM, linkname="/"), b""), (member("etc/evil"), b"1")],
    "a file through a chain of symlinks": [
        (member("d", DIR), b""),
        (member("d/up", SYM, linkname=".."), b""),
        (member("top", SYM, linkname="d/up/.."), b""),
        (member("top/evil"), b"1"),
    ],
    "a file over a symlink": [(member("evil", SYM, linkname="/../../evil"), b""), (member("evil"), b"1")],
    "a folder over a symlink": [(member("d", SYM, linkname=".."), b""), (member("d", DIR, mode=0o777), b"")],
    "a hard link through a symlink": [
        (member("out", SYM, linkname="../../.."), b""),
        (member("x"), b"1"),
        (member("out/evil", LNK, linkname="x"), b""),
    ],
    "a whiteout through a symlink": [(member("out", SYM, linkname="../.."), b""), (member("out/.wh.guard"), b"")],
    "an opaque mark through a symlink": [
        (member("out", SYM, linkname="../.."), b""),
        (member("out/.wh..wh..opq"), b""),
    ],
    "a hard link in place of its target's folder": [(member("a/a"), b"1"), (member("a", LNK, linkname="a/a"), b"")],
    "a hard link below its target": [(member("a"), b"1"), (member("a/a", LNK, linkname="a"), b"")],
}


@pytest.mark.parametrize("members", CONTAINED.values(), ids=CONTAINED)
def test_contains(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    assert written_outside(tmp_path, Archive(members).to_bytes()) == []


parts = st.sampled_from(["a", "b", "..", ".", "", "guard", "root", ".wh.a", ".wh.guard", ".wh..wh..opq", "é"])
names = st.lists(parts, min_size=1, max_size=4).map("/".join)


@st.composite
def hostile_members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    kind = draw(st.sampled_from([tarfile.REGTYPE, DIR, SYM, LNK, FIFO, CHR]))
    info = member(draw(names) or "a", kind, linkname=draw(names) or ".", mode=draw(st.integers(0, 0o7777)))
    return info, b"evil" if kind == tarfile.REGTYPE else b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(hostile_members(), max_size=8))
def test_no_archive_writes_outside(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    assert written_outside(tmp_path_factory.mktemp("hostile"), Archive(members).to_bytes()) == []


def written_outside(folder: Path, content: bytes) -> list[str]:
    """Unpacks below guarded folders, as the engine does, and says what changed there."""
    root = folder / "guarded/above/root"
    root.mkdir(parents=True)
    for guard in (folder / "guard", folder / "guarded/guard", folder / "guarded/above/guard"):
        guard.write_text("guard")

    def outside() -> list[str]:
        paths = [path for path in sorted(folder.rglob("*")) if root not in path.parents]
        return [
            f"{path} {path.lstat().st_mode:o} {path.is_file() and path.read_text()}" for path in paths if path != root
        ]

    def task() -> None:
        os.chroot(root)
        os.chdir("/")
        unpack(io.BytesIO(content), media_type=TAR, diff_id="", source="hostile")

    before = outside()
    with contextlib.suppress(FetchError):
        in_namespace(task)
    return sorted(set(outside()) ^ set(before))


def left_in(store: Store) -> list[str]:
    """Trees and half-made things in the store."""
    folders = (store.root / "trees", store.root / "tmp")
    return [path.name for folder in folders if folder.exists() for path in folder.iterdir()]
