"""Placing files: the same rules in a real tree and in one that is known by its manifest alone."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes
from klock.errors import HashMismatch, ImageError
from klock.files.placed import PlacedFile
from klock.layers.manifest import Entry, Kind, Manifest
from klock.workshop import placing
from klock.workshop.still_tree import StillTree

Tree = Mapping[str, str]
Place = Callable[[Tree, list[PlacedFile], str], Tree]

THERE: Tree = {"d": "/", "d/up": "->../f", "f": "old", "l": "->d", "lf": "->f", "ln": "->new/er"}
"""What is there: folders, files with their contents, and symlinks."""


def _in_a_real_tree(there: Tree, files: list[PlacedFile], destination: str) -> Tree:
    """Below a folder that symlinks lead out of in the same way, as none is absolute."""
    root = files[0].source.parent / "root" if files[0].source else Path()
    for path, what in there.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if what == "/":
            place.mkdir()
        elif what.startswith("->"):
            place.symlink_to(what[2:])
        else:
            place.write_text(what)
    placing.place("/", files, f"{root}{destination}", keep=True)
    found = {}
    for place in sorted(root.rglob("*")):
        is_link, is_folder = place.is_symlink(), place.is_dir()
        what = f"->{os.readlink(place)}" if is_link else "/" if is_folder else place.read_text()  # noqa: PTH115
        found[str(place.relative_to(root))] = what
    return found


def _in_a_still_tree(there: Tree, files: list[PlacedFile], destination: str) -> Tree:
    contents = {digest_of_bytes(text.encode()): text for text in (*there.values(), "a", "b")}

    def entry(path: str, what: str) -> Entry:
        if what == "/":
            return Entry(path=path, kind=Kind.FOLDER, mode=0o755)
        if what.startswith("->"):
            return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=what[2:])
        return Entry(path=path, kind=Kind.FILE, mode=0o644, size=len(what), digest=digest_of_bytes(what.encode()))

    tree = StillTree(Manifest(entry(path, what) for path, what in there.items()))
    tree.place(files, destination)
    found = {}
    for path in sorted(tree.paths()):
        here = tree.find_itself(path)
        assert here is not None
        found[path] = (
            "/" if here.kind is Kind.FOLDER else f"->{here.target}" if here.target else contents[here.digest or ""]
        )
    return found


@pytest.fixture(params=[_in_a_real_tree, _in_a_still_tree])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    # Who runs the tests need not be root.
    for name in ("chown", "fchown"):
        monkeypatch.setattr(os, name, lambda *arguments, **options: None)
    monkeypatch.setattr(placing, "is_left_out", lambda path: False)
    place: Place = request.param
    return place


def _files(folder: Path, *names: str) -> list[PlacedFile]:
    """Files that go to the destination, or by their names into a folder that is there."""
    found = []
    for name in names:
        source = folder / name
        source.write_text(name)
        digest = digest_of_bytes(name.encode())
        several = len(names) > 1
        found.append(
            PlacedFile(path="", mode=0o644, source=source, digest=digest, name=name, is_one_of_several=several)
        )
    return found


PLACED: dict[str, tuple[tuple[str, ...], str, Tree]] = {
    "a new name": (("a",), "/x/y", {"x": "/", "x/y": "a"}),
    "over a file": (("a",), "/f", {"f": "a"}),
    "into a folder": (("a",), "/d", {"d/a": "a"}),
    "into a folder by a link": (("a",), "/l", {"d/a": "a"}),
    "over what a link leads to": (("a",), "/lf", {"f": "a"}),
    "to what a link will lead to": (("a",), "/ln", {"new": "/", "new/er": "a"}),
    "several into a folder": (("a", "b"), "/d", {"d/a": "a", "d/b": "b"}),
    "several into a folder by a link": (("b", "a"), "/l", {"d/a": "a", "d/b": "b"}),
}


@pytest.mark.parametrize("case", PLACED)
def test_where_single_files_go(case: str, place: Place, tmp_path: Path) -> None:
    names, destination, expected = PLACED[case]
    assert place(THERE, _files(tmp_path, *names), destination) == {**THERE, **expected}


@pytest.mark.parametrize("destination", ["/x", "/f", "/ln"])
def test_several_files_need_a_folder(destination: str, place: Place, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^several files go to .*, where the environment has no folder$"):
        place(THERE, _files(tmp_path, "a", "b"), destination)


def test_a_file_of_a_folder_takes_the_place_of_a_link(place: Place, tmp_path: Path) -> None:
    (file,) = _files(tmp_path, "a")
    inside = PlacedFile(path="up", mode=0o644, source=file.source, digest=file.digest)
    assert place(THERE, [inside], "/l") == {**THERE, "d/up": "a"}


@pytest.mark.parametrize(
    ("path", "made"), [("x", {"new/er/x": "a"}), ("x/y", {"new/er/x": "/", "new/er/x/y": "a"})], ids=["it", "below it"]
)
def test_a_folder_is_made_where_a_link_will_lead(path: str, made: Tree, place: Place, tmp_path: Path) -> None:
    (file,) = _files(tmp_path, "a")
    below = PlacedFile(path=path, mode=0o644, source=file.source, digest=file.digest)
    assert place(THERE, [below], "/ln") == {**THERE, "new": "/", "new/er": "/", **made}


@pytest.mark.parametrize("destination", ["/lf", "/loop"])
def test_no_folder_is_made_of_a_link_to_a_file_or_to_itself(destination: str, place: Place, tmp_path: Path) -> None:
    (file,) = _files(tmp_path, "a")
    below = PlacedFile(path="x", mode=0o644, source=file.source, digest=file.digest)
    with pytest.raises(ImageError, match="cannot make the folder"):
        place({**THERE, "loop": "->loop"}, [below], destination)


@pytest.mark.parametrize(("owner", "expected"), [("", (7, 8)), ("5:6", (5, 6))])
def test_whose_an_archives_files_are(
    owner: str, expected: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("t/f")
        member.uid, member.gid, member.size = 7, 8, 1
        archive.addfile(member, io.BytesIO(b"a"))
    owners = {}
    monkeypatch.setattr(os, "chown", lambda path, *ids, **options: owners.update({str(path): ids}))
    monkeypatch.setattr(
        tarfile.TarFile, "chown", lambda self, member, path, _: owners.update({path: (member.uid, member.gid)})
    )
    monkeypatch.setattr(placing, "is_left_out", lambda path: False)
    digest = digest_of_bytes((tmp_path / "x.tar").read_bytes())
    file = PlacedFile(path="", mode=0o644, source=tmp_path / "x.tar", digest=digest, archive=True)
    placing.place("/", [file], str(tmp_path / "made"), owner=owner)
    assert owners[f"{tmp_path}/made"] == (expected if owner else (0, 0))
    assert owners[f"{tmp_path}/made/t/f"] == expected


def placed_in(folder: Path, **what: object) -> None:
    file = PlacedFile(path="f", mode=0o640, **what)  # type: ignore[arg-type]
    placing.place("/", [file], str(folder), owner=f"{os.getuid()}:{os.getgid()}", keep=True)


def test_who_uses_what_is_replaced_sees_it_whole(tmp_path: Path) -> None:
    """A program of a running container, that has the old file open or mapped."""
    (tmp_path / "to").mkdir()
    (tmp_path / "new").write_text("new")
    (tmp_path / "to/f").write_text("old")
    with open(tmp_path / "to/f") as used:
        placed_in(tmp_path / "to", source=tmp_path / "new")
        assert used.read() == "old"
    assert (tmp_path / "to/f").read_text() == "new" and (tmp_path / "to/f").stat().st_mode & 0o7777 == 0o640
    placed_in(tmp_path / "to", target="elsewhere")
    assert (tmp_path / "to/f").readlink() == Path("elsewhere")
    placed_in(tmp_path / "to", source=tmp_path / "new")
    assert not (tmp_path / "to/f").is_symlink()
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["f"]


def test_a_source_that_changed_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "new").write_text("changed since it was locked")
    (tmp_path / "to/f").write_text("old")
    with pytest.raises(HashMismatch):
        placed_in(tmp_path / "to", source=tmp_path / "new", digest=digest_of_bytes(b"locked"))
    assert {path.name: path.read_text() for path in (tmp_path / "to").iterdir()} == {"f": "old"}


def test_an_archive_says_nothing_of_the_folder_that_it_is_unpacked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chown", "fchown"):
        monkeypatch.setattr(os, name, lambda *arguments, **options: None)
    monkeypatch.setattr(tarfile.TarFile, "chown", lambda *arguments: None)
    monkeypatch.setattr(placing, "is_left_out", lambda path: False)
    archives = []
    for number in (2, 1):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for name, kind, mode in (
                ("./", tarfile.DIRTYPE, 0o700),
                ("", tarfile.REGTYPE, 0),
                ("f", tarfile.REGTYPE, 0o600),
            ):
                member = tarfile.TarInfo(name)
                member.type, member.mode, member.size = kind, mode, 1 if name == "f" else 0
                archive.addfile(member, io.BytesIO(str(number).encode()))
        digest = digest_of_bytes((tmp_path / f"{number}.tar").read_bytes())
        archives.append(PlacedFile(path="", mode=0o644, source=tmp_path / f"{number}.tar", digest=digest, archive=True))
    made = tmp_path / "made"
    placing.place("/", archives, str(made))
    assert oct(made.stat().st_mode & 0o7777) == "0o755"
    assert (made / "f").read_text() == "1", "of two archives the later one wins"
