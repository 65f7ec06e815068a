"""Layers of a real engine as archives and back, as root and without privileges, from friends and from others."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klock.errors import FetchError, HashMismatch, StoreError
from klock.layers.canonical import canonicalise
from klock.layers.manifest import Manifest
from klock.layers.normalisation import MTIME
from klock.layers.pack import UNCHANGED
from klock.places.sandbox import SandboxPlace
from klock.store import Store
from klock.workshop import SandboxWorkshop
from klock.workshop.namespace import in_namespace
from klock.workshop.protocol import Layer
from klock.workshop.scratch import remove_trees, scratch_folder
from klock.workshop.trees import Trees
from tests.integration.sandbox_fixtures import (
    BASE,
    TAR,
    Archive,
    base_layer,
    debian_engine,
    member,
    programs_tar,
    python,
    shell,
)
from tests.integration.unprivileged import Account

__all__ = ["debian_engine", "programs_tar"]

pytestmark = pytest.mark.integration


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SandboxWorkshop]:
    """Another machine's engine, with an empty store."""
    yield SandboxWorkshop(Store(tmp_path / "other"))
    remove_trees([tmp_path / "other"])


SCRIPT = """
mkdir -p /opt/a/b /srv/private; echo 1 > /opt/a/b/x; ln /opt/a/b/x /opt/a/y; ln -s ../b /opt/a/l; mkfifo /opt/a/p
chmod 4755 /opt/a/y; chown 33:33 /opt/a/b; chmod 700 /srv/private
rm /etc/debian_version; rm -r /etc/dpkg; mkdir /etc/dpkg; echo new > /etc/dpkg/new
rm -r /etc/apt; ln -s /opt /etc/apt
echo mail > /var/mail/x
head -c 3000000 /dev/zero > /opt/zeros; touch "$(printf '/opt/\\377')" '/opt/a b'
mkdir -p /opt/long/$(printf '%0200d' 1); echo x > /opt/long/$(printf '%0200d' 1)/$(printf '%0200d' 2)
"""
ATTRIBUTES = """
os.setxattr('/opt/a/b/x', 'user.note', bytes(range(256)))
os.setxattr('/opt/zeros', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))
"""


def make_layer(engine: SandboxWorkshop) -> Layer:
    with engine.open(BASE, []) as workspace:
        shell(workspace, SCRIPT)
        python(workspace, ATTRIBUTES)
        return workspace.snapshot()


def archive_of(engine: SandboxWorkshop, layer: str, folder: Path) -> Path:
    path = folder / f"{layer[-8:]}.tar"
    engine.write_layer(layer, path)
    return path


def on_disk(engine: SandboxWorkshop, layer: str) -> list[tuple[object, ...]]:
    """Everything about each path of a layer's tree, the folders it only passes through included."""
    root = Trees(engine._store).layer(layer) / "root"

    def task() -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        for path in sorted([root, *root.rglob("*")]):
            status = path.lstat()
            is_device = stat.S_ISCHR(status.st_mode)
            names = [] if is_device else os.listxattr(path, follow_symlinks=False)
            found.append(
                (
                    str(path.relative_to(root)),
                    (stat.S_IFMT(status.st_mode), status.st_rdev) if is_device else status.st_mode,
                    (status.st_uid, status.st_gid),
                    0 if stat.S_ISDIR(status.st_mode) else status.st_nlink,
                    0 if is_device else status.st_mtime,
                    [(name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)],
                )
            )
        return found

    return in_namespace(task)


def test_a_real_layer_there_and_back(debian_engine: SandboxWorkshop, other: SandboxWorkshop, tmp_path: Path) -> None:
    layer = make_layer(debian_engine)
    archive = archive_of(debian_engine, layer.digest, tmp_path)

    other.add_layer(archive, layer.digest)

    assert other.layer_manifest(layer.digest) == layer.manifest
    assert on_disk(other, layer.digest) == on_disk(debian_engine, layer.digest)
    other.add_layer(archive, layer.digest)  # a second time changes nothing
    (tmp_path / "again").mkdir()
    assert archive_of(other, layer.digest, tmp_path / "again").read_bytes() == archive.read_bytes()


def test_a_layer_taken_in_lies_over_the_base_as_the_original(
    debian_engine: SandboxWorkshop, other: SandboxWorkshop, tmp_path: Path, programs_tar: Path
) -> None:
    layer = make_layer(debian_engine)
    other.add_layer(archive_of(debian_engine, layer.digest, tmp_path), layer.digest)
    other.add_base(BASE, [base_layer(tmp_path, programs_tar.read_bytes())])

    def seen(engine: SandboxWorkshop) -> bytes:
        environment = SandboxPlace(engine, engine._store).environment("of-this-test")
        environment.replace([layer.digest], base=BASE, record={})
        return environment.observe().to_bytes()

    assert seen(other) == seen(debian_engine)


