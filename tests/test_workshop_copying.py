"""COPY --from between two trees: hard links, and what is said of paths that are not there or in the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from klock.errors import ImageError
from klock.workshop.copying import copy_between
from klock.workshop.protocol import TreeCopy

LEFT_OUT = "layers leave {} out, as docs/layers.md says: have the stage write it to another folder"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/srv/x", "check the path, and the stage before it"),
        ("/run/x", LEFT_OUT.format("/run/x")),
        ("/root/.cache/pip", LEFT_OUT.format("/root/.cache/pip")),
    ],
)
def test_a_path_that_is_not_there(path: str, hint: str, tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    wanted = TreeCopy(name="build", base="", layers=[], sources=[path], destination="/x")
    with pytest.raises(ImageError, match=f"^build has no {path}$") as caught:
        copy_between(str(tmp_path / "from"), str(tmp_path / "to"), wanted, None)
    assert caught.value.hint == hint


def copied(folder: Path, destination: str, *sources: str, **options: Any) -> Path:
    wanted = TreeCopy(name="build", base="", layers=[], sources=sources, destination=destination, **options)
    copy_between(str(folder / "from"), str(folder / "to"), wanted, (os.getuid(), os.getgid()))
    return folder / "to" / destination.strip("/")


def test_hard_links_stay_among_what_is_copied(tmp_path: Path) -> None:
    for name in ("from/d", "to"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "from/d/a").write_text("one")
    (tmp_path / "from/d/b").hardlink_to(tmp_path / "from/d/a")
    (tmp_path / "from/d/c").write_text("one")
    found = copied(tmp_path, "/x", "/d")
    assert (found / "a").samefile(found / "b") and not (found / "a").samefile(found / "c")


def test_a_name_of_a_file_that_was_replaced_has_its_own_bytes(tmp_path: Path) -> None:
    """What /d1/f is linked to comes later, when /d2/f is where its copy was."""
    for name in ("from/d1", "from/d2", "to"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "from/d1/f").write_text("one")
    (tmp_path / "from/d2/f").write_text("two")
    (tmp_path / "from/d2/g").hardlink_to(tmp_path / "from/d1/f")
    found = copied(tmp_path, "/x", "/d1", "/d2")
    assert {path.name: path.read_text() for path in found.iterdir()} == {"f": "two", "g": "one"}


@pytest.mark.parametrize(("destination", "there"), [("/x", "/x"), ("/x/y", "/x"), ("/", "/d")])
def test_a_file_in_the_way_of_a_folder(destination: str, there: str, tmp_path: Path) -> None:
    (tmp_path / "from/all/d").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    for name in "xd":
        (tmp_path / "to" / name).touch()
    with pytest.raises(ImageError, match=f"^there is a file at {there}$"):
        copied(tmp_path, destination, "/all")


@pytest.mark.parametrize("text", ["/of/the/tree", "of/the/tree", "../../of/the/tree"])
def test_a_folder_goes_into_what_a_symlink_of_the_tree_leads_to(text: str, tmp_path: Path) -> None:
    (tmp_path / "from/all/app").mkdir(parents=True)
    (tmp_path / "from/all/app/f").write_text("x")
    (tmp_path / "to/of/the/tree").mkdir(parents=True)
    (tmp_path / "to/app").symlink_to(text)
    copied(tmp_path, "/", "/all")
    assert (tmp_path / "to/app").is_symlink() and (tmp_path / "to/of/the/tree/f").read_text() == "x"


def test_a_folder_of_this_machine_is_none_of_the_trees(tmp_path: Path) -> None:
    """A symlink that leads to one is dangling in the tree."""
    machine = tmp_path / "machine"
    machine.mkdir()
    (tmp_path / "from/all/app").mkdir(parents=True)
    (tmp_path / "from/all/app/f").write_text("x")
    (tmp_path / "to").mkdir()
    (tmp_path / "to/app").symlink_to(machine)
    with pytest.raises(ImageError, match=r"^there is a file at /app$"):
        copied(tmp_path, "/", "/all")
    assert not list(machine.iterdir())


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two trees, `from` and `to`, whoever runs the tests."""
    monkeypatch.setattr(os, "chown", lambda *arguments, **options: None)
    for name, mode in (("from/o/sub", 0o711), ("to/d", 0o755)):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name).chmod(mode)
    (tmp_path / "from/o").chmod(0o701)
    for name in ("from/o/a", "from/o/b", "to/f"):
        (tmp_path / name).write_text(name[-1])
    (tmp_path / "from/o/nowhere").symlink_to("/none")
    (tmp_path / "from/here").symlink_to("o")
    (tmp_path / "to/l").symlink_to("f")
    return tmp_path


def tree_after(trees: Path, *sources: str, to: str, **options: Any) -> dict[str, str]:
    wanted = TreeCopy(name="build", base="", layers=[], sources=list(sources), destination=to, **options)
    copy_between(str(trees / "from"), str(trees / "to"), wanted, None)
    return {
        str(path.relative_to(trees / "to")): oct(path.stat().st_mode & 0o7777) if path.is_dir() else path.read_text()
        for path in sorted((trees / "to").rglob("*"))
        if path.exists()
    }


