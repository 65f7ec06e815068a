"""Making a base of packages runs them confined: no postinst reaches the machine, no archive leads out, and a process
that is killed leaves nothing that the next does not remove."""

from __future__ import annotations

import dataclasses
import lzma
import os
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from klock.debian.deb import read_deb
from klock.debian.fetch import digest_of
from klock.errors import FetchError
from klock.lockfile.model import DebianLock
from klock.store import Store
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import Command, PackageFiles
from tests.debs import COMPRESSED, deb, package, tar
from tests.integration.conftest import lockfile_of
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = 'import klock as kt\n\nimage = kt.images.from_debian("bookworm", ["jq"])\n'


def project(account: Account, base: DebianLock, store: Store, *blobs: bytes) -> tuple[Path, Path]:
    """A folder with this lockfile, and a store that has the packages and nothing else."""
    folder, cache = account.make_folder("project"), account.make_folder("store")
    (folder / "kimage.py").write_text(IMAGE)
    (folder / "kimage.lock").write_text(lockfile_of(base))
    for found in base.debs:
        if (blob := store.find_blob(digest_of(found))) is not None:
            Store(cache).add_bytes(blob.read_bytes())
    for content in blobs:
        Store(cache).add_bytes(content)
    for path in (folder, cache):
        account.give(path)
    return folder, cache


# The ways out of a chroot, of the files and of the network. What succeeds is written to /var/evidence, and shown.
POSTINST = """\
#!/usr/bin/perl
use Socket;
mkdir $_ for "/var/jail", "/mnt";
chroot "/var/jail";
chdir ".." for 1 .. 64;
chroot ".";
open(my $evidence, ">", "/var/evidence");
print $evidence "read\\n" if open(my $secret, "<", "{secret}");
print $evidence "wrote\\n" if open(my $written, ">", "{written}");
print $evidence "killed\\n" if kill(0, {pid});
for my $address ("127.0.0.1", "{address}") {{
    socket(my $socket, PF_INET, SOCK_STREAM, 0);
    print $evidence "connected\\n" if connect($socket, sockaddr_in({port}, inet_aton($address)));
}}
print $evidence "mounted\\n" if system("mount -t tmpfs none /mnt 2>/dev/null") == 0;
print $evidence "made a device\\n" if system("mknod /var/disk b 8 0 2>/dev/null") == 0;
close($evidence);
system("cat /var/evidence");
exit(-s "/var/evidence" ? 7 : {status});
"""


ENOUGH = (
    *("base-files", "base-passwd", "coreutils", "dash", "debianutils", "diffutils", "dpkg", "gcc-12-base", "grep"),
    *("libacl1", "libattr1", "libblkid1", "libbz2-1.0", "libc-bin", "libc6", "libcrypt1", "libdebconfclient0"),
    *("libgcc-s1", "libgmp10", "liblzma5", "libmd0", "libmount1", "libpcre2-8-0", "libselinux1", "libsmartcols1"),
    *("libzstd1", "mawk", "mount", "perl-base", "sed", "tar", "usr-is-merged", "zlib1g"),
)
"""What a tree needs to run maintainer scripts in Perl: a third of a base, and of the time it takes."""


def with_postinst(base: DebianLock, script: str) -> tuple[DebianLock, list[bytes]]:
    """The lock of a few of the packages, an apt with nothing in it, and a jq that has this postinst."""
    contents = {
        "apt": deb({"Package": "apt", "Version": "1", "Architecture": "amd64", "Depends": ", ".join(ENOUGH)}),
        "jq": deb(
            {"Package": "jq", "Version": "1", "Architecture": "amd64", "Priority": "required", "Depends": "perl-base"},
            scripts={"postinst": script},
        ),
    }
    made = [package(content, name=name, architecture="amd64") for name, content in contents.items()]
    few = [found for found in base.debs if found.name in ENOUGH]
    assert len(few) == len(ENOUGH)
    debs = sorted([*few, *made], key=lambda found: found.name)
    return dataclasses.replace(base, debs=tuple(debs)), list(contents.values())