def test_root_and_somebody_without_privileges_write_the_same_bytes(
    debian_engine: SandboxWorkshop, unprivileged: Account, tmp_path: Path
) -> None:
    layer = make_layer(debian_engine)
    archive = archive_of(debian_engine, layer.digest, tmp_path)
    given_to = unprivileged.make_folder("archive")
    (given_to / "layer.tar").write_bytes(archive.read_bytes())
    script = f"""
from pathlib import Path
from klock.workshop import SandboxWorkshop
from klock.store import Store
engine = SandboxWorkshop(Store(Path("store").absolute()))
engine.add_layer(Path("layer.tar"), {layer.digest!r})
engine.write_layer({layer.digest!r}, Path("again.tar"))
print(engine.layer_manifest({layer.digest!r}).digest)
"""
    assert unprivileged.run_python(script, cwd=given_to).strip() == layer.digest
    assert (given_to / "again.tar").read_bytes() == archive.read_bytes()


def test_a_layer_that_changes_nothing(debian_engine: SandboxWorkshop, other: SandboxWorkshop, tmp_path: Path) -> None:
    with debian_engine.open(BASE, []) as workspace:
        layer = workspace.snapshot()
    archive = archive_of(debian_engine, layer.digest, tmp_path)
    assert archive.read_bytes() == bytes(1024)
    other.add_layer(archive, layer.digest)
    assert other.layer_manifest(layer.digest) == Manifest()


def test_a_layer_that_was_changed_in_the_store_is_not_written(debian_engine: SandboxWorkshop, tmp_path: Path) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo of this test > /opt/changed")
        layer = workspace.snapshot()
    path = Trees(debian_engine._store).layer(layer.digest) / "root/opt/changed"
    in_namespace(lambda: path.write_text("other bytes..\n"))
    with pytest.raises(StoreError, match=r"/opt/changed of a layer was changed in the store"):
        archive_of(debian_engine, layer.digest, tmp_path)
    assert list(tmp_path.glob("*.tar")) == []
    remove_trees([Trees(debian_engine._store).layer(layer.digest)])


# -- archives from elsewhere

UNCHANGED_FOLDER: Mapping[str, object] = {"pax_headers": {"comment": UNCHANGED}}
FILE = (member("opt/x", mtime=MTIME), b"x\n")


def rewritten(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return Archive(members).to_bytes()


HOSTILE: Mapping[str, tuple[bytes, type[Exception], str]] = {
    "another content": (
        rewritten((member("opt", tarfile.DIRTYPE, **UNCHANGED_FOLDER), b""), (member("opt/x"), b"y\n")),
        HashMismatch,
        "is not the locked layer",
    ),
    "another mode": (rewritten((member("opt/x", mode=0o4755), b"x\n")), HashMismatch, "is not the locked layer"),
    "a file more": (rewritten(FILE, (member("opt/y"), b"")), HashMismatch, "is not the locked layer"),
    "a folder more": (
        rewritten(FILE, (member("opt/y", tarfile.DIRTYPE), b"")),
        HashMismatch,
        "is not the locked layer",
    ),
    "a folder more that is marked as unchanged": (
        rewritten(FILE, (member("root/.ssh", tarfile.DIRTYPE, **UNCHANGED_FOLDER), b"")),
        FetchError,
        "refused: /root/.ssh has a folder's entry, but nothing below it changes",
    ),
    "a folder that hides what is below it": (
        rewritten((member("opt/.wh..wh..opq"), b""), FILE),
        FetchError,
        "refused: /opt hides everything below it",
    ),
    "a root that hides all": (
        rewritten((member(".wh..wh..opq"), b""), FILE),
        FetchError,
        "refused: / hides everything below it",
    ),
    "a member for the root": (
        rewritten((member("./", tarfile.DIRTYPE, mode=0o777), b""), FILE),
        FetchError,
        "refused: it has an entry for /",
    ),
    "a name that leads out": (rewritten((member("../x"), b"")), FetchError, "leads out of the layer"),
    "a symlink to write through": (
        rewritten((member("opt", tarfile.SYMTYPE, linkname="/etc"), b""), FILE),
        HashMismatch,
        "is not the locked layer",
    ),
    "the half of an archive": (rewritten(FILE)[:700], FetchError, "is a broken archive"),
    "no archive": (b"\x1f\x8b" * 1000, FetchError, "is a broken archive"),
    "nothing": (b"", FetchError, "is a broken archive"),
}


@pytest.fixture(scope="module")
def small(debian_engine: SandboxWorkshop) -> Layer:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo x > /opt/x")
        return workspace.snapshot()


@pytest.mark.parametrize(("content", "error", "message"), HOSTILE.values(), ids=HOSTILE)
def test_an_archive_that_is_not_the_layer_leaves_nothing(
    *, other: SandboxWorkshop, small: Layer, tmp_path: Path, content: bytes, error: type[Exception], message: str
) -> None:
    archive = tmp_path / "layer.tar"
    archive.write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        other.add_layer(archive, small.digest)
    assert "layer.tar" in str(caught.value)
    assert not other.has_layer(small.digest)
    root = other._store.root
    assert [path.name for folder in ("trees", "tmp") for path in (root / folder).glob("*")] == []


def test_what_differs_and_does_not_count_is_put_right(
    other: SandboxWorkshop, small: Layer, debian_engine: SandboxWorkshop, tmp_path: Path
) -> None:
    """Times, owners by name, and the order of members have no part in a layer."""
    opt = member("opt", tarfile.DIRTYPE, **UNCHANGED_FOLDER, mtime=7)
    content = rewritten((opt, b""), (member("opt/x", mtime=1, uname="somebody"), b"x\n"))
    archive = tmp_path / "layer.tar"
    archive.write_bytes(content)
    other.add_layer(archive, small.digest)
    assert on_disk(other, small.digest) == on_disk(debian_engine, small.digest)


# -- any layer at all

NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"c", b"A", b"a.b", b"ab", b" ", b"\n", b"\xff\xfe", "ü".encode(), b"x" * 120]),
    st.binary(min_size=1, max_size=12).map(lambda b: b.replace(b"\0", b"0").replace(b"/", b"_")),
).filter(lambda name: name not in (b".", b"..") and not name.startswith(b".wh."))
IDS = st.sampled_from([0, 1, 33, 1000, 65534])
CONTENTS = st.one_of(st.binary(max_size=30), st.sampled_from([bytes(511), bytes(512), bytes(513), b"x" * 70000]))