def test_a_folder_that_is_made_for_what_is_in_another(trees: Path) -> None:
    assert tree_after(trees, "/o", to="/x/y")["x/y"] == "0o755", "it has nothing of the other one"
    assert tree_after(trees, "/o", to="/z", chmod="750")["z"] == "0o750"
    found = tree_after(trees, "/o", to="/w", chmod="go-rwx")
    assert (found["w"], found["w/sub"]) == ("0o755", "0o700")


def test_single_files_of_a_stage(trees: Path) -> None:
    found = tree_after(trees, "/o/a", "/o/b", to="/d")
    assert (found["d/a"], found["d/b"]) == ("a", "b")
    found = tree_after(trees, "/o/a", to="/l")
    assert (found["f"], (trees / "to/l").is_symlink()) == ("a", True), "to what a link leads to"
    with pytest.raises(ImageError, match=r"^several files go to /x, where the environment has no folder$"):
        tree_after(trees, "/o/a", "/o/b", to="/x")


def test_wildcards_and_symlinks_of_a_stage(trees: Path) -> None:
    with pytest.raises(ImageError, match=r"^build has no /o/nowhere$"):
        tree_after(trees, "/o/n*", to="/x/")
    assert "x" not in tree_after(trees, "/h*/a", to="/x"), "a wildcard goes into no symlink"
    assert tree_after(trees, "/here/[a]", to="/x")["x"] == "a"


def with_parents(folder: Path, *sources: str, **options: Any) -> dict[str, int]:
    """The modes of what is copied to /x, by path."""
    found = copied(folder, "/x", *sources, parents=True, into=True, **options)
    return {str(path.relative_to(found)): path.lstat().st_mode & 0o777 for path in found.rglob("*")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("from/o/a/b/c", "from/o/a/b2/c", "to"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("b/f", "b/c/f", "b2/c/f", "b/c/g"):
        (tmp_path / "from/o/a" / name).write_text(name)
        (tmp_path / "from/o/a" / name).chmod(0o640)
    (tmp_path / "from/o/a").chmod(0o711)
    (tmp_path / "from/o/a/b").chmod(0o750)
    (tmp_path / "from/o/a/l").symlink_to("b")
    return tmp_path


PARENTS: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "folders have their own modes": (
        ("/o/a/b/f", "o/a/b2"),
        {"o": 0o755, "o/a": 0o711, "o/a/b": 0o750, "o/a/b/f": 0o640, "o/a/b2": 0o755, "o/a/b2/c": 0o755}
        | {"o/a/b2/c/f": 0o640},
    ),
    "behind a pivot": (("/o/a/./b/f",), {"b": 0o750, "b/f": 0o640}),
    "behind a pivot with a wildcard": (("/o/a/b*/./c/f",), {"c": 0o755, "c/f": 0o640}),
    "two stars": (("/o/a/b/./**/f",), {"f": 0o640, "c": 0o755, "c/f": 0o640}),
    "two stars within a name": (("/o/./a/b2**f",), {"a": 0o711, "a/b2": 0o755, "a/b2/c": 0o755, "a/b2/c/f": 0o640}),
    "a link stays one": (("/o/a/./l",), {"l": 0o777}),
    "a pivot that is a link": (("/o/a/l/./c/g",), {"c": 0o755, "c/g": 0o640}),
    "what nothing matches": (("/o/*.lock",), {}),
}


@pytest.mark.parametrize("case", PARENTS)
def test_parents(case: str, tree: Path) -> None:
    sources, modes = PARENTS[case]
    assert with_parents(tree, *sources) == modes
    assert (tree / "to/x").stat().st_mode & 0o777 == 0o755


def test_parents_change_the_folders_that_are_there(tree: Path) -> None:
    (tree / "to/x/o/a").mkdir(parents=True)
    (tree / "to/x/o/a/mine").touch(mode=0o600)
    assert with_parents(tree, "/o/a/b/f")["o/a"] == 0o711
    assert with_parents(tree, "/o/a/b/f", chmod="u=rwX,go=")["o/a"] == 0o700


def test_what_is_excluded_is_named_from_the_pivot(tree: Path) -> None:
    assert set(with_parents(tree, "/o/a/./b", exclude=["b/c", "f"])) == {"b", "b/f"}
    assert set(with_parents(tree, "/o/a/b2", exclude=["o/a/b2/c/f"])) == {"b", "b/f", "o", "o/a", "o/a/b2", "o/a/b2/c"}


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("/o/nothing", "build has no /o/nothing"),
        ("/o/./nothing", "build has no /o/nothing"),
        ("/o/a/l/c", "o/a/l is a symlink, and --parents follows none"),
    ],
)
def test_parents_of_what_is_not_there(source: str, what: str, tree: Path) -> None:
    with pytest.raises(ImageError, match=f"^{what}$"):
        with_parents(tree, source)
