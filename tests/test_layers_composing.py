"""Layers composed of manifests: union, order, clashes, what is removed, and the folders that come with them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klock.digests import digest_of_bytes
from klock.layers.composing import Clash, Part, compose
from klock.layers.manifest import Entry, Kind, Manifest
from klock.workshop.covering import cover_of
from tests.memory_workshop import file_entry


def part(name: str, **files: bytes) -> Part:
    return Part(name=name, manifest=Manifest(file_entry(path.replace("__", "/"), body) for path, body in files.items()))


def test_a_later_part_counts_and_is_told() -> None:
    first, last = (
        part("a", lib__x=b"1", lib__y=b"1", lib__same=b"s"),
        part("b", lib__x=b"2", lib__y=b"2", lib__same=b"s"),
    )
    manifest, clashes = compose([first, last])
    assert manifest["lib/x"].digest == digest_of_bytes(b"2")
    assert clashes == [Clash(first="a", last="b", path="lib/x", count=2)]
    assert str(clashes[0]) == "a and b both bring /lib/x and 1 more path, with different bytes"
    assert compose([last, first])[0]["lib/x"].digest == digest_of_bytes(b"1")


def test_a_file_and_a_folder_of_one_name() -> None:
    _, clashes = compose([part("a", lib__x=b"1"), part("b", lib__x__y=b"2")])
    assert clashes == [Clash(first="a", last="b", path="lib/x", is_folder=True)]


def test_what_is_removed() -> None:
    manifest, _ = compose([part("a", lib__x=b"1")], removed=["lib/x", "lib/old"])
    assert [(entry.path, entry.kind) for entry in manifest.values()] == [
        ("lib/old", Kind.WHITEOUT),
        ("lib/x", Kind.FILE),
    ]


def test_folders_that_are_not_there_come_with_the_files() -> None:
    base = Manifest([Entry(path="lib", kind=Kind.FOLDER, mode=0o2775, gid=50), file_entry("lib/old")])
    layer, _ = compose([part("a", lib__site__x=b"1")], removed=["lib/old"])
    seen = base.apply(layer)
    assert {path: (entry.kind, entry.mode) for path, entry in seen.items()} == {
        "lib": (Kind.FOLDER, 0o2775),
        "lib/site": (Kind.FOLDER, 0o755),
        "lib/site/x": (Kind.FILE, 0o644),
    }


def test_the_cover_has_the_folders_of_what_is_below_it() -> None:
    base = Manifest([Entry(path="lib", kind=Kind.FOLDER, mode=0o2775, gid=50), file_entry("lib/old")])
    between = Manifest([Entry(path="lib/site", kind=Kind.FOLDER, mode=0o700)])
    layer, _ = compose([part("a", lib__site__new__x=b"1")], removed=["lib/old"])
    cover = cover_of(layer, [base, between])
    assert list(cover.values()) == [
        Entry(path="lib", kind=Kind.FOLDER, mode=0o2775, gid=50),
        Entry(path="lib/old", kind=Kind.WHITEOUT),
        Entry(path="lib/site", kind=Kind.FOLDER, mode=0o700),
    ]


PATHS = st.sampled_from(["a", "b/c", "b/d", "e\x00", "é", "f g", "b c/d", "b.c"])


@given(parts=st.lists(st.dictionaries(PATHS, st.binary(max_size=2), max_size=4), max_size=4))
def test_composing_is_what_applying_one_after_the_other_gives(parts: list[dict[str, bytes]]) -> None:
    manifests = [Manifest(file_entry(path, body) for path, body in files.items()) for files in parts]
    composed, _ = compose([Part(name=str(n), manifest=manifest) for n, manifest in enumerate(manifests)])
    applied = Manifest()
    for manifest in manifests:
        applied = applied.apply(manifest)
    assert Manifest().apply(composed) == applied
    assert composed.digest == Manifest(composed.values()).digest == digest_of_bytes(composed.to_bytes())
    assert (len(composed), composed.size) == (len(dict(composed)), sum(e.size for e in composed.values()))


def test_no_parts() -> None:
    assert compose([])[0] == Manifest()