@dataclass(frozen=True)
class Node:
    """A path to make below a folder made before, or in place of a path of the tree below."""

    kind: str
    name: bytes
    above: int
    content: bytes
    mode: int
    owner: tuple[int, int]
    xattr: bytes | None


NODES = st.builds(
    Node,
    kind=st.sampled_from(["file", "file", "folder", "folder", "symlink", "fifo", "link", "whiteout"]),
    name=NAMES,
    above=st.integers(0, 5),
    content=CONTENTS,
    mode=st.integers(0, 0o7777),
    owner=st.tuples(IDS, IDS),
    xattr=st.none() | st.binary(max_size=40),
)


def make_tree(root: Path, lower: Path, nodes: Sequence[Node]) -> None:
    """What a step might leave in an overlay's upper folder."""
    (lower / "a/b").mkdir(parents=True)
    for below in ("a/c", "a/b/c", "A"):
        (lower / below).write_bytes(b"below")
    folders, files = [root], []
    for node in nodes:
        path = folders[node.above % len(folders)] / os.fsdecode(node.name)
        if os.path.lexists(path):
            continue
        match node.kind:
            case "file":
                path.write_bytes(node.content)
                files.append(path)
            case "folder":
                path.mkdir()
                folders.append(path)
            case "symlink":
                path.symlink_to(os.fsdecode(node.content[:900].replace(b"\0", b"0") or b"x"))
            case "fifo":
                os.mkfifo(path)
            case "link" if files:
                path.hardlink_to(files[node.above % len(files)])
            case "whiteout":
                os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        if node.kind in ("file", "folder", "symlink", "fifo"):
            os.chown(path, *node.owner, follow_symlinks=False)
        if node.kind in ("file", "folder", "fifo"):
            path.chmod(node.mode)
        if node.kind in ("file", "folder") and node.xattr is not None:
            os.setxattr(path, b"user.\xc3\xbc", node.xattr)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nodes=st.lists(NODES, max_size=12))
def test_any_layer_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, nodes: list[Node]) -> None:
    folder = tmp_path_factory.mktemp("layer")
    here, there = SandboxWorkshop(Store(folder / "here")), SandboxWorkshop(Store(folder / "there"))
    try:
        with scratch_folder(here._store) as scratch:
            (scratch / "made" / "root").mkdir(parents=True)

            def task() -> bytes:
                root, lower = scratch / "made" / "root", scratch / "lower"
                make_tree(root, lower, nodes)
                return canonicalise(os.fsencode(root), os.fsencode(lower)).to_bytes()

            manifest = Manifest.from_bytes(in_namespace(task))
            (scratch / "made" / "manifest").write_bytes(manifest.to_bytes())
            Trees(here._store).keep(scratch / "made", Trees(here._store).layer(manifest.digest))
        archive = archive_of(here, manifest.digest, folder)
        there.add_layer(archive, manifest.digest)
        assert there.layer_manifest(manifest.digest) == manifest
        assert on_disk(there, manifest.digest) == on_disk(here, manifest.digest)
        there.write_layer(manifest.digest, folder / "again.tar")
        assert (folder / "again.tar").read_bytes() == archive.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes()), encoding="utf-8", errors="surrogateescape") as tar:
            assert len(list(tar)) >= len(manifest)
    finally:
        remove_trees([folder])


def test_the_archive_is_an_oci_layer(
    debian_engine: SandboxWorkshop, other: SandboxWorkshop, small: Layer, tmp_path: Path
) -> None:
    """Unpacked as a layer of any image it shows the same."""
    archive = archive_of(debian_engine, small.digest, tmp_path)
    digest = "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()
    manifest = other.add_base(BASE, [base_layer(tmp_path, archive.read_bytes(), media_type=TAR, diff_id=digest)])
    assert manifest["opt/x"] == small.manifest["opt/x"]
