"""A layer as a tar archive and back: the same bytes for the same layer, and nothing taken in that is another one."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.digests import digest_of_bytes
from klock.errors import StoreError
from klock.layers import tar
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import MTIME
from klock.layers.pack import UNCHANGED, pack

PLAIN: Mapping[str, bytes] = {"etc/passwd": b"root:x:0:0::/root:/bin/sh\n", "opt/ü/x": b"", "opt/b": b"b" * 5000}


def file(path: str, content: bytes, **attributes: object) -> Entry:
    entry = Entry(path=path, kind=Kind.FILE, mode=0o644, size=len(content), digest=digest_of_bytes(content))
    return replace(entry, **attributes)  # type: ignore[arg-type]


def packed(root: Path, manifest: Manifest) -> bytes:
    output = io.BytesIO()
    pack(os.fsencode(root), manifest, output)
    return output.getvalue()


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Path, Manifest]:
    """A layer on disk: files, a new folder, a link of each kind, and something removed."""
    root = tmp_path / "root"
    for path, content in PLAIN.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / "opt").chmod(0o2750)
    entries = [
        *(file(path, content) for path, content in PLAIN.items() if path != "opt/b"),
        file("opt/b", PLAIN["opt/b"], mode=0o4755, uid=1000, gid=3_000_000, xattrs=(("user.note", "00ff0a3d"),)),
        Entry(path="opt/c", kind=Kind.HARDLINK, target="opt/b"),
        Entry(path="opt/l", kind=Kind.SYMLINK, mode=0o777, target="../" * 40 + "etc"),
        Entry(path="opt/p", kind=Kind.FIFO, mode=0o600),
        Entry(path="opt/ü", kind=Kind.FOLDER, mode=0o700, gid=33),
        Entry(path="var/gone", kind=Kind.WHITEOUT),
    ]
    (root / "var").mkdir()
    return root, Manifest(entries)


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", encoding="utf-8", errors="surrogateescape") as opened:
        return {member.name: member for member in opened}


def test_an_archive_says_all_that_a_manifest_says(plain: tuple[Path, Manifest]) -> None:
    found = members(packed(*plain))

    assert list(found) == [
        *("etc", "etc/passwd", "opt", "opt/ü", "opt/ü/x", "opt/b", "opt/c", "opt/l", "opt/p", "var", "var/.wh.gone")
    ]
    assert {(m.mtime, m.uname, m.gname) for m in found.values()} == {(MTIME, "", "")}
    b, c = found["opt/b"], found["opt/c"]
    assert (b.type, b.mode, b.uid, b.gid, b.size) == (tarfile.REGTYPE, 0o4755, 1000, 3_000_000, 5000)
    assert b.pax_headers["SCHILY.xattr.user.note"].encode("utf-8", "surrogateescape") == b"\x00\xff\n="
    # Docker sets the mode and the owner of a file again for each of its names.
    assert (c.type, c.linkname, c.mode, c.uid, c.gid) == (tarfile.LNKTYPE, "opt/b", 0o4755, 1000, 3_000_000)
    assert (found["opt/l"].type, found["opt/l"].linkname) == (tarfile.SYMTYPE, "../" * 40 + "etc")
    assert found["opt/p"].type == tarfile.FIFOTYPE
    assert (found["opt/ü"].type, found["opt/ü"].mode, found["opt/ü"].gid) == (tarfile.DIRTYPE, 0o700, 33)
    assert (found["var/.wh.gone"].type, found["var/.wh.gone"].size) == (tarfile.REGTYPE, 0)


def test_folders_that_a_layer_leaves_as_they_are_keep_their_metadata_and_are_marked(
    plain: tuple[Path, Manifest],
) -> None:
    found = members(packed(*plain))

    assert {name for name, m in found.items() if m.pax_headers.get("comment") == UNCHANGED} == {"etc", "opt", "var"}
    assert stat.S_IMODE(found["opt"].mode) == 0o2750


def test_the_bytes_depend_on_nothing_but_the_layer(plain: tuple[Path, Manifest]) -> None:
    root, manifest = plain
    before = packed(root, manifest)
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
        if not path.is_dir():
            path.chmod(0o600)

    assert packed(root, Manifest(reversed(list(manifest.values())))) == before


def test_the_bytes_stay_what_they_are(plain: tuple[Path, Manifest]) -> None:
    """Lockfiles hold such digests: other bytes for the same layer would be a new format."""
    root, manifest = plain
    folders = (Entry(path=path, kind=Kind.FOLDER, mode=0o755) for path in ("etc", "opt", "var"))
    content = packed(root, Manifest([*folders, *manifest.values()]))
    assert hashlib.sha256(content).hexdigest() == "57b971279f0e44021414e8bc574016aaae552b33d846f0cb5bb4b25ef1f640de"


def test_gnu_tar_reads_it(plain: tuple[Path, Manifest]) -> None:
    listed = subprocess.run(
        ["tar", "--list", "--verbose", "--numeric-owner", "--quoting-style=escape", "--file=-"],
        input=packed(*plain),
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    )

    assert listed.stderr == b""
    lines = [" ".join(line.split()) for line in listed.stdout.decode().splitlines()]
    assert "-rwsr-xr-x 1000/3000000 5000 2000-01-01 00:00 opt/b" in lines
    assert "hrwsr-xr-x 1000/3000000 0 2000-01-01 00:00 opt/c link to opt/b" in lines
    assert "drwx------ 0/33 0 2000-01-01 00:00 opt/ü/" in lines


REFUSED: Mapping[str, tuple[Entry, str]] = {
    "a name that means something else in an archive": (file("opt/.wh.x", b""), "has a name that no layer archive"),
    "the removal of such a name": (Entry(path="opt/.wh.x", kind=Kind.WHITEOUT), "has a name that no layer archive"),
    "an attribute with an equals sign in its name": (
        file("opt/b", PLAIN["opt/b"], xattrs=(("user.a=b", "00"),)),
        "has an attribute that no layer archive",
    ),
    "other bytes": (file("opt/b", b"c" * 5000), "/opt/b of a layer was changed in the store"),
    "fewer bytes": (file("opt/b", b"b" * 5001), "/opt/b of a layer was changed in the store"),
    "a file that is gone": (file("opt/gone", b""), "/opt/gone of a layer was changed in the store"),
    "a folder that is gone": (file("gone/x", b""), "/gone of a layer was changed in the store"),
    "a symlink in place of a file": (file("opt/symlink", PLAIN["opt/b"]), "/opt/symlink of a layer was changed"),
}


@pytest.mark.parametrize(("entry", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_archive_can_hold_or_is_not_the_layer(plain: tuple[Path, Manifest], entry: Entry, message: str) -> None:
    root, _ = plain
    (root / "opt/symlink").symlink_to("b")
    with pytest.raises(StoreError, match=message) as caught:
        packed(root, Manifest([entry]))
    assert caught.value.hint


# -- headers, read back by the standard library

SOME_BYTES = st.binary(min_size=1, max_size=300).filter(lambda b: b"\0" not in b)


@given(
    name=SOME_BYTES.map(lambda b: b.replace(b"/", b"_")),
    link=SOME_BYTES,
    numbers=st.tuples(*[st.integers(0, 2**32 - 2)] * 2, st.integers(0, 2**40)),
    mode=st.integers(0, 0o7777),
    xattrs=st.dictionaries(
        st.from_regex(r"user\.[a-zü.]{1,120}", fullmatch=True), st.binary(max_size=1100), max_size=3
    ),
    comment=st.sampled_from([b"", b"unchanged"]),
)
def test_a_header_is_read_back_as_it_was_meant(
    *,
    name: bytes,
    link: bytes,
    numbers: tuple[int, int, int],
    mode: int,
    xattrs: dict[str, bytes],
    comment: bytes,
) -> None:
    uid, gid, size = numbers
    member = tar.Member(
        name=name,
        kind=tar.SYMLINK,
        mode=mode,
        uid=uid,
        gid=gid,
        mtime=MTIME,
        link=link,
        xattrs=xattrs,
        comment=comment,
    )
    header = member.header()
    assert len(header) % 512 == 0
    (found,) = members(header + tar.END).values()
    texts = (found.name, found.linkname)
    assert tuple(text.encode("utf-8", "surrogateescape") for text in texts) == (name, link)
    assert (found.uid, found.gid, found.mode, found.mtime) == (uid, gid, mode, MTIME)
    read = {
        key.removeprefix("SCHILY.xattr."): value.encode("utf-8", "surrogateescape")
        for key, value in found.pax_headers.items()
        if key.startswith("SCHILY.xattr.")
    }
    assert read == xattrs
    assert found.pax_headers.get("comment", "").encode() == comment
    large = tar.Member(name=b"x", kind=tar.FILE, size=size)
    with tarfile.open(fileobj=io.BytesIO(large.header() + bytes(1024)), mode="r:") as opened:
        first = opened.next()
        assert first is not None and first.size == size
