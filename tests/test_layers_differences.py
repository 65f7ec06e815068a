"""What klock says of a step that makes something else each time: the paths, what differs, and the likely reason."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.layers.differences import Difference, explain
from klock.layers.manifest import Entry, Kind, Manifest


def tree(*entries: Entry, **files: bytes) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest of entries and of files, whose contents are returned besides."""
    made = [file(path, content) for path, content in files.items()]
    return Manifest([*entries, *made]), files


def file(path: str, content: bytes = b"") -> Entry:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Entry(path=path, kind=Kind.FILE, mode=0o644, size=len(content), digest=digest)


def folder(path: str) -> Entry:
    return Entry(path=path, kind=Kind.FOLDER, mode=0o755)


def explained(one: tuple[Manifest, dict[str, bytes]], other: tuple[Manifest, dict[str, bytes]]) -> list[Difference]:
    contents = (one[1], other[1])
    return explain(one[0], other[0], lambda which, path: contents[which].get(path))


def reason_of(path: str, one: bytes, other: bytes) -> str | None:
    (found,) = explained(tree(**{path: one}), tree(**{path: other}))
    assert (found.path, found.what) == (path, "other content")
    return found.reason


def archive(time: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a")
        info.mtime = time
        tar.addfile(info)
    return buffer.getvalue()


CONTENTS = {
    "date": (
        b"built Mon Nov 23 23:55:31 UTC 2026\n",
        b"built Tue Nov 24 00:01:02 UTC 2026\n",
        "a date or a time of day",
    ),
    "an ISO date": (b"on 2026-11-23T23:55:31.123Z", b"on 2027-01-03T03:05:01.9Z", "a date or a time of day"),
    "a short date": (b"v20261123\n", b"v20261124\n", "only digits differ: a time, a process id, a count or $RANDOM"),
    "seconds": (b"t=1795478131", b"t=1795478199", "a time in seconds since 1970"),
    "seconds with a fraction": (b"1795478131.25", b"1795478199.123456", "a time in seconds since 1970"),
    "$RANDOM": (b"12345\n", b"678\n", "only digits differ: a time, a process id, a count or $RANDOM"),
    "two small numbers": (b"x 1 y\n", b"x 2 y\n", "only digits differ: a time, a process id, a count or $RANDOM"),
    "uuidgen": (
        b"id: 0f0e6b5e-5f0c-4f6e-9b43-1d0a3c2b1a00\n",
        b"id: 7d1b2c3d-aaaa-4bbb-8ccc-0123456789ab\n",
        "a UUID: a random number, or one made of the time",
    ),
    "openssl rand -hex": (
        b"key=deadbeef01\n",
        b"key=0123abcdef\n",
        "a hexadecimal number: random, or the digest of something that differs",
    ),
    "openssl rand -base64": (
        b"key=Zm9vYmFyX3\n",
        b"key=+/9xYmzrAA\n",
        "random characters, or the digest of something that differs",
    ),
    "lines in another order": (
        b"a\nb\nc\n",
        b"b\na\nc\n",
        "the same lines in another order, such as a hash seed or parallel jobs make",
    ),
    "a private key": (
        b"-----BEGIN RSA PRIVATE KEY-----\nMIIA\n",
        b"-----BEGIN RSA PRIVATE KEY-----\nMIIB\nx\n",
        "a key or a certificate, made at random",
    ),
    "a public key of ssh": (
        b"ssh-ed25519 AAAAC3 root@klock\n",
        b"ssh-ed25519 AAAAC4 root@klock\n",
        "a key or a certificate, made at random",
    ),
    "gzip": (
        gzip.compress(b"x", mtime=1),
        gzip.compress(b"x", mtime=2),
        "a gzip file holds the time it was made: use gzip -n",
    ),
    "tar, gzip": (
        gzip.compress(archive(1), mtime=0),
        gzip.compress(archive(2), mtime=0),
        "what is compressed differs, such as the times in a tar archive: see tar --mtime and --sort",
    ),
    "tar": (archive(1), archive(2), "a tar archive holds the times of its files"),
    "a static library": (
        b"!<arch>\nx 1 ",
        b"!<arch>\nx 2 ",
        "a static library holds the times of its members: use ar rcD",
    ),
    "other words": (b"one\n", b"two\n", None),
    "more lines": (b"one\n", b"one\ntwo\n", None),
    "binary": (b"\0\1\2", b"\0\1\3", None),
}


@pytest.mark.parametrize(("one", "other", "reason"), CONTENTS.values(), ids=CONTENTS)
def test_contents_give_a_reason(one: bytes, other: bytes, reason: str | None) -> None:
    assert reason_of("opt/x", one, other) == reason


R_PACKAGE = (
    "R notes when it built a package: give R CMD INSTALL, or INSTALL_opts of install.packages, "
    "--built-timestamp=2000-01-01"
)
PATHS = {
    "etc/ssh/ssh_host_rsa_key": "ssh makes host keys at random; each machine should make its own",
    "etc/ssh/ssh_host_rsa_key.pub": "ssh makes host keys at random; each machine should make its own",
    "etc/ssl/private/ssl-cert-snakeoil.key": "a private key is random",
    "etc/shadow": "a password is hashed with a random salt, and the day of its change is noted",
    "opt/lib/__pycache__/x.cpython-311.pyc": "bytecode: its source differs, or had another time when it was compiled",
    "opt/build/config.log": "a log",
    "opt/jre/lib/modules": (
        "jlink lays modules out by a random number on one CPU, where Java takes no G1: use jlink -J-XX:+UseG1GC"
    ),
    "opt/r/.git/logs/HEAD": "git's reflog holds times",
    "usr/local/lib/R/site-library/moon/DESCRIPTION": R_PACKAGE,
    "usr/lib/R/library/moon/Meta/package.rds": R_PACKAGE,
}


@pytest.mark.parametrize(("path", "reason"), PATHS.items(), ids=PATHS)
def test_paths_give_a_reason_and_are_not_read(path: str, reason: str) -> None:
    def read(which: int, path: str) -> bytes:
        raise AssertionError(path)

    (found,) = explain(tree(**{path: b"1"})[0], tree(**{path: b"2"})[0], read)
    assert found == Difference(path=path, what="other content", reason=reason)


def test_equal_manifests_do_not_differ() -> None:
    one = tree(folder("opt"), **{"opt/x": b"x"})
    assert explained(one, one) == []


ONE = file("opt/x")
METADATA = {
    "a mode": (replace(ONE, mode=0o600), "mode 0644 in the first run, 0600 in the second"),
    "an owner": (replace(ONE, uid=33), "owner 0:0 in the first run, 33:0 in the second"),
    "an attribute": (replace(ONE, xattrs=(("user.x", "00"),)), "other extended attributes"),
    "a kind": (folder("opt/x"), "a file in the first run, a folder in the second"),
    "removed": (Entry(path="opt/x", kind=Kind.WHITEOUT), "a file in the first run, removed in the second"),
}


@pytest.mark.parametrize(("other", "what"), METADATA.values(), ids=METADATA)
def test_what_differs_is_said(other: Entry, what: str) -> None:
    assert explain(Manifest([ONE]), Manifest([other]), lambda which, path: None) == [
        Difference(path="opt/x", what=what)
    ]


def test_links_that_lead_elsewhere() -> None:
    link = Entry(path="opt/l", kind=Kind.SYMLINK, mode=0o777, target="/tmp/a1")
    (found,) = explain(Manifest([link]), Manifest([replace(link, target="/tmp/a2")]), lambda which, path: None)
    assert found.what == "leads to /tmp/a1 in the first run, to /tmp/a2 in the second"


def test_a_folder_of_one_run_stands_for_all_that_is_in_it_and_a_random_name_is_known() -> None:
    one = tree(folder("opt/build.Xq81Zb"), **{"opt/build.Xq81Zb/x": b"x", "opt/build.Xq81Zb/y": b""})
    other = tree(folder("opt/build.fF03mk"), **{"opt/build.fF03mk/x": b"x", "opt/build.fF03mk/y": b""})
    assert explained(one, other) == [
        Difference(path="opt/build.Xq81Zb", what="only in the first run", reason="a random name, such as mktemp makes"),
        Difference(
            path="opt/build.fF03mk", what="only in the second run", reason="a random name, such as mktemp makes"
        ),
    ]


@pytest.mark.parametrize(
    ("one", "other", "pattern"),
    [
        ("opt/logs/cmd_2026-12-01_15.51.05.log", "opt/logs/cmd_2026-12-01_15.51.21.log", "opt/logs/cmd_*.log"),
        ("opt/build.98oR3G", "opt/build.OGmYMq", "opt/build.*"),
        ("opt/a.txt", "opt/b.txt", None),
    ],
)
def test_a_pattern_stands_for_the_names_of_all_runs(one: str, other: str, pattern: str | None) -> None:
    found = explained(tree(**{one: b""}), tree(**{other: b""}))
    assert [each.pattern for each in found] == ([pattern] * 2 if pattern else [one, other])


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("opt/pid-17", "opt/pid-2301", "a number in its name: a time, a process id or $RANDOM"),
        ("tmpabcd1234", "tmpzyxw9876", "a random name, such as mktemp makes"),
        ("opt/a.txt", "opt/b.txt", None),
        ("opt/tmpabcd1234", "srv/tmpzyxw9876", None),
    ],
)
def test_names_of_one_run_only(one: str, other: str, reason: str | None) -> None:
    found = explained(tree(**{one: b""}), tree(**{other: b""}))
    assert [(each.path, each.reason) for each in found] == [(one, reason), (other, reason)]


