"""Archives of strangers, ten thousand times: of layers and of Debian packages. Each is read or refused in words, and
leads nowhere; see `tests/test_fuzz.py`."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import resource
import shutil
import signal
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from klock.debian.deb import read_deb
from klock.errors import KlockError
from klock.layers.unpack import unpack, unpack_package
from klock.workshop.unpacking import _preload
from tests.debs import COMPRESSED, ar, control_archive, member, package
from tests.fuzzing import TRIES, Hang, changed_bytes, fuzz

pytestmark = [pytest.mark.soak]

NAMES: Final = [
    *(
        "a",
        "a/b",
        "../x",
        "/x",
        "a/../../x",
        "..",
        ".",
        "",
        "a/",
        "//x",
        "a\0b",
        "\udcff",
        "b/.wh.a",
        ".wh..wh..opq",
        "a" * 300,
    ),
    *("link", "link/x", "up", "up/escaped", "abs", "abs/escaped", "dev", "a/b/c/d"),
]
TARGETS: Final = ["/", "..", "../..", "/proc/self/root", "a", "link", ".", "", "/etc", "../outside", "x" * 5000]


def tar(r: random.Random) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(
        fileobj=raw, mode="w", format=r.choice([0, 1, 2]), encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for _ in range(r.choice([1, 3, 8])):
            info = tarfile.TarInfo(r.choice(NAMES))
            info.type = r.choice([b"0", b"0", b"1", b"2", b"2", b"3", b"4", b"5", b"6", b"7"])
            info.mode, info.uid, info.gid = r.choice([0o644, 0o4755, 0, 0o177777]), r.choice([0, 1000, 2**31]), 0
            info.mtime = r.choice([0, 1, -1, 2**40, 1.5])
            info.linkname = r.choice(TARGETS) if info.type in b"12" else ""
            content = b"x" * r.choice([0, 5, 600]) if info.type == b"0" else b""
            info.size = len(content)
            with contextlib.suppress(ValueError, UnicodeError):
                archive.addfile(info, io.BytesIO(content))
    return damaged(raw.getvalue(), r, 0.6)


def damaged(content: bytes, r: random.Random, often: float = 0.15) -> bytes:
    return changed_bytes(content, r) if r.random() < often else content


def layer(r: random.Random) -> bytes:
    return damaged(gzip.compress(tar(r), 1, mtime=0), r)


FIELDS: Final = {"Package": "x", "Version": "1", "Architecture": "all", "Depends": "a | b (>= 1), c:any"}
ODD_NAMES: Final = (
    "",
    "x",
    "../../x",
    "control.tar.lz9",
    "_gpgorigin",
    "data.tar",
    "a" * 16,
    "/1",
    "//",
    "control.tar.xz/",
)


def deb(r: random.Random) -> bytes:
    """Damaged in its tar archives, in what compresses them, in its own headers; with members too many or too few."""
    members = [("debian-binary", damaged(b"2.0\n", r))]
    control = damaged(control_archive(FIELDS, {"postinst": "#!/bin/sh\n"}), r, 0.4)
    for name, content in (("control", control), ("data", tar(r))):
        suffix = r.choice([*COMPRESSED])
        packed = COMPRESSED[r.choice([suffix] * 9 + [*COMPRESSED])](content)
        members.append((f"{name}.tar{suffix}", damaged(packed, r, 0.3)))
    match r.randrange(20):
        case 0:
            members.insert(r.randrange(4), (r.choice(ODD_NAMES), b"x"))
        case 1:
            r.shuffle(members)
        case 2:
            del members[r.randrange(3)]
        case 3:
            size = r.choice(["-1", "9999999999", "0x10", "", "1e3", " 12"])
            return ar(*members[:2]) + member(members[2][0], members[2][1], size=size)
    return damaged(ar(*members), r, 0.2)


@contextmanager
def unpacking(unpack: Callable[[BinaryIO], object]) -> Iterator[Callable[[bytes], None]]:
    """A function that has an archive unpacked as klock does, by a process whose root is an empty folder, and looks
    whether anything beside that changed."""
    _preload()
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder, "outside")
        outside.mkdir()
        (outside / "kept").write_text("kept")
        known = outside.stat().st_mtime_ns
        path, root = Path(folder, "archive"), Path(folder, "root")

        def read(content: bytes) -> None:
            path.write_bytes(content)
            root.mkdir()
            child = os.fork()
            if child == 0:
                _unpack(path, root, unpack)
            try:
                _, status = os.waitpid(child, 0)
            except Hang:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise
            finally:
                shutil.rmtree(root)
            assert os.waitstatus_to_exitcode(status) in (0, 2), "a traceback"
            assert [each.name for each in Path(folder).iterdir() if each != path] == ["outside"]
            assert (outside.stat().st_mtime_ns, [each.name for each in outside.iterdir()]) == (known, ["kept"])

        yield read


def _unpack(path: Path, root: Path, unpack: Callable[[BinaryIO], object]) -> None:
    """Status 0: done, 2: refused in words."""
    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        with open(path, "rb") as file:
            os.chroot(root)
            os.chdir("/")
            unpack(file)
        status = 0
    except KlockError:
        status = 2
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


needs_chroot = pytest.mark.skipif(os.geteuid() != 0, reason="needs chroot")


@needs_chroot
def test_archives_of_layers() -> None:
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    with unpacking(lambda file: unpack(file, media_type=media_type, diff_id="", source="x")) as read:
        fuzz(layer, read)


def test_debian_packages(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = read_deb(path, package(content))
        assert 0 < found.files.offset <= found.files.offset + found.files.size <= len(content)
        assert all(name.isascii() for names in (*found.needs, found.provides) for name in names)

    fuzz(deb, read)


@needs_chroot
def test_the_files_of_debian_packages() -> None:
    """Of all that is read; a process of its own unpacks each, so there are fewer."""

    def make(r: random.Random) -> bytes:
        suffix = r.choice(sorted(COMPRESSED))
        return suffix.encode().ljust(8) + damaged(COMPRESSED[suffix](tar(r)), r, 0.3)

    def unpacked(file: BinaryIO) -> None:
        media_type = {".gz": ".tar+gzip", ".xz": ".tar+xz", ".zst": ".tar+zstd"}.get(
            file.read(8).strip().decode(), ".tar"
        )
        unpack_package(io.BytesIO(file.read()), media_type=media_type, limit=256 << 20, source="the package x 1")

    with unpacking(unpacked) as read:
        fuzz(make, read, tries=TRIES // 4)