@pytest.mark.parametrize(("who", "status"), [("root", 0), ("unprivileged", 3)])
def test_a_hostile_postinst_reaches_nothing_and_is_refused(
    who: str, status: int, locked: tuple[DebianLock, Store], request: pytest.FixtureRequest
) -> None:
    account: Account = request.getfixturevalue(who)
    base, store = locked
    secret, written = account.make_folder("host") / "secret", account.make_folder("host") / "written"
    secret.write_text("s")
    with socket.create_server(("0.0.0.0", 0)) as server:
        script = POSTINST.format(
            secret=secret,
            written=written,
            pid=os.getpid(),
            address=socket.gethostbyname(socket.gethostname()),
            port=server.getsockname()[1],
            status=status,
        )
        changed, contents = with_postinst(base, script)
        folder, cache = project(account, changed, store, *contents)
        done = account.klock("sync", "--frozen", "--offline", cwd=folder, env={"KLOCK_CACHE_DIR": str(cache)})
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()

    assert done.returncode == 2, done.stderr
    assert not written.exists()
    assert "exit status 7" not in done.stderr, done.stderr
    if status:
        assert "making Debian bookworm: jq cannot be installed:" in done.stderr
    else:
        # Too much differs to name paths: most packages of the locked tree are not there.
        assert f"the locked packages of Debian bookworm make another tree here: locked {base.tree}, made" in done.stderr
        assert not SandboxWorkshop(Store(cache)).has_base(changed.id)


# -- archives


def made_of(content: bytes, store: Store, *, suffix: str = "") -> list[str]:
    """The paths that a package's archive of files unpacks to."""
    path = store.root.parent / "data"
    path.write_bytes(content)
    files = PackageFiles(name="the package x 1", path=path, offset=0, size=len(content), media_type=f".tar{suffix}")
    with SandboxWorkshop(store).make_base() as tree:
        tree.unpack([files])
        return list(tree.finish())


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info, b""


ORDINARY = {
    "absolute names are below the root": ([("/etc/x", b"1")], ["etc", "etc/x"]),
    "a symlink cannot lead out": ([link("out", "/../../.."), ("out/x", b"1")], ["out", "x"]),
    "a symlink to a folder stays when the folder comes": (
        [folder("usr/bin"), link("bin", "usr/bin"), folder("bin"), ("bin/sh", b"1")],
        ["bin", "usr", "usr/bin", "usr/bin/sh"],
    ),
    "the last of two members with one name": ([("a", b"1"), ("./a", b"22")], ["a"]),
    "a name that is a whiteout in a layer is a name": (
        [(".wh.a", b""), (".wh..wh..opq", b"")],
        [".wh..wh..opq", ".wh.a"],
    ),
    "nothing": ([], []),
}


@pytest.mark.parametrize(("members", "paths"), ORDINARY.values(), ids=ORDINARY.keys())
def test_what_a_package_unpacks_to(
    members: Sequence[tuple[tarfile.TarInfo | str, bytes]], paths: list[str], store: Store
) -> None:
    assert made_of(tar(*members), store) == paths


def huge() -> bytes:
    info = tarfile.TarInfo("x")
    info.size = 1 << 50
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_a_package_unpacks_however_it_is_compressed(suffix: str, store: Store) -> None:
    """With gzip and xz as Debian's are and were, with zstd as Ubuntu's."""
    media_type = {".gz": "+gzip", ".xz": "+xz", ".zst": "+zstd"}.get(suffix, "")
    assert made_of(COMPRESSED[suffix](tar(("a", os.urandom(300_000)), ("b", b"1"))), store, suffix=media_type) == [
        "a",
        "b",
    ]


