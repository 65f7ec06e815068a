"""The files of a commit as one archive: POSIX tar, in one spelling, so that its SHA-256 is a function of the commit.

With git's folder there are also the commit's objects, as a clone of depth 1 has them. They are stored and not
compressed: what zlib makes of equal bytes differs between its versions.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import struct
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from klock.errors import HashMismatch
from klock.layers.tar import END, FILE, FOLDER, SYMLINK, Member, padding
from klock.repositories.checkout import Checkout, Leaf
from klock.repositories.remote import Named
from klock.values import dataclass

__all__ = ["ArchivedFile", "archive_of", "archived_files"]

_GIT: Final = b".git"
_STORED: Final = 0xFFFF
_TAG: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedFile:
    """A file, whose bytes `open` has, a symlink to `target`, or a folder, at a relative `path`."""

    path: str
    mode: int
    target: str | None = None
    content: IO[bytes] | None = None


def archive_of(checkout: Checkout, named: Named, *, folder: str = "", git: str | None = None) -> Iterator[bytes]:
    """The bytes of the archive. `git` is the URL that git's folder has as its origin; None: there is no such folder.

    As with BuildKit, there is none where only a folder of the tree is wanted. Raises FetchError.
    """
    start = folder.encode("utf-8", "surrogateescape")
    sizes: dict[bytes, int] = {}
    for leaf in checkout.leaves(folder):
        sizes[leaf.path] = len(leaf.content)
        yield from _member(leaf, posixpath.relpath(leaf.path, start) if start else leaf.path)
    if git is not None and not folder:
        for leaf in _git_folder(checkout, named, git, sizes):
            yield from _member(leaf, leaf.path)
    yield END


def archived_files(archive: Path) -> Iterator[ArchivedFile]:
    """What an archive holds. `content` is to be read before the next is asked for. Raises HashMismatch for an archive
    that klock did not write: a lockfile may name any."""
    try:
        with tarfile.open(archive, mode="r:") as opened:
            for member in opened:
                if member.isdir():
                    yield ArchivedFile(path=member.name.rstrip("/"), mode=member.mode)
                elif member.issym():
                    yield ArchivedFile(path=member.name, mode=0o777, target=member.linkname)
                elif member.isreg():
                    yield ArchivedFile(path=member.name, mode=member.mode, content=opened.extractfile(member))
                else:
                    raise tarfile.TarError(f"{member.name} is neither file nor folder nor symlink")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise HashMismatch(
            f"{archive.name} is not a repository's archive: {error}",
            hint="run `klock lock`, and find out who wrote the lockfile",
        ) from error


def _member(leaf: Leaf, path: bytes) -> Iterator[bytes]:
    if leaf.is_folder:
        yield Member(name=path + b"/", kind=FOLDER, mode=leaf.mode).header()
    elif leaf.is_link:
        yield Member(name=path, kind=SYMLINK, mode=leaf.mode, link=leaf.content).header()
    else:
        yield Member(name=path, kind=FILE, mode=leaf.mode, size=len(leaf.content)).header()
        yield leaf.content
        yield padding(len(leaf.content))


# -- git's folder


def _git_folder(checkout: Checkout, named: Named, url: str, sizes: dict[bytes, int]) -> Iterator[Leaf]:
    """gitrepository-layout(5): a checkout without a branch, of one commit, whose parents are cut off."""
    objects = checkout.reachable()
    if named.tag:
        objects = sorted([*objects, (_TAG, named.tag, checkout.objects[named.tag.encode()].as_raw_string())], key=_name)
    pack, index = _packed(objects)
    pack_name = b".git/objects/pack/pack-" + pack[-20:].hex().encode()
    files = {
        b".git/HEAD": f"{named.commit}\n".encode(),
        b".git/config": _config(url),
        b".git/index": _index(checkout, sizes),
        pack_name + b".pack": pack,
        pack_name + b".idx": index,
    }
    if named.reference:
        reference = named.reference.encode("utf-8", "surrogateescape")
        files[b".git/" + reference] = f"{named.tag or named.commit}\n".encode()
    if checkout.objects[named.commit.encode()].parents:
        files[b".git/shallow"] = f"{named.commit}\n".encode()
    folders = {b".git/refs/heads", b".git/refs/tags", b".git/objects/info"}
    for path in (*files, *folders):
        folders |= {above for above in _above(path) if above}
    for path in sorted({*files, *folders}):
        if path in folders:
            yield Leaf(path=path, mode=0o755, is_folder=True)
        else:
            yield Leaf(path=path, mode=0o444 if b"/pack/" in path else 0o644, content=files[path])


def _name(entry: tuple[int, str, bytes]) -> str:
    return entry[1]


def _above(path: bytes) -> Iterator[bytes]:
    while path := posixpath.dirname(path):
        yield path


def _config(url: str) -> bytes:
    quoted = url.replace("\\", "\\\\").replace('"', '\\"')
    return (
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
        f'[remote "origin"]\n\turl = "{quoted}"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'
    ).encode("utf-8", "surrogateescape")


def _index(checkout: Checkout, sizes: dict[bytes, int]) -> bytes:
    """gitformat-index(5), version 2, without anything of a disk: git looks at each file once and writes it anew."""
    from dulwich.index import SerializedIndexEntry, write_index

    entries = [
        SerializedIndexEntry(
            name=path, ctime=0, mtime=0, dev=0, ino=0, mode=mode, uid=0, gid=0,
            size=sizes.get(path, 0), sha=sha, flags=0, extended_flags=0,  # type: ignore[arg-type]
        )
        for path, mode, sha in sorted(checkout.entries())
    ]  # fmt: skip
    file = io.BytesIO()
    write_index(file, entries, version=2)
    body = file.getvalue()
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def _packed(objects: Sequence[tuple[int, str, bytes]]) -> tuple[bytes, bytes]:
    """A pack (gitformat-pack(5), version 2) and its index."""
    from dulwich.pack import write_pack_index_v2

    parts = [struct.pack(">4sII", b"PACK", 2, len(objects))]
    offset = len(parts[0])
    places = []
    for kind, name, content in objects:
        part = _object_header(kind, len(content)) + _stored(content)
        places.append((bytes.fromhex(name), offset, zlib.crc32(part)))
        parts.append(part)
        offset += len(part)
    body = b"".join(parts)
    checksum = hashlib.sha1(body, usedforsecurity=False).digest()
    index = io.BytesIO()
    write_pack_index_v2(index, sorted(places), checksum)
    return body + checksum, index.getvalue()


def _object_header(kind: int, size: int) -> bytes:
    header = bytearray()
    byte, size = (kind << 4) | (size & 15), size >> 4
    while size:
        header.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    header.append(byte)
    return bytes(header)


def _stored(content: bytes) -> bytes:
    """A zlib stream (RFC 1950) of stored blocks (RFC 1951, 3.2.4)."""
    blocks = [content[at : at + _STORED] for at in range(0, len(content), _STORED)] or [b""]
    parts = [b"\x78\x01"]
    for number, block in enumerate(blocks):
        parts.append(struct.pack("<BHH", number == len(blocks) - 1, len(block), len(block) ^ _STORED) + block)
    return b"".join([*parts, struct.pack(">I", zlib.adler32(content))])
