"""Git repositories of ADD: what an address means, and what no server can make klock write."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from dulwich.object_store import MemoryObjectStore
from dulwich.objects import Blob, Commit, ShaFile, Tree
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import FetchError, HashMismatch, ImageError, LockfileError
from klock.lockfile.model import CopyLock, FetchedRepository, TargetLock
from klock.lockfile.names import check_names
from klock.repositories import GitAddress, git_address
from klock.repositories.archive import archive_of, archived_files
from klock.repositories.checkout import Checkout, Submodule
from klock.repositories.fetching import _submodule_url
from klock.repositories.remote import Named
from klock.steps.kind import UNKNOWN_LAYER
from klock.targets import Target
from tests.test_dockerfile import BASE

URL = "https://github.com/foo/bar.git"
C40 = "0123456789abcdef0123456789abcdef01234567"

# The first ones are the table of BuildKit's own tests (util/gitutil).
ADDRESSES: dict[str, GitAddress | None] = {
    "https://example.com/": None,
    "https://example.com/foo": None,
    "https://example.com/foo.git.bar": None,
    "https://example.com/foo.git/": None,
    "custom.xyz/moby/buildkit.git": None,
    "./.git": None,
    ".git": None,
    "a.txt": None,
    "ftp://h/x.git": None,
    URL: GitAddress(url=URL),
    f"{URL}#deadbeef": GitAddress(url=URL, wanted="deadbeef"),
    f"{URL}#release/1.2": GitAddress(url=URL, wanted="release/1.2"),
    f"{URL}#baz/qux:quux/quuz": GitAddress(url=URL, wanted="baz/qux", folder="quux/quuz"),
    f"{URL}#:myfolder": GitAddress(url=URL, folder="myfolder"),
    f"{URL}##ref=release/1.2,subdir=/subdir": GitAddress(url=URL, wanted="release/1.2", folder="subdir"),
    f"{URL}##commit={C40}": GitAddress(url=URL, wanted=C40, checksum=C40),
    "git@github.com:foo/bar.git": GitAddress(url=URL),
    "git@github.com:foo/bar": GitAddress(url="https://github.com/foo/bar"),
    "git@github.com:foo/bar.git#v1:docs": GitAddress(url=URL, wanted="v1", folder="docs"),
    "ssh://git@github.com:22/foo/bar.git#v1": GitAddress(url=URL, wanted="v1"),
    "http://h:8080/x.git#a": GitAddress(url="http://h:8080/x.git", wanted="a"),
    f"{URL}?tag=v1": GitAddress(url=URL, wanted="refs/tags/v1"),
    f"{URL}?branch=refs/heads/b&subdir=a/./b/": GitAddress(url=URL, wanted="refs/heads/b", folder="a/b"),
    f"{URL}?ref=pull/42/head&submodules=false": GitAddress(url=URL, wanted="pull/42/head", submodules=False),
    f"{URL}?keep-git-dir&commit={C40[:7]}": GitAddress(url=URL, keeps_git=True, checksum=C40[:7]),
    f"{URL}?keep-git-dir=0#main": GitAddress(url=URL, keeps_git=False, wanted="main"),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_means_what_it_does_for_buildkit(text: str) -> None:
    assert git_address(text) == ADDRESSES[text]


NO_ADDRESSES = {
    "git://h/x": "nothing protects git://, so klock does not use it: git://h/x",
    f"{URL}?tag=a&branch=b": f"{URL}?tag=a&branch=b: it names both refs/tags/a and refs/heads/b",
    f"{URL}?ref=a#b": f"{URL}?ref=a#b: it names both b and a",
    f"{URL}?depth=1": f"{URL}?depth=1: git repositories have no depth=",
    f"{URL}?tag=": f"{URL}?tag=: its query has a name without a value",
    f"{URL}?tag=a&tag=a": f"{URL}?tag=a&tag=a: its query says one thing twice",
    f"{URL}?submodules=maybe": f"{URL}?submodules=maybe: submodules=maybe is neither true nor false",
    f"{URL}#a:../b": f"{URL}#a:../b: the folder ../b is not in the repository",
    f"{URL}?commit=HEAD": f"{URL}?commit=HEAD: HEAD is not a commit: it has 7 to 40 hex digits",
    f"{URL}##tag=a": f"{URL}##tag=a: 'tag=a' is not one of ref=, commit= and subdir=",
    f"{URL}#a\x1b[2J": f"{URL}#a\x1b[2J: 'a\\x1b[2J' is not the name of a branch, tag or commit",
}


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ImageError) as caught:
        git_address(text)
    assert caught.value.message == NO_ADDRESSES[text]
    assert caught.value.hint


@given(st.text(max_size=60), st.sampled_from(["", "git@h:", "https://h/x.git", "https://h/x.git?", "https://h/x.git#"]))
def test_any_text_is_an_address_or_none_or_an_error(text: str, before: str) -> None:
    try:
        found = git_address(before + text)
    except ImageError:
        return
    assert found is None or (found.url.startswith(("https://", "http://")) and ".." not in found.folder.split("/"))


SUBMODULES = {
    "../b.git": "https://h/x/b.git",
    "../../y/b.git": "https://h/y/b.git",
    "./b": "https://h/x/a.git/b",
    "git@other:b.git": "https://other/b.git",
    "https://other/b": "https://other/b",
}


@pytest.mark.parametrize("written", SUBMODULES)
def test_where_a_submodule_is(written: str) -> None:
    assert _submodule_url("https://h/x/a.git", Submodule(path=b"s", url=written, commit=C40)) == SUBMODULES[written]


@pytest.mark.parametrize("written", ["file:///etc", "/srv/x", "git://h/x", "ext::sh -c id", "-u./x"])
def test_a_submodule_elsewhere_is_refused(written: str) -> None:
    with pytest.raises(FetchError, match=r"its submodule s is at "):
        _submodule_url("https://h/x/a.git", Submodule(path=b"s", url=written, commit=C40))


def _commit(store: MemoryObjectStore, entries: Sequence[tuple[bytes, int, ShaFile | bytes]]) -> Checkout:
    tree = Tree()
    for name, mode, target in entries:
        if isinstance(target, ShaFile):
            store.add_object(target)
        tree.add(name, mode, target.id if isinstance(target, ShaFile) else target)  # type: ignore[arg-type]
    commit = Commit()
    commit.tree = tree.id
    commit.author = commit.committer = b"a <a@b>"
    commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"m"
    store.add_object(tree)
    store.add_object(commit)
    return Checkout(objects=store, commit=commit.id.decode(), source="https://h/x.git")


@pytest.mark.parametrize("name", [b"..", b".", b".git", b".GIT", b"a/b", b"../x", b""])
def test_no_tree_writes_outside_or_into_gits_folder(name: bytes) -> None:
    checkout = _commit(MemoryObjectStore(), [(name, 0o100644, Blob.from_string(b"x"))])
    with pytest.raises(FetchError, match="git checks out no path"):
        list(checkout.leaves())


def test_an_object_that_was_not_sent(tmp_path: Path) -> None:
    checkout = _commit(MemoryObjectStore(), [(b"a", 0o100644, b"1" * 40)])
    with pytest.raises(FetchError, match=f"https://h/x.git sent no object {'1' * 40}"):
        list(checkout.leaves())


def test_a_folder_that_is_not_there() -> None:
    checkout = _commit(MemoryObjectStore(), [(b"a", 0o100644, Blob.from_string(b"x"))])
    with pytest.raises(FetchError, match=r"https://h/x.git has no folder a at commit [0-9a-f]{12}"):
        list(checkout.leaves("a"))


def test_an_archive_is_a_function_of_the_commit(tmp_path: Path) -> None:
    """Also on another machine, with another zlib: what a lockfile says must hold there."""
    entries: list[tuple[bytes, int, ShaFile | bytes]] = [
        (b"run", 0o100755, Blob.from_string(b"#!/bin/sh\n" * 10_000)),
        (b"link", 0o120000, Blob.from_string(b"run")),
        ("ä".encode(), 0o100664, Blob.from_string(b"")),
    ]
    checkout = _commit(MemoryObjectStore(), entries)
    named = Named(commit=checkout.commit, reference="refs/heads/main")
    archive = b"".join(archive_of(checkout, named, git="https://h/x.git"))
    assert hashlib.sha256(archive).hexdigest() == "3622d9b90c2a33ee291eebb15cd0175749793d7b3ac075a0b568d38ce84b850f"
    (tmp_path / "x.tar").write_bytes(archive)
    found = {
        file.path: (oct(file.mode), file.target if file.content is None else len(file.content.read()))
        for file in archived_files(tmp_path / "x.tar")
    }
    assert {path: entry for path, entry in found.items() if not path.startswith(".git/")} == {
        **{".git": ("0o755", None), "run": ("0o755", 100_000), "link": ("0o777", "run"), "ä": ("0o644", 0)}
    }


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_an_archive_that_klock_did_not_write(kind: bytes, tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        member = tarfile.TarInfo("x")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    (tmp_path / "x.tar").write_bytes(raw.getvalue())
    with pytest.raises(HashMismatch, match="is not a repository's archive"):
        list(archived_files(tmp_path / "x.tar"))


@pytest.mark.parametrize(
    "field",
    [{"url": "file:///etc"}, {"folder": "../x"}, {"commit": "HEAD"}, {"tag": "x"}, {"reference": "refs/../../x"}],
)
def test_a_strangers_lockfile(field: dict[str, str]) -> None:
    repository = FetchedRepository(**{"url": URL, "sha256": "0" * 64, **field})  # type: ignore[arg-type]
    step = CopyLock(sources=("x",), destination="/x", layer=UNKNOWN_LAYER, repositories=(repository,))
    with pytest.raises(LockfileError, match=rf"repositories\[0\].{next(iter(field))}"):
        check_names(TargetLock(target=Target(), base=BASE, interpreter=None, steps=(step,), packages=()))