HOSTILE = {
    "a name that leads out": (tar(("../x", b"1")), "", "refused: the name '../x' leads out"),
    "a hard link to a file of the machine": (
        tar(link("x", "../../etc/passwd", tarfile.LNKTYPE)),
        "",
        "refused: the name '../../etc/passwd' leads out",
    ),
    "a hard link through a symlink": (
        tar(link("out", "/"), link("x", "out/etc/passwd", tarfile.LNKTYPE)),
        "",
        "is a hard link to /out/etc/passwd, which is not a file of the layer",
    ),
    "cut off": (tar(("x", b"1" * 2000))[:1000], "", "is a broken archive"),
    "a size of petabytes": (huge(), "", "claims 1125899906842624 bytes, more than the disk has left"),
    "no archive": (b"\1" * 1024, "", "is a broken archive"),
    "compressed data that ends early": (lzma.compress(tar(("x", os.urandom(4000))))[:-1000], "+xz", "ends early"),
    "no compressed data": (b"hello", "+xz", "is a broken archive"),
    "zstd that ends early": (COMPRESSED[".zst"](tar(("x", os.urandom(4000))))[:-1000], "+zstd", "is a broken archive"),
    "a bomb of zstd": (
        COMPRESSED[".zst"](bytes(300 << 20)),
        "+zstd",
        "refused: it unpacks to more than 268435456 bytes",
    ),
    "a bomb": (
        lzma.compress(bytes(300 << 20), preset=0),
        "+xz",
        "refused: it unpacks to more than 268435456 bytes",
    ),
    "a compression that nobody knows": (b"", "+lz9", "klock cannot read a layer of media type '.tar+lz9'"),
}


@pytest.mark.parametrize(("content", "suffix", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_is_refused_by_its_packages_name(
    content: bytes, suffix: str, message: str, store: Store
) -> None:
    with pytest.raises(FetchError) as error:
        made_of(content, store, suffix=suffix)
    assert error.value.message.startswith(("the package x 1: ", "the package x 1 is a broken "))
    assert message in error.value.message
    assert not list((store.root / "trees").glob("*"))


def test_packages_run_as_soon_as_they_are_unpacked(locked: tuple[DebianLock, Store], store: Store) -> None:
    """Nothing of a package runs when it is unpacked, and nothing of the machine is there when it runs."""
    base, full = locked
    with SandboxWorkshop(store).make_base() as tree:
        tree.unpack(
            [
                read_deb(full.blob_path(digest_of(found)), found).files
                for found in base.debs
                if found.name
                in (
                    "libc6",
                    "dash",
                    "libgcc-s1",
                    "coreutils",
                    "libselinux1",
                    "libpcre2-8-0",
                    "libacl1",
                    "libattr1",
                    "libgmp10",
                )
            ]
        )
        done = tree.run(Command(argv=("/bin/dash", "-c", "/bin/ls /; /bin/ls /root /home"), environment={}))
    assert b"bin" in done.output.split()
    assert b"home" not in done.output.split()


# -- killed


def test_a_process_that_is_killed_leaves_nothing_for_good(
    locked: tuple[DebianLock, Store], unprivileged: Account
) -> None:
    account = unprivileged
    base, contents = with_postinst(locked[0], "#!/bin/sh\n")
    folder, cache = project(account, base, locked[1], *contents)
    temporary = account.make_folder("tmp")
    env = {"KLOCK_CACHE_DIR": str(cache), "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [account.python, "-m", "klock", "sync", "--frozen", "--offline"],
        cwd=folder,
        env=account.environment | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **account.identity,
    )
    deadline = time.monotonic() + 120
    while not list(cache.glob("tmp/scratch-*/debs")):
        assert process.poll() is None and time.monotonic() < deadline, "packages are being installed by now"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    assert list(temporary.iterdir()) == []
    assert list(cache.glob("tmp/scratch-*"))
    assert account.klock("cache", "prune", cwd=folder, env=env).returncode == 0
    assert list(cache.glob("tmp/*")) == []
    assert list(temporary.iterdir()) == []