def test_a_path_removed_in_one_run_only() -> None:
    gone = Manifest([Entry(path="etc/motd", kind=Kind.WHITEOUT)])
    (found,) = explain(Manifest(), gone, lambda which, path: None)
    assert found == Difference(path="etc/motd", what="removed only in the second run")


def test_large_files_and_more_than_a_few_are_not_read() -> None:
    read: list[str] = []

    def note(which: int, path: str) -> bytes:
        read.append(path)
        return b"%d" % which

    one = [replace(file(f"opt/{n:04}", b"1"), size=1 << 30 if n == 0 else 1) for n in range(500)]
    other = [replace(file(f"opt/{n:04}", b"2"), size=1) for n in range(500)]
    found = explain(Manifest(one), Manifest(other), note)
    assert len(found) == 500
    assert "opt/0000" not in read
    assert 0 < len(set(read)) <= 100


@given(st.lists(st.tuples(st.sampled_from(["a", "a/b", "c", "tmp12", "tmp34"]), st.binary(max_size=40)), max_size=5))
def test_every_path_that_differs_is_covered(pairs: list[tuple[str, bytes]]) -> None:
    one, other = tree(**dict(pairs)), tree(**{path: content[::-1] for path, content in pairs[1:]})
    found = [each.path for each in explained(one, other)]
    for path in {*one[0], *other[0]}:
        if one[0].get(path) != other[0].get(path):
            assert any(path == each or path.startswith(each + "/") for each in found)
    assert len(found) == len(set(found))


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_two_contents_can_be_compared(one: bytes, other: bytes) -> None:
    if one != other:
        reason_of("opt/x", one, other)


def test_hostile_contents_take_no_long_time() -> None:
    """A quadratic expression would take many minutes."""
    for hostile in (
        b"1" * (1 << 18),
        b"a-" * (1 << 17),
        b"1:" * (1 << 17),
        b"J" * (1 << 18),
        b"-----BEGIN " * (1 << 14),
    ):
        reason_of("opt/x", hostile + b"?", hostile + b"!")
