"""Manifests: one spelling for one tree, and what a layer makes of the tree below it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.digests import digest_of_bytes
from klock.errors import StoreError
from klock.layers.manifest import Entry, Kind, Manifest

CONTENT = digest_of_bytes(b"content")


def file(path: str, content: bytes = b"content", mode: int = 0o644) -> Entry:
    return Entry(path=path, kind=Kind.FILE, mode=mode, size=len(content), digest=digest_of_bytes(content))


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path=path, kind=Kind.FOLDER, mode=mode)


def symlink(path: str, target: str) -> Entry:
    return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=target)


def link(path: str, target: str) -> Entry:
    return Entry(path=path, kind=Kind.HARDLINK, target=target)


def whiteout(path: str) -> Entry:
    return Entry(path=path, kind=Kind.WHITEOUT)


def test_the_text_of_a_manifest() -> None:
    manifest = Manifest(
        [
            folder("opt"),
            file("opt/tool", mode=0o4755),
            Entry(path="opt/ping", kind=Kind.FILE, mode=0o755, digest=CONTENT, xattrs=(("security.capability", "01"),)),
            symlink("opt/a b", "x\ny"),
            link("opt/zool", "opt/tool"),
            whiteout("gone"),
        ]
    )
    assert manifest.to_bytes().decode() == (
        "klock-manifest 1\n"
        "gone whiteout 0000 0:0 0 - -\n"
        "opt dir 0755 0:0 0 - -\n"
        "opt/a\\x20b symlink 0777 0:0 0 x\\x0ay -\n"
        f"opt/ping file 0755 0:0 0 {CONTENT} security.capability=01\n"
        f"opt/tool file 4755 0:0 7 {CONTENT} -\n"
        "opt/zool link 0000 0:0 0 opt/tool -\n"
    )
    assert manifest.size == 7


raw_paths = st.binary(min_size=1, max_size=20).filter(lambda raw: b"\0" not in raw)
paths = raw_paths.map(lambda raw: raw.decode("utf-8", "surrogateescape"))
owners = st.integers(0, 2**32 - 2)
modes = st.integers(0, 0o7777)
xattrs = st.dictionaries(paths, st.binary(min_size=1, max_size=4).map(bytes.hex), max_size=2).map(
    lambda found: tuple(sorted(found.items()))
)
entries = st.one_of(
    st.builds(
        Entry,
        path=paths,
        kind=st.just(Kind.FILE),
        mode=modes,
        uid=owners,
        gid=owners,
        size=st.integers(0),
        digest=st.binary().map(digest_of_bytes),
        xattrs=xattrs,
    ),
    st.builds(Entry, path=paths, kind=st.sampled_from([Kind.FOLDER, Kind.FIFO]), mode=modes, uid=owners, xattrs=xattrs),
    st.builds(Entry, path=paths, kind=st.just(Kind.SYMLINK), mode=st.just(0o777), target=paths),
    st.builds(Entry, path=paths, kind=st.just(Kind.HARDLINK), target=paths),
    st.builds(Entry, path=paths, kind=st.just(Kind.WHITEOUT)),
)


@given(st.lists(entries, max_size=8))
def test_what_is_written_is_read_back_whatever_the_bytes_of_the_paths(found: list[Entry]) -> None:
    manifest = Manifest(found)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert Manifest.from_bytes(manifest.to_bytes()).to_bytes() == manifest.to_bytes()


@given(st.lists(entries, max_size=8, unique_by=lambda entry: entry.path), st.randoms())
def test_the_order_in_which_entries_were_found_does_not_matter(found: list[Entry], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Manifest(shuffled).digest == Manifest(found).digest


trees = st.lists(entries, max_size=8, unique_by=lambda entry: entry.path)


def as_text(manifest: Manifest) -> Manifest:
    """The same, of which no line was parsed."""
    return Manifest.of_own(manifest.to_bytes())


@given(trees, trees)
def test_what_differs_is_the_same_whether_lines_were_parsed_or_not(one: list[Entry], other: list[Entry]) -> None:
    mine, others = Manifest([*one, *other[::2]]), Manifest([*other, *one[::2]])
    expected = sorted(path for path in {*mine, *others} if mine.get(path) != others.get(path))
    for left in (mine, as_text(mine)):
        for right in (others, as_text(others)):
            assert left.differing(right) == expected


@given(trees, trees)
def test_a_layer_makes_the_same_tree_whether_lines_were_parsed_or_not(below: list[Entry], above: list[Entry]) -> None:
    tree, layer = Manifest(below), Manifest([*above, *below[::3]])
    expected = tree.apply(layer)
    found = as_text(tree).apply(as_text(layer))
    assert found == expected
    assert found.to_bytes() == expected.to_bytes() == Manifest(expected.values()).to_bytes()


def test_a_line_that_is_damaged_is_told_when_it_is_asked_for() -> None:
    manifest = Manifest.of_own(b"klock-manifest 1\na file 0644 0:0 x - -\n")
    assert list(manifest) == ["a"]
    with pytest.raises(StoreError, match=r"^a damaged manifest in the store: "):
        manifest["a"]
    with pytest.raises(StoreError, match=r"^a damaged manifest in the store: "):
        list(Manifest.of_own(b"klock-manifest 1\na file\n"))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"klock-manifest 2\n",
        b"klock-manifest 1\nx\n",
        b"klock-manifest 1\n\xff\n",
        b"klock-manifest 1\na b c d e f g\n",
    ],
)
def test_a_damaged_manifest_is_refused(damaged: bytes) -> None:
    with pytest.raises(StoreError, match=r"^a damaged manifest in the store: "):
        Manifest.from_bytes(damaged)


TREE = Manifest([folder("d"), file("d/a"), folder("d/sub"), file("d/sub/b"), file("da"), symlink("s", "d")])


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        pytest.param([], ["d", "d/a", "d/sub", "d/sub/b", "da", "s"], id="an empty layer changes nothing"),
        pytest.param([whiteout("d/a")], ["d", "d/sub", "d/sub/b", "da", "s"], id="a whiteout removes a file"),
        pytest.param([whiteout("d")], ["da", "s"], id="a whiteout removes a folder with all below, and no namesake"),
        pytest.param([whiteout("no")], ["d", "d/a", "d/sub", "d/sub/b", "da", "s"], id="a whiteout may hide nothing"),
        pytest.param([file("d")], ["d", "da", "s"], id="a file replaces a folder with all below"),
        pytest.param([symlink("d/sub", "x")], ["d", "d/a", "d/sub", "da", "s"], id="a symlink replaces a folder"),
        pytest.param(
            [folder("d", 0o700)], ["d", "d/a", "d/sub", "d/sub/b", "da", "s"], id="a folder keeps what it holds"
        ),
        pytest.param(
            [folder("s"), file("s/x")],
            ["d", "d/a", "d/sub", "d/sub/b", "da", "s", "s/x"],
            id="a folder replaces a symlink",
        ),
    ],
)
def test_a_layer_over_a_tree(layer: list[Entry], expected: list[str]) -> None:
    seen = TREE.apply(Manifest(layer))
    assert list(seen) == expected
    for entry in layer:
        assert seen.get(entry.path) == (None if entry.kind is Kind.WHITEOUT else entry)


def test_links_are_cut_so_that_a_layer_changes_one_name_only() -> None:
    below = Manifest([file("a", b"old"), link("b", "a")])
    seen = below.apply(Manifest([file("a", b"new")]))
    assert seen == Manifest([file("a", b"new"), file("b", b"old")])


def test_a_manifest_without_links_says_of_every_name_what_file_it_is() -> None:
    assert Manifest([file("a"), link("b", "a")]).without_links() == Manifest([file("a"), file("b")])
    assert TREE.without_links() is TREE
